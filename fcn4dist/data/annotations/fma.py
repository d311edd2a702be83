"""FMA: `fma_metadata/tracks.csv` (two header rows, then one with track_id alone) and `genres.csv`, which names the genres."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations.assemble import PART_NAMES, build_annotations, mark_tags
from fcn4dist.data.annotations.rows import iter_rows, read_records
from fcn4dist.data.annotations.tagged_clips import Annotations, Part
from fcn4dist.errors import DataError, quoted

_log = logging.getLogger(__name__)

SUBSETS = ("small", "medium", "large", "full")  # cumulative; `full` has tracks without one, too
KEYS = [  # (first header row, second header row)
    ("track", "genres_all"),
    ("set", "split"),
    ("set", "subset"),
    ("artist", "id"),
    ("album", "id"),
    ("track", "duration"),
]


def load(place: Path, data: DataConfig) -> Annotations:
    """Read tracks.csv; `place` is it or its folder. Tags are the titles of genres_all.

    Where data.audio_dir is named fma_small, fma_medium or fma_large, only the tracks of that subset are taken. Raises DataError.
    """
    file = place / "tracks.csv" if place.is_dir() else place
    subset = next((name for name in SUBSETS if data.source_dir and data.source_dir.name == f"fma_{name}"), "full")
    wanted = SUBSETS[: SUBSETS.index(subset) + 1]
    titles = {r["genre_id"]: r["title"] for r in read_records(file.parent / "genres.csv", ("genre_id", "title"))[1]}
    rows = iter_rows(file, ",")
    head = [next(rows, (0, []))[1] for _ in range(3)]
    pairs = list(zip(head[0], head[1], strict=False))
    if head[2][:1] != ["track_id"] or not set(KEYS) <= set(pairs):
        columns = (
            ", ".join(".".join(pair) for pair in KEYS if pair not in pairs) or "a third row that begins with track_id"
        )
        raise DataError(f"{file}:1: not FMA's tracks.csv with its three header rows; {columns} is missing")
    places = [pairs.index(pair) for pair in KEYS]
    lines: list[int] = []
    ids: list[str] = []
    found: list[list[str]] = []
    tag_lists: list[list[str]] = []
    for line, row in rows:
        if len(row) != len(pairs):
            raise DataError(f"{file}:{line}: {len(row)} fields, the header has {len(pairs)}")
        fields = [row[i].strip() for i in places]
        if subset == "full" or fields[2] in wanted:
            lines.append(line)
            ids.append(row[0].strip())
            found.append(fields)
            tag_lists.append(
                [_find_title(f"{file}:{line}", titles, genre) for genre in _parse_list(f"{file}:{line}", fields[0])]
            )
    _log.info("%s: %d tracks of the subset %s (by the name of data.audio_dir)", file, len(ids), subset)
    tags, labels = mark_tags(tag_lists)
    parts: list[Part | None] = [PART_NAMES.get(fields[1]) for fields in found]
    names = [id_.zfill(6) for id_ in ids]
    return build_annotations(
        file,
        "fma",
        data,
        ids,
        [f"{name[:3]}/{name}.mp3" for name in names],
        tags,
        labels,
        lines,
        groups={"track": ids, "album": [fields[4] for fields in found], "artist": [fields[3] for fields in found]},
        parts=parts,
        durations_s=np.array(
            [float(f[5]) if f[5].isdigit() and len(f[5]) < 9 else math.nan for f in found], np.float32
        ),
    )


def _parse_list(place: str, text: str) -> list[int]:
    """Parse a list of whole numbers as data; a Python literal such as [21, 10] is JSON, too."""
    try:
        numbers = json.loads(text or "[]")
    except (ValueError, RecursionError):
        numbers = None
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise DataError(f"{place}: genres_all {quoted(text)}; expected a list of numbers such as [21, 10]")
    return numbers


def _find_title(place: str, titles: dict[str, str], genre: int) -> str:
    if str(genre) not in titles:
        raise DataError(f"{place}: genre {genre} is not in genres.csv")
    return titles[str(genre)]
