"""FSD50K: `FSD50K.ground_truth/{dev,eval,vocabulary}.csv`; labels are a list that holds the ancestors, too."""

from __future__ import annotations

from pathlib import Path

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations.assemble import PART_NAMES, build_annotations, mark_tags
from fcn4dist.data.annotations.rows import iter_rows, read_records
from fcn4dist.data.annotations.tagged_clips import Annotations, Part
from fcn4dist.errors import DataError, quoted

DEV, EVAL, VOCABULARY = "dev.csv", "eval.csv", "vocabulary.csv"
AUDIO = {DEV: "FSD50K.dev_audio", EVAL: "FSD50K.eval_audio"}  # beside FSD50K.ground_truth


def load(place: Path, data: DataConfig) -> Annotations:
    """Read dev.csv and eval.csv; `place` is their folder, the one above it, or one of the files. Raises DataError."""
    folder = place if place.is_dir() else place.parent
    if not (folder / DEV).is_file() and (folder / "FSD50K.ground_truth").is_dir():
        folder = folder / "FSD50K.ground_truth"
    tags = _load_vocabulary(folder / VOCABULARY)
    known = set(tags)
    ids: list[str] = []
    paths: list[str] = []
    tag_lists: list[list[str]] = []
    parts: list[Part] = []
    for name in (DEV, EVAL):
        columns = ("fname", "labels", "split") if name == DEV else ("fname", "labels")
        for line, record in zip(*read_records(folder / name, columns), strict=True):
            found = [tag for field in record["labels"].split(",") if (tag := field.strip())]
            if unknown := [tag for tag in found if tag not in known]:
                raise DataError(f"{folder / name}:{line}: label {quoted(unknown[0])} is not in {VOCABULARY}")
            if name == DEV and record["split"] not in PART_NAMES:
                raise DataError(f"{folder / name}:{line}: split {quoted(record['split'])}; expected train or val")
            ids.append(record["fname"])
            paths.append(f"{AUDIO[name]}/{record['fname']}.wav")
            tag_lists.append(found)
            parts.append("test" if name == EVAL else PART_NAMES[record["split"]])
    _, labels = mark_tags(tag_lists, tags)
    return build_annotations(folder, "fsd50k", data, ids, paths, tags, labels, parts=parts)


def _load_vocabulary(file: Path) -> list[str]:
    tags = []
    for line, row in iter_rows(file, ","):
        if len(row) != 3:
            raise DataError(f"{file}:{line}: {len(row)} fields; expected three without a header: index,label,mid")
        tags.append(row[1].strip())
    return tags
