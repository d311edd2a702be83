"""Rows of a text table, as people and programs write them: quotes or none, a byte order mark, any line end."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from fcn4dist.errors import DataError, quoted

_log = logging.getLogger(__name__)

DELIMITERS = ("\t", ",", ";")
MOST_STRANGERS = 0.01  # share of the names in a split file that the annotations may lack


def iter_rows(file: Path, delimiter: str, *, keeps_space: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of a table; empty lines are left out. `keeps_space`: a blank behind a delimiter belongs to the field.

    Raises DataError for a file that cannot be read, is not UTF-8, or has a quote that never ends.
    """
    line = 0
    try:
        with open_text(file) as text:
            reader = csv.reader(text, delimiter=delimiter, skipinitialspace=not keeps_space)
            for row in reader:
                line = reader.line_num
                if row:
                    yield line, row
    except OSError as error:
        raise DataError(f"{file}: cannot read this table: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(explain_encoding(file)) from None
    except csv.Error as error:
        raise DataError(f"{file}:{line + 1}: not a table: {error}") from None


def open_text(file: Path) -> IO[str]:
    """Open a text file for reading, with or without a byte order mark. Raises OSError, and DataError for a pipe."""
    if file.is_fifo():  # its header is read first, and then the whole: what it has would be gone, or never come
        raise DataError(f"{file}: a pipe; expected a file, since it is read twice")
    return file.open(encoding="utf-8-sig", newline="")


def explain_encoding(file: Path) -> str:
    """Say which line of a file is not UTF-8 text, and how to convert it."""
    lines = file.read_bytes().split(b"\n")
    number = next((i for i, line in enumerate(lines, start=1) if not _is_utf8(line)), 1)
    is_utf16 = lines[0][:2] in (b"\xff\xfe", b"\xfe\xff")
    encoding, what = ("UTF-16", "UTF-16") if is_utf16 else ("LATIN1", "Latin-1, for example")
    return (
        f"{file}:{number}: not UTF-8 text. If it is {what}: iconv -f {encoding} -t UTF-8 {quoted(str(file))} > NEW, "
        "and name NEW"
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_head(file: Path, num_lines: int = 1) -> list[str]:
    """Return the first lines of a text file, without their ends; [] for an empty one. Raises DataError."""
    try:
        with open_text(file) as text:
            lines = [text.readline(1 << 20) for _ in range(num_lines)]
    except OSError as error:
        raise DataError(f"{file}: cannot read this table: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(explain_encoding(file)) from None
    return [line.rstrip("\r\n") for line in lines if line]


def read_lines(file: Path) -> list[tuple[int, str]]:
    """Return (line, text) of every line that is not blank. Raises DataError."""
    try:
        with open_text(file) as text:
            return [(i, found) for i, line in enumerate(text, start=1) if (found := line.strip())]
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(explain_encoding(file)) from None


def read_records(file: Path, columns: Sequence[str]) -> tuple[list[int], list[dict[str, str]]]:
    """Return the lines and the named columns of a table with a header. Raises DataError for a missing column or a ragged row."""
    rows = iter_rows(file, find_delimiter((read_head(file) or [""])[0], columns))
    header = [name.strip() for name in next(rows, (1, []))[1]]
    if missing := [name for name in columns if name not in header]:
        raise DataError(f"{file}:1: no column {missing[0]}; found {', '.join(map(quoted, header[:8])) or 'nothing'}")
    places = [(name, header.index(name)) for name in columns]
    lines, records = [], []
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(f"{file}:{line}: {len(row)} fields, the header has {len(header)}")
        lines.append(line)
        records.append({name: row[i].strip() for name, i in places})
    return lines, records


def load_json(file: Path) -> dict[str, Any]:
    """Read a JSON object. Raises DataError."""
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not a JSON document: {error}") from None
    if not isinstance(document, dict):
        raise DataError(f"{file}: expected a JSON object with an id a key, found {type(document).__name__}")
    return document


def find_delimiter(header: str, known: Sequence[str]) -> str:
    """Return the delimiter that cuts a header into the most of the `known` column names, then into the most fields."""

    def merit(delimiter: str) -> tuple[int, int]:
        try:
            fields = [field.strip().lower() for field in next(csv.reader([header], delimiter=delimiter), [])]
        except csv.Error:  # a field without an end: whoever reads the rows says so, with file and line
            return 0, 0
        return sum(field in known for field in fields), len(fields)

    return max(DELIMITERS, key=merit)


def check_strangers(file: Path, strangers: Sequence[str], num_named: int, annotations: Path) -> None:
    """Count the names of a split file that are not in the annotations: a warning, above 1 % a DataError."""
    if not strangers:
        return
    told = (
        f"{file}: {len(strangers)} of the {num_named} clips that it names are not in {annotations}, "
        f"the first: {quoted(strangers[0])}"
    )
    if len(strangers) > MOST_STRANGERS * num_named:
        raise DataError(f"{told}. More than {MOST_STRANGERS:.0%} is taken for the split of another data set")
    _log.warning("%s", told)
