"""Annotations from what a reader found: ids and paths checked, lists of tags as columns."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import AnnotationFormat, DataConfig
from fcn4dist.data.annotations.rows import DELIMITERS, find_delimiter, iter_rows, read_head
from fcn4dist.data.annotations.tagged_clips import Annotations, Part
from fcn4dist.errors import DataError, quoted

INT32_MAX = 2**31 - 1  # MindRecord stores the id as int32
MOST_LETTERS = 255  # of an id
PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def build_annotations(
    file: Path,
    format_: AnnotationFormat,
    data: DataConfig,
    ids: list[str],
    paths: list[str] | None,
    tags: list[str],
    labels: NDArray[np.int8],
    lines: list[int] | None = None,
    **more: Any,
) -> Annotations:
    """Check ids and paths, and return the annotations; `more`: groups, parts, folds, durations_s.

    `paths` None: the format does not say where audio is, so data.path_template or data.path_map must; those win.
    Raises DataError for an id or path that occurs twice or is empty, and for a path that leaves the audio folder.
    """
    lines = lines or [0] * len(ids)

    def place(row: int) -> str:
        return f"{file}:{lines[row]}" if lines[row] else str(file)

    if not ids:
        raise DataError(f"{file}: no clips in it")
    for row, clip in enumerate(ids):
        if not clip or len(clip) > MOST_LETTERS:
            raise DataError(f"{place(row)}: id {quoted(clip)}; expected a name of 1 to {MOST_LETTERS} letters")
    numbers = parse_numbers(ids)
    _check_unique("id", ids if numbers is None else numbers.tolist(), ids, place)
    rule = _name_rule(data)
    what = "path" if rule is None else f"path by {rule}"
    files = [_check_path(place, row, what, path) for row, path in enumerate(_find_paths(file, data, ids, paths))]
    _check_unique(what, files, files, place)
    clip_ids = np.arange(len(ids), dtype=np.int32) if numbers is None else numbers
    path_rule = rule or "paths as the annotations say"
    return Annotations(file, format_, clip_ids, ids, files, tags, labels, lines, path_rule=path_rule, **more)


def parse_numbers(ids: Sequence[str]) -> NDArray[np.int32] | None:
    """Return ids as numbers, where each one is a whole number that MindRecord can hold; else None."""
    if not all(len(text) <= 10 and text.isascii() and text.isdigit() for text in ids):
        return None
    numbers = np.array(ids, np.int64)
    return None if len(numbers) and numbers.max() > INT32_MAX else numbers.astype(np.int32)


def mark_tags(
    tag_lists: Sequence[Iterable[str]], tags: Sequence[str] | None = None
) -> tuple[list[str], NDArray[np.int8]]:
    """Return the tags (by default all there are, sorted) and labels (N, num_tags): 1 where a clip's list has the tag."""
    known = sorted({tag for found in tag_lists for tag in found}) if tags is None else list(tags)
    column = {tag: i for i, tag in enumerate(known)}
    labels = np.zeros((len(tag_lists), len(known)), np.int8)
    for row, found in enumerate(tag_lists):
        for tag in found:
            labels[row, column[tag]] = 1
    return known, labels


def official_choice(data: DataConfig) -> str | None:
    """Return K where data.split is official:K, "" where it is official, None for another split."""
    kind, _, choice = data.split.removesuffix("-clean").partition(":")
    return choice if kind == "official" else None


def under_audio(data: DataConfig, path: str) -> str:
    """Return the path of a set that keeps its clips in `audio`: data.audio_dir may be that folder or the one above."""
    return path if data.source_dir is not None and data.source_dir.name == "audio" else f"audio/{path}"


def join_fields(fields: Sequence[str], delimiter: str) -> str:
    """Return a line of a table, for messages that show one that would be right."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="").writerow(fields)
    return text.getvalue()


def _find_paths(file: Path, data: DataConfig, ids: list[str], paths: list[str] | None) -> list[str]:
    if data.path_map is not None:
        return _map_paths(data.path_map, file, ids)
    if data.path_template is not None:
        stems = [""] * len(ids) if paths is None else [os.path.splitext(path)[0] for path in paths]
        return [data.path_template.format(id=id_, path=stem) for id_, stem in zip(ids, stems, strict=True)]
    if paths is None:
        raise DataError(
            f"{file}: does not say where audio is; set data.path_template ('{{id}}.wav', under data.audio_dir) or "
            "data.path_map (a table of two columns, id and path)"
        )
    return paths


def _name_rule(data: DataConfig) -> str | None:
    """Return the key that paths follow from; None: the annotations say them."""
    if data.path_map is not None:
        return f"data.path_map {data.path_map}"
    if data.path_template is not None:
        return f"data.path_template {data.path_template!r}"
    return None


def _map_paths(path_map: Path, file: Path, ids: list[str]) -> list[str]:
    head = read_head(path_map)
    delimiter = find_delimiter(head[0], ("id", "path")) if head else DELIMITERS[0]
    path_of = {}
    for line, row in iter_rows(path_map, delimiter):
        if len(row) != 2:
            raise DataError(f"{path_map}:{line}: {len(row)} fields; expected two, id and path")
        path_of[row[0].strip()] = row[1].strip()
    missing = [clip for clip in ids if clip not in path_of]
    if missing:
        raise DataError(
            f"data.path_map: {path_map} lacks {len(missing)} of the {len(ids)} clips of {file}, "
            f"the first: {quoted(missing[0])}"
        )
    return [path_of[clip] for clip in ids]


def _check_path(place: Callable[[int], str], row: int, what: str, text: str) -> str:
    names = text.split("/")
    if "" in names or "." in names:  # "./a//b" is a/b, and "/a" stays what it is
        text = str(PurePosixPath(text))
    if text in ("", ".") or "\0" in text:
        raise DataError(f"{place(row)}: {what} {quoted(text)}; expected the path of an audio file")
    if text.startswith("/") or ".." in names:
        raise DataError(f"{place(row)}: {what} {quoted(text)} leaves the audio folder; expected a path inside it")
    return text


def _check_unique(what: str, keys: Sequence[object], names: Sequence[str], place: Callable[[int], str]) -> None:
    if len(set(keys)) == len(keys):
        return
    first: dict[object, int] = {}
    for row, key in enumerate(keys):
        if (before := first.setdefault(key, row)) != row:
            where = place(before).rpartition(":")[2]
            raise DataError(
                f"{place(row)}: {what} {quoted(names[row])} is also on line {where} ({quoted(names[before])}); "
                "expected it once"
            )
