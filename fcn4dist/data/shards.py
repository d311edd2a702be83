"""MindRecord shards: write one and read it back, read rows in any order, and what stands in a shard's header.

`FileWriter` drops rows that it does not like with no more than a warning, so nothing counts as written before it was read
again. The shards of a part are written apart, by processes that know nothing of each other. MindDataset opens such files by
their list; so that ModelZoo's scripts can open them by the name of the first, as they do, each shard's header names all.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fcn4dist.errors import DataError
from fcn4dist.files import digest_file

COLUMNS = ("id", "feature", "label")
BATCH_ROWS = 16  # rows in memory at once while a shard is written
MIN_PAGE_BYTES, MAX_PAGE_BYTES = 32 << 10, 256 << 20  # MindRecord's limits
GOOD_PAGE_BYTES = (
    4 << 20
)  # scalars take a whole page of a shard: with MindRecord's default of 32 MB that is a tenth of it
MIN_HEADER_BYTES, MAX_HEADER_BYTES = 16 << 10, 128 << 20
PAGE_ENTRY_BYTES = 512  # of a page in the header, generously
NAME_BYTES = 40  # of a sibling's name in the header, generously
PAGES_A_SHARD = 8  # aimed at in small sets
ROW_OVERHEAD_BYTES = 128  # lengths that MindRecord stores with a row
LITTLE_BYTES = 100 << 20  # free on a disk, when a failure to write is probably due to that
PREFETCHED = 2  # batches that MindDataset reads ahead; its default, 16, would be 8 MB a clip of the batch


@dataclass(frozen=True)
class Row:
    """One clip as it is stored."""

    clip_id: int
    feature: NDArray[Any]  # (1, mel bands, frames), float32 or float16
    label: NDArray[Any]  # (num_tags,): 1, 0, or -1 where it is not known


@dataclass(frozen=True)
class RowFormat:
    """What all rows of a set have in common."""

    feature_shape: tuple[int, int, int]  # (1, mel bands, frames)
    feature_dtype: Literal["float32", "float16"]
    num_tags: int

    @property
    def row_bytes(self) -> int:
        """Most bytes of a row in a page."""
        itemsize = np.dtype(self.feature_dtype).itemsize
        return math.prod(self.feature_shape) * itemsize + 4 * self.num_tags + ROW_OVERHEAD_BYTES

    @property
    def schema(self) -> dict[str, dict[str, Any]]:
        """MindRecord's schema; it has no float16 arrays, so those are stored as bytes."""
        feature = {"type": "float32", "shape": list(self.feature_shape)}
        return {
            "id": {"type": "int32"},
            "feature": feature if self.feature_dtype == "float32" else {"type": "bytes"},
            "label": {"type": "int32", "shape": [self.num_tags]},
        }

    def encode(self, row: Row) -> dict[str, Any]:
        """Return the row as FileWriter takes it."""
        feature = np.ascontiguousarray(row.feature, dtype=self.feature_dtype).reshape(self.feature_shape)
        stored = feature if self.feature_dtype == "float32" else feature.tobytes()
        return {"id": row.clip_id, "feature": stored, "label": np.ascontiguousarray(row.label, dtype=np.int32)}

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return stored features (N, ...) as float32 (N, 1, mel bands, frames)."""
        return stored.view(self.feature_dtype).reshape(-1, *self.feature_shape).astype(np.float32, copy=False)


@dataclass(frozen=True)
class WrittenShard:
    """A shard that was read back."""

    num_rows: int
    num_bytes: int
    sha256: str
    index_sha256: str  # of the .db file
    checksums: list[int]  # CRC-32 of each row's feature, in the order of rows


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself."""

    file: Path
    num_rows: int
    columns: dict[str, dict[str, Any]]  # name -> type, and the shape of arrays
    siblings: list[str]  # the names of all shards of its part

    def check(self, row_format: RowFormat) -> None:
        """Raise DataError where the rows are not of `row_format`."""
        for name, expected in row_format.schema.items():
            if (found := self.columns[name]) != expected:
                raise DataError(f"{self.file}: {name} is {in_words(found)}; expected {in_words(expected)}")


