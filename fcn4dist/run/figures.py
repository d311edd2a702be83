"""The figures of an evaluation, read: evaluation.json, or a line of metrics/evaluations.jsonl.

`evaluate/document.py` writes them. This is their one reader: it needs no NumPy, and what is missing or damaged it leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcn4dist.errors import shorten_name
from fcn4dist.run.state import read_json, value_of

FEW_CLIPS = 20  # fewer make an AUC coarse: with 4 clips, 2 of them positive, it has five values
MOST_NAMES = 3  # of tags, in a line
MACRO_NAMES = {"roc_auc_macro": "ROC-AUC", "pr_auc_macro": "PR-AUC"}


def describe_caution(num_clips: float | None, num_tags: int, num_undefined: int, names: Sequence[str] = ()) -> str:
    """Say how little AUCs tell that were measured on few clips, or without tags whose clips are all of one kind."""
    parts = []
    if num_clips is not None and num_clips < FEW_CLIPS:
        parts.append(f"only {num_clips:.0f} clip{'s'[: num_clips != 1]}, so AUCs say little")
    if num_undefined:
        some = ", ".join(shorten_name(name, 30) for name in names[:MOST_NAMES]) + (
            ", …" if len(names) > MOST_NAMES else ""
        )
        listed = f" ({some})" if names else ""
        which = "no AUC for any tag" if num_undefined == num_tags else f"{num_undefined} of {num_tags} tags left out"
        parts.append(f"{which}{listed}: all clips have the tag, or none")
    return "; ".join(parts)


@dataclass(frozen=True)
class Figures:
    """The figures of one evaluation."""

    document: dict[str, Any] = field(default_factory=dict)  # as JSON says it; empty: there is none

    @classmethod
    def load(cls, file: Path) -> Figures:
        """Read evaluation.json; empty where it is missing, half-written or something else."""
        document = read_json(file)
        return cls(document if isinstance(document, dict) else {})

    def __bool__(self) -> bool:
        return bool(self.document)

    @property
    def macro(self) -> str:
        """The figures over all tags in words, as far as they are defined; empty where none is."""
        found = ((name, value_of(self.document, key)) for key, name in MACRO_NAMES.items())
        return ", ".join(f"{name} {value:.4f}" for name, value in found if value is not None)

    @property
    def caution(self) -> str:
        """What a reader must know beside the AUCs; empty where that is nothing."""
        undefined, tags = self.document.get("undefined_tags"), self.tag_names
        names = tuple(map(str, undefined)) if isinstance(undefined, list) else ()
        num_undefined = len(names) or int(value_of(self.document, "num_undefined_tags") or 0)
        num_tags = len(tags) or int(value_of(self.document, "num_tags") or 0)
        return describe_caution(value_of(self.document, "num_scored"), num_tags, num_undefined, names)

    @property
    def checkpoint(self) -> str | None:
        """The name of the folder whose network was scored; none where it is not said."""
        named = self.document.get("checkpoint")
        return Path(named).name if isinstance(named, str) else None

    @property
    def tag_entries(self) -> list[dict[str, Any]]:
        """What is said of each tag, in the order of the scores."""
        entries = self.document.get("tags")
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    @property
    def tag_names(self) -> tuple[str, ...]:
        """The tags in the order of the scores."""
        return tuple(str(entry.get("tag")) for entry in self.tag_entries)

    @property
    def thresholds(self) -> tuple[float | None, ...]:
        """The threshold of each tag; none for a tag, or all of them, where none was chosen."""
        return tuple(value_of(entry, "threshold") for entry in self.tag_entries)
