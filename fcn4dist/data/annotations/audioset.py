"""AudioSet: `{balanced_train,unbalanced_train,eval}_segments.csv`; three lines begin with #, the third is the header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations.assemble import build_annotations, mark_tags
from fcn4dist.data.annotations.rows import iter_rows, read_records
from fcn4dist.data.annotations.tagged_clips import Annotations, Part
from fcn4dist.errors import DataError, quoted

FILES: dict[str, Part] = {
    "balanced_train_segments.csv": "train",
    "unbalanced_train_segments.csv": "train",
    "eval_segments.csv": "test",
}
CLASSES = "class_labels_indices.csv"


def load(place: Path, data: DataConfig) -> Annotations:
    """Read segments; `place` is one file, with eval_segments.csv beside it as the test part, or a folder: all that it holds.

    Labels get the names of class_labels_indices.csv, which must stand beside them. Raises DataError.
    """
    folder = place if place.is_dir() else place.parent
    names = [name for name in FILES if (folder / name).is_file()]
    if not place.is_dir():
        names = [place.name, *(name for name in names if name == "eval_segments.csv" and name != place.name)]
    if not names:
        raise DataError(f"{folder}: none of {', '.join(FILES)} is here")
    classes = {
        record["mid"]: record["display_name"] for record in read_records(folder / CLASSES, ("mid", "display_name"))[1]
    }
    ids: list[str] = []
    lines: list[int] = []
    tag_lists: list[list[str]] = []
    durations: list[float] = []
    parts: list[Part] = []
    for name in names:
        for line, row in iter_rows(folder / name, ",", keeps_space=False):
            if row[0].startswith("# ") or row[0] == "YTID":  # comments, or the header without its mark
                continue
            clip, start_s, end_s, mids = _parse_row(f"{folder / name}:{line}", row)
            if unknown := [mid for mid in mids if mid not in classes]:
                raise DataError(f"{folder / name}:{line}: label {quoted(unknown[0])} is not in {CLASSES}")
            ids.append(clip)
            lines.append(line)
            tag_lists.append([classes[mid] for mid in mids])
            durations.append(end_s - start_s)
            parts.append(FILES.get(name, "train"))
    tags, labels = mark_tags(tag_lists, list(classes.values()))
    more = {"parts": parts, "durations_s": np.array(durations, np.float32)}
    has_lines = lines if len(names) == 1 else None
    return build_annotations(folder / names[0], "audioset", data, ids, None, tags, labels, has_lines, **more)


def _parse_row(place: str, row: list[str]) -> tuple[str, float, float, list[str]]:
    if row[0] == "#NAME?":
        raise DataError(
            f"{place}: id '#NAME?': a spreadsheet has written over ids that begin with - when it saved this copy; "
            "download the file again"
        )
    try:
        clip, start, end, labels = row
        return clip, float(start), float(end), labels.split(",")
    except ValueError:
        raise DataError(
            f'{place}: {quoted(", ".join(row))}; expected four fields: id, start_seconds, end_seconds, "label,label"'
        ) from None
