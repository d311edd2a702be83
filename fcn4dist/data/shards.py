"""MindRecord shards: write the rows of one split part, and read every row back to see that it is there.

`FileWriter` drops rows that it does not like with no more than a warning, and readers return flipped bits silently, so
nothing counts as written before it was read again.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mindspore.dataset import MindDataset
from mindspore.mindrecord import FileWriter
from numpy.typing import NDArray

from fcn4dist.data.manifest import SplitPart
from fcn4dist.data.row_format import Row, RowFormat
from fcn4dist.errors import DataError

_log = logging.getLogger(__name__)

BATCH_ROWS = 16  # rows in memory at once, or one a shard if that is more
MIN_PAGE_BYTES, MAX_PAGE_BYTES = 32 << 10, 256 << 20  # MindRecord's limits
GOOD_PAGE_BYTES = 32 << 20  # MindRecord's default
MIN_HEADER_BYTES, MAX_HEADER_BYTES = 16 << 10, 128 << 20
PAGE_ENTRY_BYTES = 512  # of a page in the header, generously
PAGES_A_SHARD = 8  # aimed at in small sets: a shard wastes up to one page


@dataclass(frozen=True)
class Sizes:
    """How a shard is laid out."""

    header_bytes: int
    page_bytes: int


@dataclass(frozen=True)
class WrittenShard:
    """A shard that was read back."""

    file: Path
    num_rows: int


def plan_sizes(row_format: RowFormat, rows_per_shard: int) -> Sizes:
    """Choose pages that hold whole rows with little waste, and a header that can list all pages.

    A large set gets pages of MindRecord's usual 32 MB; a small one about eight pages a shard. Raises DataError for a
    row that fits no page.
    """
    row = row_format.row_bytes
    if row > MAX_PAGE_BYTES:
        raise DataError(
            f"a clip of {row} bytes does not fit MindRecord's largest page, {MAX_PAGE_BYTES}; shorten mel.clip_s"
        )
    rows_per_page = max(1, min(GOOD_PAGE_BYTES // row, -(-rows_per_shard // PAGES_A_SHARD)))
    page = max(MIN_PAGE_BYTES, _round_up(rows_per_page * row, 4096))
    num_pages = -(-rows_per_shard // (page // row)) + 2
    header = max(MIN_HEADER_BYTES, 1 << (num_pages * PAGE_ENTRY_BYTES).bit_length())
    return Sizes(min(header, MAX_HEADER_BYTES), min(page, MAX_PAGE_BYTES))


def write_part(
    folder: Path, part: SplitPart, rows: Iterable[Row], num_rows: int, num_shards: int, row_format: RowFormat
) -> list[WrittenShard]:
    """Write `num_rows` rows, given in ascending order of clip_id, into `num_shards` shards of `folder`.

    Files are PART.mindrecord0 and so on (MindRecord pads the numbers with zeros from 11 shards on). Fewer rows than
    shards give one shard a row; no rows give no shard. Every row is read back and compared.
    Raises DataError when a row is missing or differs; OSError or RuntimeError where MindRecord cannot write.
    """
    if num_rows == 0:
        return []
    num_shards = min(num_shards, num_rows)
    stem = f"{part}.mindrecord"
    writer = FileWriter(str(folder / (stem if num_shards > 1 else stem + "0")), num_shards)
    sizes = plan_sizes(row_format, -(-num_rows // num_shards) + 1)
    writer.set_header_size(sizes.header_bytes)
    writer.set_page_size(sizes.page_bytes)
    writer.add_schema(row_format.schema, "fcn4dist")
    written: dict[int, tuple[int, int]] = {}  # clip_id -> checksums
    iterator = iter(rows)
    batch_rows = _round_up(BATCH_ROWS, num_shards)  # so that every call gives each shard as many
    while batch := [row_format.encode(row) for row in islice(iterator, batch_rows)]:
        written.update({row["id"]: _checksums(row) for row in batch})
        writer.write_raw_data(batch)
    writer.commit()
    width = len(str(num_shards - 1))
    files = [folder / f"{stem}{str(i).rjust(width, '0')}" for i in range(num_shards)]
    if len(written) != num_rows:
        raise DataError(
            f"{folder}: {part}: {len(written)} different clips came to the writer, {num_rows} were expected"
        )
    return _verify(part, files, written)


def iter_stored(file: Path) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the rows of one shard in order; float16 features are flat bytes. RuntimeError where MindRecord cannot read.

    Through MindDataset, since FileReader takes the whole shard into memory.
    """
    data = MindDataset([str(file)], columns_list=["id", "feature", "label"], num_parallel_workers=1, shuffle=False)
    yield from data.create_dict_iterator(num_epochs=1, output_numpy=True)


def _verify(part: SplitPart, files: list[Path], written: dict[int, tuple[int, int]]) -> list[WrittenShard]:
    missing = dict(written)
    shards = []
    for file in files:
        num_rows = 0
        for stored in iter_stored(file):
            clip_id = int(stored["id"])
            if missing.pop(clip_id, None) != _checksums(stored):
                raise DataError(f"{file}: clip {clip_id} came back from MindRecord twice or changed; run prepare again")
            num_rows += 1
        _log.info("%s: %d rows read back", file.name, num_rows)
        shards.append(WrittenShard(file, num_rows))
    if missing:
        some = ", ".join(map(str, sorted(missing)[:5]))
        raise DataError(f"{part}: MindRecord dropped {len(missing)} of {len(written)} clips, first ids: {some}")
    return shards


def _checksums(row: dict[str, Any]) -> tuple[int, int]:
    feature, label = row["feature"], row["label"]
    return zlib.crc32(feature if isinstance(feature, bytes) else feature.tobytes()), zlib.crc32(label.tobytes())


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
