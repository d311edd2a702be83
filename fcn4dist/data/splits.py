"""Who is for training, validation and testing: rules that depend on names and a seed, never on the order of rows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.annotations.table import CLIP_ID, MP3_PATH, Annotations, iter_rows
from fcn4dist.data.manifest import SPLITS, SplitPart, SplitRule
from fcn4dist.errors import DataError

FOLDER_PART: dict[str, SplitPart] = {
    **dict.fromkeys("0123456789ab", "train"),
    "c": "val",
    **dict.fromkeys("def", "test"),
}
CHOICES = (
    "folder-12-1-3, random-by-track, random-by-artist, random-by-album or random, each also with -clean behind it; "
    "folds:FILE:VAL[:TEST] or file:FILE"
)
CLEAN = "-clean"
# <folder>/<artist>-<album>-<track#>-<title>-<start>-<end>.mp3; fits all 25,863 paths of MagnaTagATune
_TRACK_STEM = re.compile(
    r"(?P<artist>[^-]+)-(?P<album>.+?)-(?P<number>\d+)-(?P<title>.*)-(?P<start_s>\d+)-(?P<end_s>\d+)"
)


@dataclass(frozen=True)
class Track:
    """The recording that a clip was cut from; equal names mean the same recording, album or artist."""

    artist: str
    album: str  # with its artist
    track: str  # with its album and artist
    is_parsed: bool  # whether the path follows the grammar; if not, each clip stands for itself


@dataclass(frozen=True)
class Split:
    """The rows of an annotation table in each part; each part is in ascending order of clip_id."""

    rule: SplitRule
    parts: dict[SplitPart, NDArray[np.intp]]

    @property
    def num_clips(self) -> int:
        """Clips in any part."""
        return sum(map(len, self.parts.values()))


def parse_track(path: str) -> Track:
    """Return the recording behind `<folder>/<artist>-<album>-<track#>-<title>-<start>-<end>.<ext>`.

    The folder does not matter. A path that does not follow the grammar is a recording of its own, named by the path
    without its extension.
    """
    pure = PurePosixPath(path)
    match = _TRACK_STEM.fullmatch(pure.stem)
    if match is None:
        own = str(pure.with_suffix(""))
        return Track(own, own, own, is_parsed=False)
    artist, album, number, title = match.group("artist", "album", "number", "title")
    return Track(artist, f"{artist}-{album}", f"{artist}-{album}-{number}-{title}", is_parsed=True)


def split_clips(
    annotations: Annotations, name: str, seed: int = 1, *, clean: bool = False, needs_train: bool = True
) -> Split:
    """Divide the clips of a table by the rule `name`, as in the config key data.split.

    `clean`, or a name that ends in -clean, leaves out clips with none of the table's tags (Lee et al., Won et al.); every other
    clip stays in its part, and the split's name ends in -clean. Raises DataError for an unknown rule, a fold or split
    file that does not fit, and, if `needs_train`, for a training part without clips.
    """
    if ":" not in name and name.endswith(CLEAN):
        name, clean = name.removesuffix(CLEAN), True
    kind, _, argument = name.partition(":")
    if kind == "folder-12-1-3" and not argument:
        parts, words, used_seed = _by_folder(annotations)
    elif kind == "folds" and argument:
        parts, words, used_seed = _by_folds(annotations, argument)
    elif kind == "file" and argument:
        parts, words, used_seed = _by_file(annotations, argument)
    elif kind in _GROUPS and not argument:
        parts, words, used_seed = _by_random_groups(annotations, kind, seed)
    else:
        raise DataError(f"data.split: {name!r} is no split; expected {CHOICES}")
    if clean:
        name += CLEAN
        parts, words = _leave_out_untagged(annotations, parts, words)
    if needs_train and "train" not in parts:
        raise DataError(f"data.split: {name} leaves no clip of {annotations.file} for training")
    rows: dict[SplitPart, NDArray[np.intp]] = {}
    ascending = np.argsort(annotations.clip_ids, kind="stable")
    part_of = np.array([part or "" for part in parts])
    for part in SPLITS:
        rows[cast(SplitPart, part)] = ascending[part_of[ascending] == part]
    return Split(SplitRule(name=name, rule=words, seed=used_seed), rows)


Parts = list[SplitPart | None]  # of every row; None: in no part
Ruling = tuple[Parts, str, int | None]


def _leave_out_untagged(annotations: Annotations, parts: Parts, words: str) -> tuple[Parts, str]:
    num_tags = len(annotations.tags)
    if num_tags == 0:
        raise DataError(f"{annotations.file}: no tag columns, which a clean split goes by")
    is_tagged = annotations.labels.any(axis=1).tolist()
    kept: Parts = [part if tagged else None for part, tagged in zip(parts, is_tagged, strict=True)]
    num_left_out = kept.count(None) - parts.count(None)
    return kept, f"{words}; clean: {num_left_out} clips with none of the {num_tags} tags left out"


def _by_folder(annotations: Annotations) -> Ruling:
    parts: Parts = []
    for row, path in enumerate(annotations.mp3_paths):
        folder = PurePosixPath(path).parts[0]
        if folder not in FOLDER_PART or folder == path:
            raise DataError(
                f"{annotations.place(row)}: mp3_path {path!r} is not in one of MagnaTagATune's folders 0-9 and a-f, "
                f"which data.split folder-12-1-3 goes by. Use random-by-track, random-by-artist, "
                "folds:FILE:VAL or file:FILE"
            )
        parts.append(FOLDER_PART[folder])
    return parts, "first folder of the path: 0-b train, c validation, d-f test", None


def _by_folds(annotations: Annotations, argument: str) -> Ruling:
    file, val, test = _parse_folds(annotations, argument)
    fold_of: dict[str, str] = {}
    for line, (path, fold) in _read_columns(file, ("path", "fold")):
        if fold_of.setdefault(str(PurePosixPath(path)), fold) != fold:
            raise DataError(f"{file}:{line}: {path!r} is also in fold {fold_of[str(PurePosixPath(path))]}")
    known = sorted(set(fold_of.values()), key=lambda fold: (len(fold), fold))
    for held in (val, test):
        if held is not None and held not in known:
            raise DataError(f"data.split: {file} has no fold {held!r}; it has {', '.join(known)}")
    if val == test:
        raise DataError(f"data.split: fold {val} cannot be both validation and test")
    parts: Parts = []
    for row, path in enumerate(annotations.mp3_paths):
        if path not in fold_of:
            raise DataError(f"{annotations.place(row)}: mp3_path {path!r} has no line in {file}")
        parts.append("val" if fold_of[path] == val else "test" if fold_of[path] == test else "train")
    words = f"folds of {file.name}: {val} validation" + (f", {test} test" if test else "") + ", the others train"
    return parts, words, None


def _parse_folds(annotations: Annotations, argument: str) -> tuple[Path, str, str | None]:
    fields = argument.split(":")
    if not 2 <= len(fields) <= 3 or not all(fields):
        raise DataError(f"data.split: folds:{argument}: expected folds:FILE:VAL or folds:FILE:VAL:TEST")
    return _find_file(annotations, fields[0]), fields[1], fields[2] if len(fields) == 3 else None


def _by_file(annotations: Annotations, argument: str) -> Ruling:
    file = _find_file(annotations, argument)
    header = _read_header(file)
    key = MP3_PATH if MP3_PATH in header else CLIP_ID
    part_of: dict[str, SplitPart] = {}
    for line, (clip, part) in _read_columns(file, (key, "split")):
        if part not in SPLITS:
            raise DataError(f"{file}:{line}: split {part!r}; expected train, val or test")
        clip = str(PurePosixPath(clip)) if key == MP3_PATH else clip.lstrip("0") or "0"
        if part_of.setdefault(clip, cast(SplitPart, part)) != part:
            raise DataError(f"{file}:{line}: {key} {clip} is also in {part_of[clip]}")
    keys = annotations.mp3_paths if key == MP3_PATH else [str(i) for i in annotations.clip_ids]
    parts = [part_of.get(clip) for clip in keys]
    num_left_out = parts.count(None)
    if num_left_out == len(parts):
        raise DataError(f"data.split: no {key} in {file} is one of {annotations.file}")
    words = f"listed in {file.name} by {key}"
    return parts, words + (f"; {num_left_out} clips that it does not list take no part" if num_left_out else ""), None


_GROUPS: dict[str, Callable[[str], str]] = {
    "random": lambda path: path,
    "random-by-track": lambda path: parse_track(path).track,
    "random-by-album": lambda path: parse_track(path).album,
    "random-by-artist": lambda path: parse_track(path).artist,
}


def _by_random_groups(annotations: Annotations, kind: str, seed: int) -> Ruling:
    group_of = [_GROUPS[kind](path) for path in annotations.mp3_paths]
    unit = kind.removeprefix("random-by-") if kind != "random" else "clip"
    # a hash is a shuffle that depends on the names alone: not on rows, not on the version of a library
    groups = sorted(set(group_of), key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    if len(groups) < 3:
        raise DataError(f"data.split: {kind} needs at least 3 {unit}s, {annotations.file} has {len(groups)}")
    num_held = max(1, round(0.1 * len(groups)))
    part_of: dict[str, SplitPart] = dict.fromkeys(groups, "train")
    part_of.update(dict.fromkeys(groups[:num_held], "val"))
    part_of.update(dict.fromkeys(groups[num_held : 2 * num_held], "test"))
    words = f"{len(groups)} {unit}s at random: {num_held} validation, {num_held} test, the others train"
    num_loose = 0 if kind == "random" else sum(not parse_track(path).is_parsed for path in annotations.mp3_paths)
    if num_loose:
        words += f"; {num_loose} paths do not name artist, album and track, so each of them is a {unit} of its own"
    elif kind == "random":
        words += "; clips of one recording may be in several parts"
    return [part_of[group] for group in group_of], words, seed


def _find_file(annotations: Annotations, name: str) -> Path:
    for file in (Path(name), annotations.file.parent / name):
        if file.is_file():
            return file
    raise DataError(f"data.split: no such file: {name} (neither as given nor beside {annotations.file})")


def _delimiter(file: Path) -> str:
    try:
        with file.open(encoding="utf-8-sig") as text:
            return "\t" if "\t" in text.readline() else ","
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def _read_header(file: Path) -> list[str]:
    return [name.strip() for name in next(iter_rows(file, _delimiter(file)), (1, []))[1]]


def _read_columns(file: Path, names: tuple[str, str]) -> list[tuple[int, tuple[str, str]]]:
    header = _read_header(file)
    for name in names:
        if name not in header:
            raise DataError(f"{file}:1: no column {name}; found {', '.join(header) or 'nothing'}")
    first, second = (header.index(name) for name in names)
    rows = list(iter_rows(file, _delimiter(file)))[1:]
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(f"{file}:{line}: {len(row)} fields, the header has {len(header)}")
    return [(line, (row[first].strip(), row[second].strip())) for line, row in rows]
