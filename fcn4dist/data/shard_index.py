"""Where the rows of a MindRecord shard are: what its header and its index say, read without MindSpore.

    train.mindrecord0      8 bytes: the length of the header; the header, JSON, in the first `header_size` bytes; then pages of
                           `page_size` bytes, some of rows' arrays, some of their scalars
    train.mindrecord0.db   SQLite. INDEXES: the pages of each row, its places in them, and the scalars that are indexed;
                           SHARD_NAME: train.mindrecord0

A row in a page is its length in 8 bytes, then its arrays (see RowFormat), or its scalars as a MessagePack map. Source: MindSpore,
minddata/mindrecord, io/shard_reader.cc, meta/shard_header.cc and meta/shard_column.cc, of format 3.0.
"""

from __future__ import annotations

import io
import os
import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from fcn4dist.data.row_format import RowFormat
from fcn4dist.errors import DataError

MAX_HEADER_BYTES = 128 << 20  # MindRecord's limit
COLUMNS = ("id", "feature", "label")
ARRAYS = ["feature", "label"]  # in the order in which MindRecord stores them, that of the alphabet
PLACES = "PAGE_ID_BLOB, PAGE_OFFSET_BLOB, PAGE_OFFSET_BLOB_END, PAGE_ID_RAW, PAGE_OFFSET_RAW, PAGE_OFFSET_RAW_END"
STRING_LENGTHS = {
    0xD9: ">B",
    0xDA: ">H",
    0xDB: ">I",
}  # of MessagePack, https://github.com/msgpack/msgpack/blob/master/spec.md
NUMBERS = dict(zip(range(0xCA, 0xD4), [">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"], strict=True))


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Column(_Part):
    """What the schema says of a column; without a shape it is a scalar or bytes."""

    type: str
    shape: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return self.type if self.shape is None else f"{self.type} {list(self.shape)}"


class _Schema(_Part):
    blob_fields: list[str]
    columns: dict[str, Column] = Field(alias="schema")


class _Page(_Part):
    page_type: str
    start_row_id: int
    end_row_id: int


class _IndexField(_Part):
    index_field: str


class _Header(_Part):
    version: Literal["3.0"]
    header_size: PositiveInt
    page_size: PositiveInt
    schemas: tuple[_Schema] = Field(alias="schema")  # MindRecord allows one
    pages: list[_Page] | None = Field(alias="page")
    index_fields: list[_IndexField] | None
    shard_addresses: list[str]

    @property
    def num_rows(self) -> int:
        pages = [page for page in self.pages or () if page.page_type == "BLOB_DATA"]
        return sum(page.end_row_id - page.start_row_id for page in pages)


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The rows of one shard, in MindDataset's order."""

    file: Path
    columns: dict[str, Column]
    siblings: tuple[str, ...]  # names of all shards that were written together
    begins: NDArray[np.int64]  # (N,), bytes from the beginning of the file to a row's arrays
    ends: NDArray[np.int64]
    clip_ids: NDArray[np.int32]

    def check_format(self, row_format: RowFormat) -> None:
        """Raise DataError where the rows are not of `row_format`."""
        for name, expected in row_format.schema.items():
            if self.columns[name] != Column(**expected):
                raise DataError(f"{self.file}: {name} is {self.columns[name]}; expected {Column(**expected)}")
        sizes = self.ends - self.begins
        if (wrong := np.flatnonzero(sizes != row_format.stored_bytes)).size:
            raise DataError(
                f"{self.file}: clip {self.clip_ids[wrong[0]]} has {sizes[wrong[0]]} bytes; expected "
                f"{row_format.stored_bytes}: a feature of {row_format.feature_bytes} and {row_format.num_tags} labels, 0 or 1"
            )


