"""What a split would be, before any audio is touched: counts, checksums and leaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn4dist.config import AnnotationFormat, DataConfig
from fcn4dist.config.split_name import parse_split_name
from fcn4dist.data.annotations import Annotations, load_annotations, load_chosen_annotations
from fcn4dist.data.annotations.magnatagatune import explain_known_bad
from fcn4dist.data.leaks import LeakReport, find_leaks, format_leaks, warn_of_leaks
from fcn4dist.data.manifest import digest_clip_list
from fcn4dist.data.splits import Split, SplitPart, SplitRule, split_clips

SHORT = 12  # hex digits of a checksum in print


@dataclass(frozen=True)
class PartReport:
    """One part of a split."""

    num_clips: int
    num_known_bad: int  # of them, those that prepare leaves out
    clip_list_sha256: str  # of the others: the manifest's, if no more clips turn out unusable


@dataclass(frozen=True)
class SplitReport:
    """A split of an annotation table."""

    annotations: Path
    format: AnnotationFormat
    num_listed_tags: int  # that the annotations have, or data.tags chose for a clean split
    rule: SplitRule
    num_tags: int | None  # that a clean split went by; none: tags played no part
    num_left_out: int
    parts: dict[SplitPart, PartReport]
    leaks: LeakReport

    @property
    def warnings(self) -> list[str]:
        """What a reader of the figures must know."""
        empty = [part for part, found in self.parts.items() if not found.num_clips]
        told = [f"no clips for {' and '.join(empty)}"] if empty else []
        return told + warn_of_leaks(self.leaks)

    def to_json(self) -> dict[str, Any]:
        """Return the document of `fcn4dist data splits --json`."""
        return {
            "annotations": str(self.annotations),
            "format": self.format,
            "split": self.rule.model_dump(),
            "num_tags": self.num_tags,
            "num_left_out": self.num_left_out,
            "parts": {part: vars(found) for part, found in self.parts.items()},
            "leaks": self.leaks.model_dump(),
            "warnings": self.warnings,
        }


def report_split(data: DataConfig) -> SplitReport:
    """Divide the table data.annotations by data.split and report; only a clean split needs tags.

    Raises ConfigError for a missing table, DataError for one, or a split, that cannot be used.
    """
    is_clean = data.clean or parse_split_name(data.split)[1]
    table = load_chosen_annotations(data)[0] if is_clean else load_annotations(data)
    split = split_clips(table, data.split, data.seed, clean=data.clean, needs_train=False)
    return SplitReport(
        annotations=table.file,
        format=table.format,
        num_listed_tags=len(table.tags),
        rule=split.rule,
        num_tags=len(table.tags) if is_clean else None,
        num_left_out=table.num_clips - split.num_clips,
        parts={part: _report_part(table, split, part) for part in split.parts},
        leaks=find_leaks(split.parts, table.groups),
    )


def format_split_report(report: SplitReport) -> str:
    """Return the report for people."""
    num_clips = report.num_left_out + sum(found.num_clips for found in report.parts.values())
    lines = [
        f"{report.annotations}: format {report.format}, {num_clips} clips, {report.num_listed_tags} tags",
        f"split {report.rule.name}: {report.rule.rule}",
    ]
    for part, found in report.parts.items():
        bad = f", {found.num_known_bad} of them known bad and left out by prepare" if found.num_known_bad else ""
        checksum = f"  clip list {found.clip_list_sha256[:SHORT]}" if found.num_clips else ""
        lines.append(f"  {part:<5} {found.num_clips:>7}{checksum}{bad}")
    if report.num_left_out:
        lines.append(f"  in no part {report.num_left_out}")
    lines += format_leaks(report.leaks)
    return "\n".join([*lines, *(f"warning: {warning}" for warning in report.warnings)])


def _report_part(table: Annotations, split: Split, part: SplitPart) -> PartReport:
    clips = [(int(table.clip_ids[row]), table.paths[row]) for row in split.parts[part]]
    good = [clip_id for clip_id, path in clips if explain_known_bad(clip_id, path) is None]
    return PartReport(len(clips), len(clips) - len(good), digest_clip_list(good))
