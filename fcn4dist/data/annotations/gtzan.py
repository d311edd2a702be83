"""GTZAN, fault-filtered: `{train,valid,test}_filtered.txt`, lines such as blues/blues.00029.wav; the folder is the tag."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations.assemble import build_annotations, mark_tags
from fcn4dist.data.annotations.rows import read_lines
from fcn4dist.data.annotations.tagged_clips import Annotations, Part
from fcn4dist.errors import DataError, quoted

FILES: dict[str, Part] = {"train_filtered.txt": "train", "valid_filtered.txt": "val", "test_filtered.txt": "test"}


def load(place: Path, data: DataConfig) -> Annotations:
    """Read the three lists of a folder; `place` is the folder or one of them. Raises DataError."""
    folder = place if place.is_dir() else place.parent
    paths: list[str] = []
    parts: list[Part] = []
    for name, part in FILES.items():
        file = folder / name
        if not file.is_file():
            raise DataError(f"{file}: missing; the fault-filtered split of GTZAN has {', '.join(FILES)} in one folder")
        for line, path in read_lines(file):
            if len(PurePosixPath(path).parts) != 2:
                raise DataError(f"{file}:{line}: {quoted(path)}; expected a path such as blues/blues.00029.wav")
            paths.append(path)
            parts.append(part)
    tags, labels = mark_tags([[PurePosixPath(path).parts[0]] for path in paths])
    ids = [PurePosixPath(path).stem for path in paths]
    return build_annotations(folder, "gtzan", data, ids, paths, tags, labels, parts=parts)
