"""MTG-Jamendo: `data/autotagging*.tsv` of github.com/MTG/mtg-jamendo-dataset; column 6 and all after it are tags.

The set's own splits stand beside the table, in `splits/split-{0..4}/TABLE-{train,validation,test}.tsv`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations.assemble import build_annotations, mark_tags, official_choice
from fcn4dist.data.annotations.rows import check_strangers, iter_rows
from fcn4dist.data.annotations.tagged_clips import Annotations, Part
from fcn4dist.errors import DataError, quoted

COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
ALIASES = {"raw_30s_cleantags_50artists": "autotagging"}  # what the link autotagging.tsv names
PARTS: dict[str, Part] = {"train": "train", "validation": "val", "test": "test"}
NUM_SPLITS = 5


def load(file: Path, data: DataConfig) -> Annotations:
    """Read a table, and its split where data.split is official (split 0) or official:K. Raises DataError."""
    lines, ids, tag_lists = [], [], []
    columns: list[list[str]] = [[] for _ in range(4)]
    for line, row in _iter_clips(file):
        lines.append(line)
        ids.append(row[0].strip())
        for column, field in zip(columns, row[1:5], strict=True):
            column.append(field.strip())
        tag_lists.append([tag for field in row[5:] if (tag := field.strip())])
    artists, albums, paths, durations = columns
    tags, labels = mark_tags(tag_lists)
    choice = official_choice(data)
    return build_annotations(
        file,
        "mtg-jamendo",
        data,
        ids,
        paths,
        tags,
        labels,
        lines,
        groups={"track": ids, "album": albums, "artist": artists},
        parts=None if choice is None else _load_split(file, choice or "0", ids),
        durations_s=np.array([_parse_seconds(file, *pair) for pair in zip(lines, durations, strict=True)], np.float32),
    )


def _iter_clips(file: Path) -> list[tuple[int, list[str]]]:
    rows = list(iter_rows(file, "\t"))
    if not rows or [name.strip() for name in rows[0][1]] != COLUMNS:
        raise DataError(f"{file}:1: not MTG-Jamendo's header; expected, with tabs: {' '.join(COLUMNS)}")
    for line, row in rows[1:]:
        if len(row) < len(COLUMNS):
            raise DataError(f"{file}:{line}: {len(row)} fields; expected 6 or more, the sixth and all after it tags")
    return rows[1:]


def _load_split(file: Path, choice: str, ids: list[str]) -> list[Part | None]:
    if choice not in map(str, range(NUM_SPLITS)):
        raise DataError(f"data.split: official:{choice}; MTG-Jamendo has official:0 to official:{NUM_SPLITS - 1}")
    stem = file.resolve().stem
    folder = file.parent / "splits" / f"split-{choice}"
    part_of: dict[str, Part] = {}
    for name, part in PARTS.items():
        listed = folder / f"{ALIASES.get(stem, stem)}-{name}.tsv"
        if not listed.is_file():
            raise DataError(
                f"{listed}: missing; data.split official takes MTG-Jamendo's own split from there, as in its repository"
            )
        for line, row in _iter_clips(listed):
            if part_of.setdefault(row[0].strip(), part) != part:
                raise DataError(f"{listed}:{line}: {row[0]} is also in {part_of[row[0].strip()]}")
    known = set(ids)
    check_strangers(folder, [clip for clip in part_of if clip not in known], len(part_of), file)
    return [part_of.get(clip) for clip in ids]


def _parse_seconds(file: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"{file}:{line}: DURATION {quoted(text)}; expected seconds")
    return value
