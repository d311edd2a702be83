"""The annotation table: which clips there are, and which tags each has.

The layout is MagnaTagATune's `annotations_final.csv`: tab separated, every field quoted (or none), a header with
`clip_id`, one column a tag, and `mp3_path` (relative to the audio folder).
"""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.tags import load_tags
from fcn4dist.errors import DataError, quoted

CLIP_ID, MP3_PATH = "clip_id", "mp3_path"
INT32_MAX = 2**31 - 1  # MindRecord stores the id as int32

Int32 = NDArray[np.int32]


@dataclass(frozen=True)
class Annotations:
    """The clips of a table, in its order."""

    file: Path
    clip_ids: Int32  # (num_clips,)
    mp3_paths: list[str]  # relative to the audio folder
    tags: list[str]
    labels: Int32  # (num_clips, num_tags), 0 or 1
    lines: list[int]  # of the table, for messages

    @property
    def num_clips(self) -> int:
        """Rows of the table."""
        return len(self.mp3_paths)

    def place(self, row: int) -> str:
        """Return "file:line" of a row."""
        return f"{self.file}:{self.lines[row]}"


def load_annotations(file: Path, *, needs_tags: bool = True) -> Annotations:
    """Read an annotation table; without `needs_tags`, a list of clip_id and mp3_path alone will do.

    Raises DataError with file and line for a missing column, a ragged row, a value other than 0 and 1, a clip_id that
    is no number, a clip_id or path that occurs twice, and a path that would leave the audio folder.
    """
    rows = iter_rows(file, delimiter="\t")
    header_line, header = next(rows, (1, []))
    columns = _check_header(file, header_line, header, needs_tags)
    id_column, path_column = columns.index(CLIP_ID), columns.index(MP3_PATH)
    tag_columns = [i for i, name in enumerate(columns) if name not in (CLIP_ID, MP3_PATH)]

    ids: dict[int, int] = {}  # clip_id -> line
    paths: dict[str, int] = {}  # mp3_path -> line
    bits, is_bit = bytearray(), {"0", "1"}
    first, last = (tag_columns[0], tag_columns[-1] + 1) if tag_columns else (0, 0)
    is_one_block = tag_columns == list(range(first, last))
    for line, row in rows:
        if len(row) != len(columns):
            raise DataError(f"{file}:{line}: {len(row)} fields, the header has {len(columns)}")
        values = row[first:last] if is_one_block else [row[i] for i in tag_columns]
        if not is_bit.issuperset(values):
            raise DataError(f"{file}:{line}: {_bad_value(columns, tag_columns, values)}")
        bits += "".join(values).encode("ascii")
        clip_id, path = _parse_id(file, line, row[id_column]), _check_path(file, line, row[path_column])
        if (before := ids.setdefault(clip_id, line)) != line:
            raise DataError(f"{file}:{line}: clip_id {clip_id} is also on line {before}; expected it once")
        if (before := paths.setdefault(path, line)) != line:
            raise DataError(f"{file}:{line}: mp3_path {path!r} is also on line {before}; expected it once")
    if not ids:
        raise DataError(f"{file}: no clips below the header")
    labels = (np.frombuffer(bytes(bits), np.uint8) - ord("0")).astype(np.int32).reshape(len(ids), len(tag_columns))
    return Annotations(
        file=file,
        clip_ids=np.fromiter(ids, np.int32, len(ids)),
        mp3_paths=list(paths),
        tags=[columns[i] for i in tag_columns],
        labels=labels,
        lines=list(ids.values()),
    )


def select_tags(annotations: Annotations, choice: int | Sequence[str] | Path) -> Annotations:
    """Return the table with the chosen tags only, in the order of the labels.

    `choice` is a number k (the k most frequent over all clips, most frequent first, ties by column order), a list of
    tags, or a file with one tag a line. Raises DataError for more tags than there are, an unknown or a repeated one.
    """
    known = annotations.tags
    if isinstance(choice, int):
        if not 0 < choice <= len(known):
            raise DataError(
                f"data.tags: {choice} tags asked, {annotations.file} has {len(known)}; use at most that many"
            )
        order = np.argsort(-annotations.labels.sum(axis=0), kind="stable")[:choice].tolist()
    else:
        order = _find_tags(annotations, choice)
    return replace(
        annotations, tags=[known[i] for i in order], labels=np.ascontiguousarray(annotations.labels[:, order])
    )


