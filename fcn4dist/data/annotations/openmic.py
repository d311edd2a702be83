"""OpenMIC-2018: `openmic-2018-aggregated-labels.csv`, a row a clip and instrument; what has no row is unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations.assemble import build_annotations, official_choice, under_audio
from fcn4dist.data.annotations.rows import check_strangers, read_lines, read_records
from fcn4dist.data.annotations.tagged_clips import UNKNOWN, Annotations, Part
from fcn4dist.errors import DataError, quoted

NAME = "openmic-2018-aggregated-labels.csv"
COLUMNS = ("sample_key", "instrument", "relevance")
PARTITIONS: dict[str, Part] = {"split01_train.csv": "train", "split01_test.csv": "test"}


def load(place: Path, data: DataConfig) -> Annotations:
    """Read the labels, and the partitions beside them; `place` is the folder openmic-2018 or its file of labels.

    A relevance over 0.5 is present, under 0.5 absent, 0.5 itself unknown. Raises DataError.
    """
    file = place / NAME if place.is_dir() else place
    lines, records = read_records(file, COLUMNS)
    first_line: dict[str, int] = {}
    for line, record in zip(lines, records, strict=True):
        first_line.setdefault(record["sample_key"], line)
    ids = list(first_line)
    row_of = {key: row for row, key in enumerate(ids)}
    tags = sorted({record["instrument"] for record in records})
    column = {tag: i for i, tag in enumerate(tags)}
    labels = np.full((len(ids), len(tags)), UNKNOWN, np.int8)
    for line, record in zip(lines, records, strict=True):
        try:
            relevance = float(record["relevance"])
        except ValueError:
            relevance = -1.0
        if not 0 <= relevance <= 1:
            raise DataError(f"{file}:{line}: relevance {quoted(record['relevance'])}; expected a number from 0 to 1")
        label = UNKNOWN if relevance == 0.5 else int(relevance > 0.5)
        labels[row_of[record["sample_key"]], column[record["instrument"]]] = label
    return build_annotations(
        file,
        "openmic",
        data,
        ids,
        [under_audio(data, f"{key[:3]}/{key}.ogg") for key in ids],
        tags,
        labels,
        list(first_line.values()),
        groups={"track": [key.partition("_")[0] for key in ids]},
        parts=_load_parts(file, ids, is_needed=official_choice(data) is not None),
    )


def _load_parts(file: Path, ids: list[str], *, is_needed: bool) -> list[Part | None] | None:
    part_of: dict[str, Part] = {}
    for name, part in PARTITIONS.items():
        listed = file.parent / "partitions" / name
        if not listed.is_file():
            if is_needed:
                raise DataError(f"{listed}: missing; data.split official takes OpenMIC-2018's own partition from there")
            return None
        part_of.update((key, part) for _, key in read_lines(listed))
    known = set(ids)
    check_strangers(file.parent / "partitions", [key for key in part_of if key not in known], len(part_of), file)
    return [part_of.get(key) for key in ids]
