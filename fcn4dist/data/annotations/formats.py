"""Annotations of any format: which one it is, its reader, and where its audio stands."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from fcn4dist.config import AnnotationFormat, DataConfig
from fcn4dist.data.annotations import audioset, esc50, fma, fsd50k, gtzan, jamendo, msd, nsynth, openmic, table
from fcn4dist.data.annotations.rows import read_head
from fcn4dist.data.annotations.tagged_clips import Annotations
from fcn4dist.data.source import check_audio_folder
from fcn4dist.data.tags import find_synonyms, load_synonyms, merge_synonyms, select_tags
from fcn4dist.errors import ConfigError, DataError

_log = logging.getLogger(__name__)

READERS: dict[AnnotationFormat, Callable[[Path, DataConfig], Annotations]] = {
    "table": table.load,
    "mtg-jamendo": jamendo.load,
    "msd": msd.load,
    "fma": fma.load,
    "gtzan": gtzan.load,
    "openmic": openmic.load,
    "nsynth": nsynth.load,
    "fsd50k": fsd50k.load,
    "esc50": esc50.load,
    "audioset": audioset.load,
}
FILES: dict[AnnotationFormat, tuple[str, ...]] = {  # that tell the format of a folder
    "gtzan": tuple(gtzan.FILES),
    "openmic": (openmic.NAME,),
    "fsd50k": ("vocabulary.csv", "FSD50K.ground_truth/vocabulary.csv"),
    "fma": ("tracks.csv",),
    "esc50": ("esc50.csv", "meta/esc50.csv"),
    "audioset": tuple(audioset.FILES),
    "nsynth": (nsynth.NAME, *(f"{name}/{nsynth.NAME}" for name in nsynth.FOLDERS)),
    "msd": (msd.VECTORS, msd.TRAIN, msd.TEST, "ecals_track_split.json", "annotation.json", "train_x_msd_id.txt"),
}
HEADERS: dict[AnnotationFormat, str] = {  # the beginning of a file's first two lines
    "mtg-jamendo": "\t".join(jamendo.COLUMNS),
    "audioset": r"# Segments csv|.*\n# num_ytids|(# )?YTID, ?start_seconds",
    "esc50": "filename,fold,target,category",
    "openmic": "sample_key,instrument,relevance",
    "fsd50k": "fname,labels,mids",
    "fma": "(track_id)?,(album|artist),.*\n(track_id)?,",
    "gtzan": r"([a-z]+)/\1\.\d+\.\w+\n",
    "msd": r"TR[A-Z]{5}[0-9A-F]{11}\n",
}


def load_annotations(data: DataConfig) -> Annotations:
    """Read data.annotations by data.format; `auto` recognises the format and says which one in the log.

    Raises ConfigError where no annotations are named, DataError for any that cannot be used.
    """
    if data.annotations is None:
        raise ConfigError("data.annotations: not given; set it in the config or with --annotations")
    format_ = data.format if data.format != "auto" else detect_format(data.annotations)
    place = data.annotations
    if format_ == "table" and place.is_dir():
        raise DataError(f"{place}: a folder; format table is one file, such as annotations_final.csv")
    annotations = READERS[format_](place, data)
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
    """Return the format of a folder by its files, or of a file by its name or its header. Raises DataError."""
    if place.is_dir():
        for format_, names in FILES.items():
            if any((place / name).is_file() for name in names):
                return format_
        expected = ", ".join(names[0] for names in FILES.values())
        raise DataError(
            f"{place}: a folder without annotations that are known by their name ({expected}); name the file"
        )
    for format_, names in FILES.items():
        if place.name in {PurePosixPath(name).name for name in names} and place.suffix != ".csv":
            return format_
    head = [*read_head(place, 2), "", ""]
    for format_, header in HEADERS.items():
        if re.match(header, "\n".join(head[:2])):
            return format_
    name = head[0].strip()
    is_one_name = not head[1] and len(name) < 256 and name.isprintable() and "/" not in name
    if is_one_name and (place.parent / name).is_file():
        raise DataError(
            f"{place}: holds only the name of another file, as a link does where it was copied; name {name}"
        )
    return "table"


def locate_clips(annotations: Annotations, audio_dir: Path, suffix: str | None = None) -> list[Path]:
    """Return the file of every clip; it need not exist. `suffix` replaces the one of its path: ".npy".

    Raises DataError when the folder is not there, when a path leads out of it through a symbolic link, or when two clips
    would share a file.
    """
    check_audio_folder(audio_dir, suffix)
    root = os.path.realpath(audio_dir)
    folders: dict[str, str] = {}  # as listed -> without links: a look at each folder, not at each of them for each clip
    files: dict[str, int] = {}
    for row, listed in enumerate(annotations.paths):
        path = listed if suffix is None else str(PurePosixPath(listed).with_suffix(suffix))
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            folders[folder] = os.path.realpath(os.path.join(root, folder))
        real = os.path.join(folders[folder], name)
        if os.path.islink(real):
            real = os.path.realpath(real)
        if not real.startswith(root.rstrip("/") + "/"):
            raise DataError(f"{annotations.place(row)}: path {path!r} is a link out of the audio folder {audio_dir}")
        if (before := files.setdefault(path, row)) != row:
            raise DataError(f"{annotations.place(row)}: {path} is also the file of {annotations.place(before)}")
    return [audio_dir / path for path in files]


def load_chosen_annotations(data: DataConfig) -> tuple[Annotations, list[list[str]] | None]:
    """Read data.annotations, merge data.synonyms and choose data.tags; return them and the groups that were merged.

    Raises ConfigError where no annotations are named, DataError for those that cannot be used.
    """
    annotations = load_annotations(data)
    if data.synonyms is None:
        return select_tags(annotations, data.tags), None
    file = find_synonyms(data.synonyms, annotations)
    annotations, merged = merge_synonyms(annotations, load_synonyms(file), file)
    chosen = select_tags(annotations, data.tags)
    return chosen, [names for names in merged if names[0] in chosen.tags]