def locate_clips(annotations: Annotations, audio_dir: Path, suffix: str | None = None) -> list[Path]:
    """Return the file of every clip; it need not exist. `suffix` replaces the one of mp3_path: ".npy".

    Raises DataError when the folder is not there, when a path leads out of it through a symbolic link, or when two clips
    would share a file.
    """
    if not audio_dir.is_dir():
        what = "audio folder (data.audio_dir)" if suffix is None else f"folder of {suffix} files (data.npy_dir)"
        raise DataError(f"{audio_dir}: no such {what}")
    root = os.path.realpath(audio_dir)
    files: dict[Path, int] = {}
    for row, mp3_path in enumerate(annotations.mp3_paths):
        path = mp3_path if suffix is None else str(PurePosixPath(mp3_path).with_suffix(suffix))
        real = os.path.realpath(os.path.join(root, path))
        if not real.startswith(root.rstrip("/") + "/"):
            raise DataError(
                f"{annotations.place(row)}: mp3_path {path!r} is a link out of the audio folder {audio_dir}"
            )
        if (before := files.setdefault(audio_dir / path, row)) != row:
            raise DataError(f"{annotations.place(row)}: {path} is also the file of {annotations.place(before)}")
    return list(files)


def iter_rows(file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of a table with or without quotes; empty lines are left out. Raises DataError."""
    line = 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, quotechar='"')
            for row in reader:
                line = reader.line_num
                if row:
                    yield line, row
    except OSError as error:
        raise DataError(f"{file}: cannot read this table: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: after line {line}: not UTF-8 text: {error.reason}") from None
    except csv.Error as error:
        raise DataError(f"{file}:{line + 1}: not a table: {error}") from None


def _check_header(file: Path, line: int, header: list[str], needs_tags: bool) -> list[str]:
    columns = [name.strip() for name in header]
    for needed in (CLIP_ID, MP3_PATH):
        if needed not in columns:
            found = ", ".join(columns[:5]) + (" ..." if len(columns) > 5 else "")
            raise DataError(
                f"{file}:{line}: no column {needed}; found {found or 'nothing'}. Expected a tab separated table with "
                f"{CLIP_ID}, one column a tag, and {MP3_PATH}"
            )
    if repeated := next((name for i, name in enumerate(columns) if name in columns[:i]), None):
        raise DataError(f"{file}:{line}: column {repeated!r} occurs twice")
    if "" in columns:
        raise DataError(f"{file}:{line}: column {columns.index('') + 1} has no name")
    if needs_tags and len(columns) == 2:
        raise DataError(f"{file}:{line}: no tag columns beside {CLIP_ID} and {MP3_PATH}")
    return columns


def _bad_value(columns: list[str], tag_columns: list[int], values: list[str]) -> str:
    column, value = next((columns[i], v) for i, v in zip(tag_columns, values, strict=True) if v not in ("0", "1"))
    return f"tag {column!r} is {value!r}; expected 0 or 1"


def _parse_id(file: Path, line: int, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= INT32_MAX):
        raise DataError(f"{file}:{line}: clip_id {text!r}; expected a whole number from 0 to {INT32_MAX}")
    return int(text)


def _check_path(file: Path, line: int, text: str) -> str:
    path = PurePosixPath(text)
    if path == PurePosixPath() or "\0" in text:
        raise DataError(f"{file}:{line}: mp3_path {text!r}; expected the path of an audio file")
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{file}:{line}: mp3_path {text!r} leaves the audio folder; expected a path inside it")
    return str(path)


def _find_tags(annotations: Annotations, choice: Sequence[str] | Path) -> list[int]:
    where = str(choice) if isinstance(choice, Path) else "data.tags"
    names = load_tags(choice) if isinstance(choice, Path) else list(choice)
    if not names:
        raise DataError(f"{where}: no tags; expected at least one")
    column = {tag: i for i, tag in enumerate(annotations.tags)}
    for i, name in enumerate(names):
        if name not in column:
            near = difflib.get_close_matches(name, column, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {len(column)} other tags"
            raise DataError(f"{where}: {annotations.file} has no tag {quoted(name)}{hint}")
        if name in names[:i]:
            raise DataError(f"{where}: tag {quoted(name)} is listed twice")
    return [column[name] for name in names]
