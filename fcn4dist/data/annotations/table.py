"""The general table: a header, a row a clip; 0/1 columns or one column with a list of tags.

MagnaTagATune's `annotations_final.csv` is one (`clip_id`, 188 tags, `mp3_path`), `file,tags` as people write it another.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations import magnatagatune
from fcn4dist.data.annotations.assemble import PART_NAMES, build_annotations, join_fields, mark_tags
from fcn4dist.data.annotations.rows import find_delimiter, iter_rows, read_head
from fcn4dist.data.annotations.tagged_clips import Annotations, Part
from fcn4dist.data.parts import Level
from fcn4dist.errors import DataError, quoted

_log = logging.getLogger(__name__)

IDS = ("clip_id", "id", "track_id", "filename")
PATHS = ("mp3_path", "path", "file", "filename")
LISTS = ("tags", "tag", "labels")
GROUPS: dict[Level, tuple[str, ...]] = {  # a number or name that is unique comes first
    "track": ("group", "track_id", "track"),
    "album": ("album_id", "album"),
    "artist": ("artist_id", "artist"),
}
DURATIONS = ("duration_s", "duration")
NO_TAGS = {*IDS, *PATHS, *LISTS, *(name for names in GROUPS.values() for name in names), "split", "fold", *DURATIONS}
LABELS = {
    "0": b"0",
    "1": b"1",
    "0.0": b"0",
    "1.0": b"1",
    "-1": b"/",
    "-1.0": b"/",
    "": b"/",
    "?": b"/",
}  # "/": before "0"
SEPARATORS = (";", "|", ",")  # of a list of tags
SUSPECTS = ("/", "\\", "+", "&", ":", "#")  # that may have been meant as one
MOST_SHOWN = 200  # letters of a line in a message
MOSTLY = 0.9  # share of the paths, or of the lists, that decides what they are


def load(file: Path, data: DataConfig) -> Annotations:
    """Read a table. Raises DataError with file and line, and the line that would be right where that is known."""
    header_line = (read_head(file) or [""])[0]
    delimiter = find_delimiter(header_line, tuple(NO_TAGS))
    rows = iter_rows(file, delimiter)
    number, names = next(rows, (1, []))
    names = [name.strip() for name in names]
    columns = _check_header(file, number, names)
    id_column = next((columns[name] for name in IDS if name in columns), None)
    path_column = next((columns[name] for name in PATHS if name in columns), None)
    list_column = next((columns[name] for name in LISTS if name in columns), None)
    wanted = [] if list_column is not None else [i for i, name in enumerate(names) if name.lower() not in NO_TAGS]
    kept: dict[int, list[str]] = {i: [] for i in range(len(names)) if i not in wanted}
    lines: list[int] = []
    bits = bytearray()
    first, last = (wanted[0], wanted[-1] + 1) if wanted else (0, 0)
    is_one_block = wanted == list(range(first, last))
    for line, row in rows:
        if len(row) != len(names):
            raise DataError(f"{file}:{line}: {_explain_ragged(names, row, delimiter, list_column)}")
        values = row[first:last] if is_one_block else [row[i] for i in wanted]
        joined = "".join(values)
        if len(joined) == len(values) and "" not in values and not joined.strip("01"):
            bits += joined.encode("ascii")
        else:
            bits += _parse_labels(f"{file}:{line}", [names[i] for i in wanted], values)
        for i, found in kept.items():
            found.append(row[i].strip())
        lines.append(line)
    if not lines:
        raise DataError(f"{file}: no clips below the header")
    if list_column is None:
        tags, labels = [names[i] for i in wanted], np.frombuffer(bits, np.int8).reshape(len(lines), len(wanted))
        labels -= ord("0")
    else:
        tags, labels = mark_tags(_split_lists(file, lines, kept[list_column], delimiter))
    paths = None if path_column is None else kept[path_column]
    if "track_id" in columns and id_column == columns["track_id"] and paths and len(set(kept[id_column])) < len(paths):
        id_column = None  # several clips a track
    ids = kept[id_column] if id_column is not None else list(map(str, paths or []))
    more = _read_more(file, lines, {name: kept[i] for name, i in columns.items() if i in kept}, id_column, columns)
    annotations = build_annotations(file, "table", data, ids, paths, tags, labels, lines, **more)
    return _adopt_magnatagatune(annotations, columns)


def _check_header(file: Path, line: int, names: list[str]) -> dict[str, int]:
    columns: dict[str, int] = {}
    for i, name in enumerate(names):
        if not name:
            raise DataError(f"{file}:{line}: column {i + 1} has no name")
        key = name.lower() if name.lower() in NO_TAGS else name
        if columns.setdefault(key, i) != i:
            raise DataError(f"{file}:{line}: column {quoted(name)} occurs twice")
    if not any(name in columns for name in (*IDS, *PATHS)):
        found = ", ".join(map(quoted, names[:5])) + (" ..." if len(names) > 5 else "")
        near = [near[0] for name in names if (near := difflib.get_close_matches(name.lower(), (*IDS, *PATHS), n=1))]
        hint = f"; did you mean {near[0]}?" if near else ""
        raise DataError(
            f"{file}:{line}: no column for the audio ({', '.join(PATHS)}) or an id ({', '.join(IDS)}); found "
            f"{found or 'nothing'}{hint}. The first line must be a header such as: file,tags - or: clip_id,rock,mp3_path"
        )
    return columns


def _explain_ragged(names: list[str], row: list[str], delimiter: str, list_column: int | None) -> str:
    told = f"{len(row)} fields, the header has {len(names)}"
    num_more = len(row) - len(names)
    if list_column is None or num_more < 0:
        return told
    tags = [tag.strip() for tag in row[list_column : list_column + num_more + 1]]
    right = [
        *row[:list_column],
        "|".join(tags) if delimiter == ";" else ";".join(tags),
        *row[list_column + num_more + 1 :],
    ]
    line = _shorten(join_fields(right, delimiter))
    return f"{told}. Tags of a list are separated by ; or |, so the line would be right as: {line}"


def _shorten(line: str) -> str:
    return line if len(line) <= MOST_SHOWN else line[:MOST_SHOWN] + "…"


def _parse_labels(place: str, names: list[str], values: list[str]) -> bytes:
    try:
        return b"".join([LABELS[value.strip()] for value in values])
    except KeyError:
        name, value = next(pair for pair in zip(names, values, strict=True) if pair[1].strip() not in LABELS)
        is_text = any(letter.isalpha() for letter in value)
        cure = f"A list of tags has one of these names: {', '.join(LISTS)}. " if is_text else ""
        raise DataError(
            f"{place}: tag {quoted(name)} is {quoted(value)}; expected 0 or 1 (unknown: -1, ? or nothing). "
            f"{cure}A column that is no tag must go"
        ) from None


def _split_lists(file: Path, lines: list[int], lists: list[str], delimiter: str) -> list[list[str]]:
    """Cut the lists of tags by the one separator that occurs; the comma only where no other does."""
    used = [mark for mark in SEPARATORS[:2] if any(mark in text for text in lists)]
    if len(used) == 2:
        rows = [next(row for row, text in enumerate(lists) if mark in text) for mark in used]
        raise DataError(
            f"{file}:{lines[max(rows)]}: tags separated by {used[rows.index(max(rows))]} here, but by "
            f"{used[rows.index(min(rows))]} on line {lines[min(rows)]}; expected one separator"
        )
    mark = used[0] if used else ","
    if not used and not any("," in text for text in lists):
        _check_no_other_separator(file, lines, lists, delimiter)
    return [[tag for part in text.split(mark) if (tag := part.strip())] for text in lists]


def _check_no_other_separator(file: Path, lines: list[int], lists: list[str], delimiter: str) -> None:
    filled = [(line, text) for line, text in zip(lines, lists, strict=True) if text]
    for mark in SUSPECTS:
        if filled and sum(mark in text for _, text in filled) >= MOSTLY * len(filled):
            line, text = filled[0] if mark in filled[0][1] else next(pair for pair in filled if mark in pair[1])
            known = "|" if delimiter == ";" else ";"
            raise DataError(
                f"{file}:{line}: tags {quoted(text)}: {mark!r} is no separator of tags. Expected ; or |: "
                f"{_shorten(known.join(part.strip() for part in text.split(mark)))} - or, where this is one tag: "
                f"{_shorten(text)}{known}"
            )


def _read_more(
    file: Path, lines: list[int], kept: dict[str, list[str]], id_column: int | None, columns: dict[str, int]
) -> dict[str, Any]:
    """Return what the columns beside id, path and tags say: groups, parts, folds, durations_s."""
    more: dict[str, Any] = {"groups": {}}
    for level, names in GROUPS.items():
        found = [name for name in names if name in kept]
        if level == "track" and "group" in found and len([n for n in found if columns[n] != id_column]) > 1:
            raise DataError(
                f"{file}:1: columns {' and '.join(found)} both say which clips belong together; leave one out"
            )
        if found:
            more["groups"][level] = kept[found[0]]
    if "album" in kept and "album_id" not in kept and "artist" in more["groups"]:  # two artists may name an album alike
        pairs = zip(more["groups"]["artist"], kept["album"], strict=True)
        more["groups"]["album"] = [f"{artist}/{album}" if album else "" for artist, album in pairs]
    if "split" in kept:
        more["parts"] = [_parse_part(f"{file}:{line}", text) for line, text in zip(lines, kept["split"], strict=True)]
    if "fold" in kept:
        more["folds"] = kept["fold"]
    if durations := next((kept[name] for name in DURATIONS if name in kept), None):
        more["durations_s"] = _parse_durations(file, lines, durations)
    return more


def _parse_part(place: str, text: str) -> Part | None:
    if not text:
        return None
    if text.lower() not in PART_NAMES:
        raise DataError(f"{place}: split {quoted(text)}; expected train, val or test, or nothing")
    return PART_NAMES[text.lower()]


def _parse_durations(file: Path, lines: list[int], texts: Iterable[str]) -> NDArray[np.float32]:
    found = []
    for line, text in zip(lines, texts, strict=False):
        try:
            value = float(text) if text else math.nan
        except ValueError:
            value = math.inf
        if value < 0 or math.isinf(value):
            raise DataError(f"{file}:{line}: duration {quoted(text)}; expected seconds, or nothing")
        found.append(value)
    return np.array(found, np.float32)


def _adopt_magnatagatune(annotations: Annotations, columns: dict[str, int]) -> Annotations:
    """Take groups and durations from the paths where they are MagnaTagATune's (or laid out like it)."""
    if not {"clip_id", "mp3_path"} <= columns.keys() or annotations.groups:
        return annotations
    groups = magnatagatune.parse_groups(annotations.paths)
    if groups is None or sum(map(bool, groups["track"])) < MOSTLY * annotations.num_clips:
        return annotations
    _log.info("%s: track, album and artist are those that the paths name, as in MagnaTagATune", annotations.file)
    return replace(annotations, groups=groups, durations_s=magnatagatune.parse_durations(annotations.paths))
