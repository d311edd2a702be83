"""The files beside the shards of a prepared data set: manifest.json, what it holds, and clips.tsv, its clips one by one."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from fcn4dist.config import MelConfig
from fcn4dist.data.leaks import LeakReport
from fcn4dist.data.parts import LEVELS, SPLITS, Level, SplitPart, SplitRule
from fcn4dist.errors import DataError

FORMAT_VERSION = 2
READ_VERSIONS = (
    1,
    2,
)  # 1: clips.tsv is not in the order of the shards' rows, and knows neither groups nor unknown labels
MANIFEST, CLIPS = "manifest.json", "clips.tsv"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class SplitCounts(_Record):
    """One part of the split."""

    num_clips: int
    clip_list_sha256: str  # of the clip ids in ascending order, a decimal number and a newline each
    labels_sha256: str | None = None  # of the labels as int8, in the order of rows; none: an older fcn4dist wrote them
    features_sha256: str | None = None  # of a line "clip_id checksum" a row, in the order of rows
    positives: list[int]  # clips a tag, in the order of the tags


class Shard(_Record):
    """One MindRecord file; its `.db` index stands beside it."""

    file: str
    split: SplitPart
    num_rows: int
    num_bytes: int
    sha256: str
    index_sha256: str  # of the .db file


class LedgerClip(_Record):
    """A clip that the ledger speaks of: it was left out, or used although something is odd about it."""

    clip_id: int
    mp3_path: str
    reason: str


class Manifest(_Record):
    """A prepared data set."""

    format_version: int
    mel: MelConfig
    feature_dtype: Literal["float32", "float16"]
    feature_shape: tuple[int, int, int]  # (1, mel bands, stored frames)
    tags: list[str]  # in the order of the labels
    split: SplitRule
    splits: dict[SplitPart, SplitCounts]
    shards: list[Shard]  # by part, in the order of their numbers
    num_listed: int
    num_written: int
    skipped: list[LedgerClip]  # listed, but not written
    noted: list[LedgerClip] = []  # written, but odd: shorter than listed, damaged at its end
    leaks: LeakReport | None = None  # none: written by an older fcn4dist
    synonyms: list[list[str]] | None = None  # groups of tags that were merged; the first name is kept

    @property
    def positives(self) -> list[int]:
        """Clips a tag over all parts, in the order of the tags."""
        return [sum(counts) for counts in zip(*(part.positives for part in self.splits.values()), strict=True)]


@dataclass(frozen=True)
class ClipTable:
    """Clips of one part or of all, a list or an array for each column; N clips."""

    clip_ids: NDArray[np.int32]  # (N,)
    source_ids: list[str]  # the source's own
    paths: list[str]
    labels: NDArray[np.int8]  # (N, num_tags): 1, 0, or -1 where it is not known
    durations_s: NDArray[np.float32]  # (N,), decoded; NaN where not known
    groups: dict[Level, list[str]] = field(default_factory=dict)

    def take(self, rows: NDArray[Any]) -> ClipTable:
        """Return the clips at `rows`, in that order."""
        return ClipTable(
            self.clip_ids[rows],
            [self.source_ids[row] for row in rows],
            [self.paths[row] for row in rows],
            self.labels[rows],
            self.durations_s[rows],
            {level: [names[row] for row in rows] for level, names in self.groups.items()},
        )


def load_manifest(data_dir: Path) -> Manifest:
    """Read `data_dir`/manifest.json.

    Raises DataError when it is missing, damaged or of a newer format.
    """
    file = data_dir / MANIFEST
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{data_dir}: no {MANIFEST} here; expected a folder that `fcn4dist prepare` wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    version = document.get("format_version") if isinstance(document, dict) else None
    if version not in READ_VERSIONS:
        raise DataError(
            f"{file}: format_version {version!r}; this fcn4dist reads {READ_VERSIONS[0]} to {FORMAT_VERSION}"
        )
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def digest_clip_list(clip_ids: Iterable[int]) -> str:
    """Return the checksum of a set of clips: SHA-256 of their ids in ascending order, a decimal number and a newline each."""
    return hashlib.sha256("".join(f"{clip_id}\n" for clip_id in sorted(clip_ids)).encode()).hexdigest()


def format_clip_tables(tables: Mapping[SplitPart, ClipTable]) -> str:
    """Return the text of clips.tsv: the parts one after the other, each in the order of its rows."""
    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    quoted = csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
    rows.writerow(["clip_id", "source_id", "split", "mp3_path", *LEVELS, "duration_s", "labels"])
    for part, table in tables.items():
        groups = [table.groups.get(level, [""] * len(table.paths)) for level in LEVELS]
        for row, names in enumerate(zip(table.source_ids, table.paths, *groups, strict=True)):
            source_id, *rest = names
            duration = f"{table.durations_s[row]:.3f}" if np.isfinite(table.durations_s[row]) else ""
            cells = [int(table.clip_ids[row]), source_id, part, *rest, duration, _format_labels(table.labels[row])]
            (quoted if any("\r" in name for name in names) else rows).writerow(cells)  # csv leaves a bare \r unquoted
    return text.getvalue()


def load_clip_tables(data_dir: Path, num_tags: int) -> dict[SplitPart, ClipTable]:
    """Read `data_dir`/clips.tsv, a table a part. Raises DataError naming the file and what is wrong with it."""
    file = data_dir / CLIPS
    try:
        with file.open(encoding="utf-8", newline="") as text:
            header, *lines = csv.reader(text, delimiter="\t")
        if any(len(line) != len(header) for line in lines):
            number, line = next((i, line) for i, line in enumerate(lines, 2) if len(line) != len(header))
            raise ValueError(f"row {number} has {len(line)} fields, the header {len(header)}")
        columns = dict(zip(header, zip(*lines, strict=True) if lines else [()] * len(header), strict=True))
        whole = _parse_columns(columns, num_tags)
        part_of = np.array(columns["split"])
        if unknown := sorted(set(columns["split"]) - set(SPLITS)):
            raise ValueError(f"split {unknown[0]!r}")
    except FileNotFoundError:
        raise DataError(f"{file}: missing; expected the list that `fcn4dist prepare` wrote") from None
    except KeyError as error:
        raise DataError(f"{file}:1: no column {error}; expected the list that `fcn4dist prepare` wrote") from None
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, IndexError, OverflowError) as error:
        raise DataError(f"{file}: not what `fcn4dist prepare` wrote: {error}") from None
    return {part: whole.take(np.flatnonzero(part_of == part)) for part in SPLITS}


def _parse_columns(columns: Mapping[str, Sequence[str]], num_tags: int) -> ClipTable:
    ids, durations = columns["clip_id"], columns.get("duration_s")
    durations_s = np.array([cell or "nan" for cell in durations] if durations else [np.nan] * len(ids), np.float32)
    if (durations_s < 0).any() or np.isinf(durations_s).any():
        raise ValueError("a duration_s that is no length")
    return ClipTable(
        clip_ids=np.array(ids, np.int32),
        source_ids=list(columns.get("source_id", ids)),
        paths=list(columns["mp3_path"]),
        labels=_parse_labels(columns.get("labels", [""] * len(ids)), num_tags),
        durations_s=durations_s,
        groups={level: list(columns[level]) for level in LEVELS if any(columns.get(level, ()))},
    )


def _format_labels(labels: NDArray[np.int8]) -> str:
    """Return the places of a clip's tags, "3 17 ?20": 3 and 17 are its tags, 20 is not known; "-" where there is none."""
    places = np.flatnonzero(labels).tolist()
    return " ".join(f"?{place}" if labels[place] < 0 else str(place) for place in places) or "-"


def _parse_labels(cells: Sequence[str], num_tags: int) -> NDArray[np.int8]:
    rows, places, values = [], [], []
    for row, cell in enumerate(cells):
        for token in cell.split():
            if token != "-":
                rows.append(row)
                places.append(int(token.removeprefix("?")))
                values.append(-1 if token[0] == "?" else 1)
    if places and not 0 <= min(places) <= max(places) < num_tags:
        raise ValueError(f"tag {max(places)}; the manifest has {num_tags}")
    labels = np.zeros((len(cells), num_tags), np.int8)
    labels[rows, places] = values
    return labels
