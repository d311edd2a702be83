"""Who is for training, validation and testing: rules that depend on names and a seed, never on the order of rows."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config.split_name import CLEAN, RANDOM, find_fault, parse_split_name
from fcn4dist.data.annotations.assemble import PART_NAMES, parse_numbers
from fcn4dist.data.annotations.rows import check_strangers, find_delimiter, iter_rows, read_head
from fcn4dist.data.annotations.table import IDS, PATHS
from fcn4dist.data.annotations.tagged_clips import Annotations
from fcn4dist.data.parts import SPLITS, Level, SplitPart, SplitRule
from fcn4dist.errors import DataError, quoted

_log = logging.getLogger(__name__)

__all__ = ["SPLITS", "Split", "SplitPart", "SplitRule", "split_clips"]

FOLDER_PART: dict[str, SplitPart] = {
    **dict.fromkeys("0123456789ab", "train"),
    "c": "val",
    **dict.fromkeys("def", "test"),
}
FOLD_COLUMNS, PATH_COLUMNS = ("fold",), PATHS


@dataclass(frozen=True)
class Split:
    """The rows of the annotations in each part; each part is in ascending order of clip_id."""

    rule: SplitRule
    parts: dict[SplitPart, NDArray[np.intp]]

    @property
    def num_clips(self) -> int:
        """Clips in any part."""
        return sum(map(len, self.parts.values()))


def split_clips(
    annotations: Annotations, name: str, seed: int = 1, *, clean: bool = False, needs_train: bool = True
) -> Split:
    """Divide the clips by the rule `name`, as in the config key data.split.

    `clean`, or a name that ends in -clean, leaves out clips with none of the tags (Lee et al., Won et al.); every other
    clip stays in its part, and the split's name ends in -clean. Raises DataError for an unknown rule, a fold or split
    file that does not fit, groups or parts that the annotations lack, and, if `needs_train`, for a training part without clips.
    """
    if (fault := find_fault(name)) is not None:
        raise DataError(f"data.split: {fault}")
    name, is_clean = parse_split_name(name)
    clean = clean or is_clean
    kind, _, argument = name.partition(":")
    if kind == "folder-12-1-3":
        parts, words, used_seed = _by_folder(annotations)
    elif kind == "folds":
        parts, words, used_seed = _by_folds(annotations, argument)
    elif kind == "file":
        parts, words, used_seed = _by_file(annotations, argument)
    elif kind == "official":
        parts, words, used_seed = _by_set(annotations, name)
    else:
        parts, words, used_seed = _by_random_groups(annotations, name, seed)
    if clean:
        name += CLEAN
        parts, words = _leave_out_untagged(annotations, parts, words)
    if needs_train and "train" not in parts:
        raise DataError(f"data.split: {name} leaves no clip of {annotations.file} for training")
    rows: dict[SplitPart, NDArray[np.intp]] = {}
    ascending = np.argsort(annotations.clip_ids, kind="stable")
    part_of = np.array([part or "" for part in parts])
    for part in SPLITS:
        rows[part] = ascending[part_of[ascending] == part]
    return Split(SplitRule(name=name, rule=words, seed=used_seed), rows)


def is_same_rule(one: str, other: str) -> bool:
    """Return whether two names of splits, without -clean, mean the same; of their files only the last part of the path counts."""
    words, others = ([PurePath(word).name for word in name.split(":")] for name in (one, other))
    return words == others


Parts = list[SplitPart | None]  # of every row; None: in no part
Ruling = tuple[Parts, str, int | None]


def _leave_out_untagged(annotations: Annotations, parts: Parts, words: str) -> tuple[Parts, str]:
    num_tags = len(annotations.tags)
    if num_tags == 0:
        raise DataError(f"{annotations.file}: no tag columns, which a clean split goes by")
    is_tagged = (annotations.labels == 1).any(axis=1).tolist()
    kept: Parts = [part if tagged else None for part, tagged in zip(parts, is_tagged, strict=True)]
    num_left_out = kept.count(None) - parts.count(None)
    return kept, f"{words}; clean: {num_left_out} clips with none of the {num_tags} tags left out"


def _by_folder(annotations: Annotations) -> Ruling:
    parts: Parts = []
    for row, path in enumerate(annotations.paths):
        folder = PurePosixPath(path).parts[0]
        if folder not in FOLDER_PART or folder == path:
            raise DataError(
                f"{annotations.place(row)}: path {path!r} is not in one of MagnaTagATune's folders 0-9 and a-f, "
                f"which data.split folder-12-1-3 goes by. Use {_suggest(annotations)}"
            )
        parts.append(FOLDER_PART[folder])
    return parts, "first folder of the path: 0-b train, c validation, d-f test", None


def _by_set(annotations: Annotations, name: str) -> Ruling:
    """Take the parts that the set itself has; which of several splits was chosen when the annotations were read."""
    if annotations.parts is None:
        raise DataError(
            f"data.split: {name}: {annotations.file} ({annotations.format}) has no split of its own. "
            f"Use {_suggest(annotations)}"
        )
    if ":" in name and annotations.format != "mtg-jamendo":
        raise DataError(f"data.split: {name}: {annotations.format} has one split of its own; use official")
    if "val" not in annotations.parts:
        _log.warning(
            "%s: the split of %s has no validation part: train and test are given as they are; file:FILE can name one",
            annotations.file,
            annotations.format,
        )
    num_left_out = annotations.parts.count(None)
    words = f"the set's own ({annotations.format})"
    return list(annotations.parts), words + (f"; {num_left_out} clips are in no part of it" * bool(num_left_out)), None


def _suggest(annotations: Annotations) -> str:
    """Return the values of data.split that would do for these annotations."""
    choices = []
    if annotations.folds is not None:
        first, second = [*sorted_folds(annotations.folds), "", ""][:2]
        choices += [f"folds:{first} (fold {first} validates)", *([f"folds:{first}:{second}"] if second else [])]
    if annotations.parts is not None or annotations.format == "mtg-jamendo":  # whose split files are read only for it
        choices.append("official")
    if all(path[:1] in FOLDER_PART and path[1:2] == "/" for path in annotations.paths):
        choices.append("folder-12-1-3")
    choices += [f"{RANDOM}{level}" for level in annotations.groups] or ["random"]
    return ", ".join(choices) + ", folds:FILE:VAL or file:FILE"


def sorted_folds(folds: list[str]) -> list[str]:
    """Return the names of the folds, numbers in their order."""
    return sorted(set(folds) - {""}, key=lambda fold: (len(fold), fold))


def _by_folds(annotations: Annotations, argument: str) -> Ruling:
    fields = argument.split(":")
    own = annotations.folds
    if own is not None and len(fields) <= 2 and all(fields) and not (len(fields) == 2 and fields[0] not in own):
        source, file, folds = "the annotations", annotations.file, own
        val, test = fields[0], fields[1] if len(fields) == 2 else None
    elif 2 <= len(fields) <= 3 and all(fields):
        file = _find_file(annotations, fields[0])
        source, folds = file.name, _read_folds(annotations, file)
        val, test = fields[1], fields[2] if len(fields) == 3 else None
    else:
        own_form = "folds:VAL[:TEST], " if own is not None else ""
        hint = "" if own is not None else f" ({annotations.file} has no folds of its own)"
        raise DataError(f"data.split: folds:{argument}: expected {own_form}folds:FILE:VAL or folds:FILE:VAL:TEST{hint}")
    known = sorted_folds(folds)
    for held in (val, test):
        if held is not None and held not in known:
            raise DataError(f"data.split: {file} has no fold {held!r}; it has {', '.join(known)}")
    if val == test:
        raise DataError(f"data.split: fold {val} cannot be both validation and test")
    parts: Parts = ["val" if fold == val else "test" if fold == test else "train" if fold else None for fold in folds]
    return (
        parts,
        f"folds of {source}: {val} validation" + (f", {test} test" if test else "") + ", the others train",
        None,
    )


def _read_folds(annotations: Annotations, file: Path) -> list[str]:
    fold_of: dict[str, str] = {}
    for line, path, fold in _read_columns(file, PATH_COLUMNS, FOLD_COLUMNS)[1]:
        path = str(PurePosixPath(path))
        if fold_of.setdefault(path, fold) != fold:
            raise DataError(f"{file}:{line}: {path!r} is also in fold {fold_of[path]}")
    for row, path in enumerate(annotations.paths):
        if path not in fold_of:
            raise DataError(f"{annotations.place(row)}: path {path!r} has no line in {file}")
    known = set(annotations.paths)
    check_strangers(file, [path for path in fold_of if path not in known], len(fold_of), annotations.file)
    return [fold_of[path] for path in annotations.paths]


def _by_file(annotations: Annotations, argument: str) -> Ruling:
    file = _find_file(annotations, argument)
    key, rows = _read_columns(file, (*PATHS, *IDS), ("split",))
    has_numbers = parse_numbers(annotations.source_ids) is not None
    keys = annotations.paths if key in PATHS else annotations.source_ids
    if key in IDS and has_numbers:
        keys = list(map(str, annotations.clip_ids.tolist()))
    part_of: dict[str, SplitPart] = {}
    for line, clip, part in rows:
        if part.lower() not in PART_NAMES:
            raise DataError(f"{file}:{line}: split {quoted(part)}; expected train, val or test")
        clip = str(PurePosixPath(clip)) if key in PATHS else (clip.lstrip("0") or "0") if has_numbers else clip
        if part_of.setdefault(clip, PART_NAMES[part.lower()]) != PART_NAMES[part.lower()]:
            raise DataError(f"{file}:{line}: {key} {clip} is also in {part_of[clip]}")
    known = set(keys)
    check_strangers(file, [clip for clip in part_of if clip not in known], len(part_of), annotations.file)
    parts = [part_of.get(clip) for clip in keys]
    num_left_out = parts.count(None)
    words = f"listed in {file.name} by {key}"
    return parts, words + (f"; {num_left_out} clips that it does not list take no part" if num_left_out else ""), None


def _by_random_groups(annotations: Annotations, name: str, seed: int) -> Ruling:
    # a clip that belongs to nothing known stands for itself, by its path without the ending
    own = annotations.paths if name == "random" else [str(PurePosixPath(p).with_suffix("")) for p in annotations.paths]
    unit, names = "clip", [""] * len(own)
    if name != "random":
        level = cast(Level, name.removeprefix(RANDOM))
        if level not in annotations.groups:
            has = (
                f"names {' and '.join(annotations.groups)}" if annotations.groups else "names no track, album or artist"
            )
            raise DataError(
                f"data.split: {name}: {annotations.file} ({annotations.format}) has no {level} of a clip; it {has}. "
                f"Use {_suggest(annotations)}, or add a column {level}_id"
            )
        unit, names = level, annotations.groups[level]
    group_of = [group or path for group, path in zip(names, own, strict=True)]
    # a hash is a shuffle that depends on the names alone: not on rows, not on the version of a library
    groups = sorted(set(group_of), key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    if len(groups) < 3:
        raise DataError(f"data.split: {name} needs at least 3 {unit}s, {annotations.file} has {len(groups)}")
    num_held = max(1, round(0.1 * len(groups)))
    part_of: dict[str, SplitPart] = dict.fromkeys(groups, "train")
    part_of.update(dict.fromkeys(groups[:num_held], "val"))
    part_of.update(dict.fromkeys(groups[num_held : 2 * num_held], "test"))
    words = f"{len(groups)} {unit}s at random: {num_held} validation, {num_held} test, the others train"
    if name == "random":
        words += "; clips of one recording may be in several parts"
    elif num_loose := names.count(""):
        words += f"; {num_loose} clips name no {unit}, so each of them is one of its own"
    return [part_of[group] for group in group_of], words, seed


def _find_file(annotations: Annotations, name: str) -> Path:
    for file in (Path(name), annotations.file.parent / name):
        if file.is_file():
            return file
    raise DataError(f"data.split: no such file: {name} (neither as given nor beside {annotations.file})")


def _read_columns(file: Path, keys: tuple[str, ...], values: tuple[str, ...]) -> tuple[str, list[tuple[int, str, str]]]:
    """Return the first of `keys` that the file has as a column, and (line, key, value) of every row."""
    delimiter = find_delimiter((read_head(file) or [""])[0], (*keys, *values))
    rows = iter_rows(file, delimiter)
    header = [name.strip().lower() for name in next(rows, (1, []))[1]]
    found = [next((name for name in names if name in header), None) for names in (keys, values)]
    for name, names in zip(found, (keys, values), strict=True):
        if name is None:
            has = ", ".join(header) or "nothing"
            raise DataError(f"{file}:1: no column {' or '.join(dict.fromkeys(names))}; found {has}")
    key, value = (header.index(cast(str, name)) for name in found)
    read = []
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(f"{file}:{line}: {len(row)} fields, the header has {len(header)}")
        read.append((line, row[key].strip(), row[value].strip()))
    return cast(str, found[0]), read
