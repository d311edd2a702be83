"""Annotations of any format: which one it is, its reader, and where its audio stands."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from fcn4dist.config import AnnotationFormat, DataConfig
from fcn4dist.data.annotations import table
from fcn4dist.data.annotations.clips import Annotations
from fcn4dist.errors import ConfigError, DataError

_log = logging.getLogger(__name__)

READERS: dict[AnnotationFormat, Callable[[Path, DataConfig], Annotations]] = {"table": table.load}


def load_annotations(data: DataConfig) -> Annotations:
    """Read data.annotations by data.format; `auto` recognises the format and says which one in the log.

    Raises ConfigError where no annotations are named, DataError for any that cannot be used.
    """
    if data.annotations is None:
        raise ConfigError("data.annotations: not given; set it in the config or with --annotations")
    format_ = data.format if data.format != "auto" else detect_format(data.annotations)
    annotations = READERS[format_](data.annotations, data)
    how = "" if data.format != "auto" else " (recognised; data.format names another)"
    _log.info(
        "%s: format %s%s, %d clips, %d tags",
        annotations.file,
        format_,
        how,
        annotations.num_clips,
        len(annotations.tags),
    )
    return annotations


def detect_format(place: Path) -> AnnotationFormat:
    """Return the format of a file by its header, or of a folder by its files. Raises DataError."""
    return "table"


def locate_clips(annotations: Annotations, audio_dir: Path, suffix: str | None = None) -> list[Path]:
    """Return the file of every clip; it need not exist. `suffix` replaces the one of its path: ".npy".

    Raises DataError when the folder is not there, when a path leads out of it through a symbolic link, or when two clips
    would share a file.
    """
    if not audio_dir.is_dir():
        what = "audio folder (data.audio_dir)" if suffix is None else f"folder of {suffix} files (data.npy_dir)"
        raise DataError(f"{audio_dir}: no such {what}")
    root = os.path.realpath(audio_dir)
    files: dict[Path, int] = {}
    for row, listed in enumerate(annotations.paths):
        path = listed if suffix is None else str(PurePosixPath(listed).with_suffix(suffix))
        real = os.path.realpath(os.path.join(root, path))
        if not real.startswith(root.rstrip("/") + "/"):
            raise DataError(f"{annotations.place(row)}: path {path!r} is a link out of the audio folder {audio_dir}")
        if (before := files.setdefault(audio_dir / path, row)) != row:
            raise DataError(f"{annotations.place(row)}: {path} is also the file of {annotations.place(before)}")
    return list(files)