def load_shard_index(file: Path) -> ShardIndex:
    """Read header and index of one shard.

    Raises DataError naming the file when it or its index is missing, damaged, truncated, of another shard, or without the
    columns id, feature and label.
    """
    try:
        with file.open("rb") as stream:
            header = _load_header(file, stream)
            places = _load_places(file, header)
            num_bytes = os.fstat(stream.fileno()).st_size
            # where the page of a row's arrays begins, and that of its scalars
            pages = header.header_size + header.page_size * places[:, [0, 3]]
            begins, ends = pages[:, 0] + places[:, 1], pages[:, 0] + places[:, 2]
            if places.size and (places[:, :6].min() < 0 or ends.max() > num_bytes):
                raise DataError(
                    f"{file}: {num_bytes} bytes, rows go to {ends.max()}: truncated, or its .db is of another"
                )
            clip_ids = places[:, 6]
            if "id" not in _indexed(header):
                raw = zip((pages[:, 1] + places[:, 4]).tolist(), (pages[:, 1] + places[:, 5]).tolist(), strict=True)
                clip_ids = np.array([_read_id(file, stream.fileno(), begin, end) for begin, end in raw], np.int64)
    except OSError as error:
        raise DataError(f"{file}: cannot be opened: {error.strerror}") from None
    columns = header.schemas[0].columns
    return ShardIndex(file, columns, tuple(header.shard_addresses), begins, ends, clip_ids.astype(np.int32))


def _load_header(file: Path, stream: io.BufferedReader) -> _Header:
    first = stream.read(8)
    length = int.from_bytes(first, "little")
    content = stream.read(length) if length <= MAX_HEADER_BYTES else b""
    if len(first) < 8 or len(content) < length:
        raise DataError(f"{file}: truncated, or not a MindRecord file")
    try:
        header = _Header.model_validate_json(content)
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"]))
        raise DataError(f"{file}: the header is damaged, or not MindRecord's: {where}: {found['msg']}") from None
    schema = header.schemas[0]
    if missing := [column for column in COLUMNS if column not in schema.columns]:
        found_columns = ", ".join(schema.columns)
        raise DataError(f"{file}: no column {missing[0]!r}; found {found_columns}; expected {', '.join(COLUMNS)}")
    if schema.blob_fields != ARRAYS:
        found_arrays = ", ".join(schema.blob_fields)
        raise DataError(f"{file}: arrays in the columns {found_arrays}; expected {' and '.join(ARRAYS)} alone")
    return header


def _indexed(header: _Header) -> list[str]:
    return [field.index_field for field in header.index_fields or ()]


def _load_places(file: Path, header: _Header) -> NDArray[np.int64]:
    """Return (N, 7): PLACES and the clip id, 0 where that is not indexed."""
    index = file.with_name(f"{file.name}.db")
    if not index.is_file():
        raise DataError(f"{index}: missing; MindRecord's index stands beside its shard")
    clip_id = "id_0" if "id" in _indexed(header) else "0"
    try:
        # immutable: the folder may be read-only, and nobody writes
        with closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            name = db.execute("SELECT NAME FROM SHARD_NAME").fetchone()
            rows = db.execute(f"SELECT {PLACES}, {clip_id} FROM INDEXES ORDER BY ROW_ID")
            places: NDArray[np.int64] = np.fromiter(rows, np.dtype((np.int64, 7)))
    except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{index}: damaged: {error}") from None
    if name != (file.name,):
        raise DataError(
            f"{index}: the index of {name[0] if name else 'no shard'}; expected {file.name}: renamed or replaced"
        )
    if len(places) != header.num_rows:
        raise DataError(
            f"{index}: {len(places)} rows; the header of {file.name} has {header.num_rows}: one is replaced"
        )
    return places


def _read_id(file: Path, descriptor: int, begin: int, end: int) -> int:
    """Read the clip id of a row whose scalars are at `begin` to `end`."""
    try:
        scalars = _parse_message(io.BytesIO(os.pread(descriptor, end - begin, begin)[8:]))
        return int(scalars[b"id"])
    except (IndexError, KeyError, ValueError, TypeError, struct.error):
        raise DataError(f"{file}: the scalars at byte {begin} are damaged: no id there") from None


def _parse_message(stream: io.BytesIO) -> Any:
    """Return the next value of a MessagePack stream: a number, a string's bytes, or a map of them; IndexError at its end."""
    kind = stream.read(1)[0]
    if kind < 0x80:
        return kind
    if kind < 0x90:
        return {_parse_message(stream): _parse_message(stream) for _ in range(kind & 15)}
    if 0xA0 <= kind < 0xC0:
        return stream.read(kind & 31)
    if kind >= 0xE0:
        return kind - 256
    layout = STRING_LENGTHS.get(kind) or NUMBERS[kind]
    (value,) = struct.unpack(layout, stream.read(struct.calcsize(layout)))
    return stream.read(value) if kind in STRING_LENGTHS else value