def write_shard(
    file: Path, rows: Iterable[Row], most_rows: int, row_format: RowFormat, siblings: Sequence[str]
) -> WrittenShard | None:
    """Write a shard and its .db, read every row back, and rename both into place; None where there is no row.

    `siblings` names all shards of the part, this one among them; `most_rows` is the most that any of them gets, since MindDataset
    opens only shards of one layout together. Raises DataError where a row is missing or differs, or
    MindRecord cannot write, OSError for a full disk. Nothing is left behind then.
    """
    folder = temporary_of(file).parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        temporary = temporary_of(file)
        with _explained(file):
            checksums = _write_rows(temporary, rows, most_rows, row_format, len(siblings))
            if not checksums:
                return None
            _name_siblings(temporary, siblings)
            _read_back(temporary, row_format, checksums)
        index = _index_of(temporary)
        written = WrittenShard(
            len(checksums),
            temporary.stat().st_size,
            digest_file(temporary),
            digest_file(index),
            [c for _, c, _ in checksums],
        )
        for path in (index, temporary):
            path.rename(file.with_name(path.name))
        return written
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def temporary_of(file: Path) -> Path:
    """Return where a shard stands while it is written: under its own name, which its .db holds."""
    return file.with_name(f".{file.name}.tmp") / file.name


