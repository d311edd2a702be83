"""ESC-50 and ESC-10: `meta/esc50.csv`; five folds, clips of one recording share `src_file`."""

from __future__ import annotations

from pathlib import Path

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations.assemble import build_annotations, mark_tags, under_audio
from fcn4dist.data.annotations.rows import read_records
from fcn4dist.data.annotations.tagged_clips import Annotations
from fcn4dist.errors import DataError

COLUMNS = ("filename", "fold", "category", "src_file")


def load(place: Path, data: DataConfig) -> Annotations:
    """Read the table; `place` is esc50.csv, its folder or the one above. Raises DataError."""
    candidates = [place / "esc50.csv", place / "meta" / "esc50.csv"] if place.is_dir() else [place]
    file = next((file for file in candidates if file.is_file()), candidates[-1])
    lines, records = read_records(file, COLUMNS)
    if not records:
        raise DataError(f"{file}: no clips below the header")
    tags, labels = mark_tags([[record["category"]] for record in records])
    return build_annotations(
        file,
        "esc50",
        data,
        [record["filename"] for record in records],
        [under_audio(data, record["filename"]) for record in records],
        tags,
        labels,
        lines,
        groups={"track": [record["src_file"] for record in records]},
        folds=[record["fold"] for record in records],
    )