def iter_rows(
    files: Sequence[Path], positions: NDArray[Any] | None, batch: int, columns: Sequence[str] = COLUMNS
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield rows in batches of `batch` (the last may be smaller): arrays (n, ...) by column; float16 features are bytes.

    `positions`: which rows of all files in order, and in which order; at most as many as there are rows. None: all. A batch
    or two are read ahead by MindDataset's threads. Raises DataError where MindRecord cannot read.
    """
    import mindspore.dataset as ds

    sampler = {"shuffle": False} if positions is None else {"sampler": ds.SubsetSampler(positions.tolist())}
    prefetched = ds.config.get_prefetch_size()
    with _explained(files[0].parent):
        ds.config.set_prefetch_size(PREFETCHED)
        try:
            data = ds.MindDataset(
                [str(file) for file in files], columns_list=list(columns), num_parallel_workers=1, **sampler
            )
            rows = data.batch(batch, num_parallel_workers=1).create_dict_iterator(num_epochs=1, output_numpy=True)
        finally:
            ds.config.set_prefetch_size(prefetched)
        yield from rows


def load_header(file: Path) -> ShardHeader:
    """Read a shard's header, which is JSON, without MindSpore.

    Raises DataError naming the file where it or its .db is missing, or where it is truncated, damaged or without the columns
    id, feature and label.
    """
    if not _index_of(file).is_file():
        raise DataError(f"{_index_of(file)}: missing; MindRecord's index stands beside its shard")
    try:
        with file.open("rb") as stream:
            header = _parse_header(stream)
        (schema,) = header["schema"]
        pages = header["page"] or ()
        num_rows = sum(p["end_row_id"] - p["start_row_id"] for p in pages if p["page_type"] == "BLOB_DATA")
        columns, siblings = dict(schema["schema"]), [str(name) for name in header["shard_addresses"]]
        used = [header["page_size"] * page["page_id"] + page["page_size"] for page in pages]
        end = header["header_size"] + max(used, default=0)
    except OSError as error:
        raise DataError(f"{file}: cannot be opened: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: truncated, or not a MindRecord file: {error!r}") from None
    if file.stat().st_size < end:
        raise DataError(f"{file}: {file.stat().st_size} bytes, its header says {end}: truncated")
    if missing := [column for column in COLUMNS if column not in columns]:
        raise DataError(f"{file}: no column {missing[0]!r}; found {', '.join(columns)}; expected {', '.join(COLUMNS)}")
    return ShardHeader(file, num_rows, columns, siblings)


def _write_rows(
    file: Path, rows: Iterable[Row], most_rows: int, row_format: RowFormat, num_siblings: int
) -> list[tuple[int, int, int]]:
    """Write the rows; return of each its clip id and the checksums of feature and label."""
    from mindspore.mindrecord import FileWriter

    writer = FileWriter(str(file), 1)
    header_bytes, page_bytes = _plan_sizes(row_format, most_rows, num_siblings)
    writer.set_header_size(header_bytes)
    writer.set_page_size(page_bytes)
    writer.add_schema(row_format.schema, "fcn4dist")
    written: list[tuple[int, int, int]] = []
    iterator = iter(rows)
    while batch := [row_format.encode(row) for row in islice(iterator, BATCH_ROWS)]:
        written += [(row["id"], zlib.crc32(row["feature"]), zlib.crc32(row["label"])) for row in batch]
        writer.write_raw_data(batch)
    if written:
        writer.commit()
    return written


def _read_back(file: Path, row_format: RowFormat, written: list[tuple[int, int, int]]) -> None:
    found = []
    for batch in iter_rows([file], None, BATCH_ROWS):
        ids = batch["id"].tolist()
        found += [
            (clip_id, zlib.crc32(feature), zlib.crc32(label))
            for clip_id, feature, label in zip(ids, batch["feature"], batch["label"], strict=True)
        ]
    if found != written:
        lost = sorted({row[0] for row in written} - {row[0] for row in found}) or [
            before[0] for before, after in zip(written, found, strict=False) if before != after
        ]
        some = ", ".join(map(str, lost[:5]))
        raise DataError(f"{file.name}: MindRecord dropped or changed {len(lost)} of {len(written)} clips, ids {some}")


def _plan_sizes(row_format: RowFormat, num_rows: int, num_siblings: int) -> tuple[int, int]:
    """Return the bytes of the header, so that it can list all pages and siblings, and of a page, which holds whole rows.

    A large shard gets pages of about 4 MB, a small one about eight pages.
    Raises DataError for a row that fits none.
    """
    row = row_format.row_bytes
    if row > MAX_PAGE_BYTES:
        raise DataError(
            f"a clip of {row} bytes does not fit MindRecord's largest page, {MAX_PAGE_BYTES}; "
            "shorten mel.clip_s or mel.stored_s"
        )
    num_rows = max(1, num_rows)
    most_a_page = max(1, min(GOOD_PAGE_BYTES // row, -(-num_rows // PAGES_A_SHARD)))
    # as many in each page, since the last one takes its whole size, too
    rows_per_page = -(-num_rows // -(-num_rows // most_a_page))
    page = max(MIN_PAGE_BYTES, -(-rows_per_page * row // 4096) * 4096)
    num_pages = -(-num_rows // max(1, page // row)) + 2
    needed = num_pages * PAGE_ENTRY_BYTES + num_siblings * NAME_BYTES
    header = max(MIN_HEADER_BYTES, 1 << needed.bit_length())
    return min(header, MAX_HEADER_BYTES), min(page, MAX_PAGE_BYTES)


def _name_siblings(file: Path, siblings: Sequence[str]) -> None:
    """Write into the header of a shard that was written alone which shards stand beside it, and its place among them."""
    with file.open("r+b") as stream:
        header = _parse_header(stream)
        length = stream.tell() - 8
        header["shard_addresses"] = list(siblings)
        for page in header["page"]:
            page["shard_id"] = siblings.index(file.name)
        text = json.dumps(header, separators=(",", ":")).encode()
        if 8 + len(text) > header["header_size"]:
            raise DataError(f"{file.name}: the names of {len(siblings)} shards do not fit its header; set fewer")
        stream.seek(0)
        stream.write(len(text).to_bytes(8, "little") + text.ljust(length, b"\0"))


def _parse_header(stream: Any) -> dict[str, Any]:
    """Return the header at the beginning of a shard: 8 bytes with its length, then JSON."""
    length = int.from_bytes(stream.read(8), "little")
    if not 0 < length <= MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("no header")
    return header


def _index_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.db")


def in_words(column: dict[str, Any]) -> str:
    """Return a column of a schema for a message: "float32 1x96x1366"."""
    return " ".join([str(column["type"]), "x".join(map(str, column.get("shape", ())))]).strip()


@contextlib.contextmanager
def _explained(place: Path) -> Iterator[None]:
    """MindRecord says RuntimeError for everything, a full disk included."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        reason = next((line for line in lines if line.startswith("[ERROR]")), lines[0])
        free = shutil.disk_usage(place if place.is_dir() else place.parent).free
        hint = f"; {free >> 20} MB are free on this disk: make room and try again" if free < LITTLE_BYTES else ""
        raise DataError(f"{place}: MindRecord: {reason.removeprefix('[ERROR]').strip()}{hint}") from error
