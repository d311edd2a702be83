"""MindRecord shards: what is written comes back, together or alone, through MindSpore's own reader."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest

from fcn4dist.data.shards import MAX_HEADER_BYTES, Row, RowFormat, _plan_sizes, load_header, write_shard
from fcn4dist.errors import DataError

FORMAT = RowFormat((1, 8, 30), "float32", 3)


def make_rows(num_rows: int, row_format: RowFormat = FORMAT, first: int = 1) -> list[Row]:
    rng = np.random.default_rng(num_rows)
    return [
        Row(
            10 * i + first,
            rng.normal(size=row_format.feature_shape).astype(row_format.feature_dtype),
            rng.integers(-1, 2, row_format.num_tags).astype(np.int8),
        )
        for i in range(num_rows)
    ]


def write_apart(folder: Path, rows: list[list[Row]], row_format: RowFormat = FORMAT, part: str = "train") -> list[Path]:
    names = [f"{part}.mindrecord{i}" for i in range(len(rows))]
    for name, own in reversed(list(zip(names, rows, strict=True))):  # in any order
        assert write_shard(folder / name, own, max(map(len, rows)), row_format, names) is not None
    return [folder / name for name in names]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("sizes", [[1], [50], [1, 1, 1], [33, 33, 32, 33], [3] * 12])
@pytest.mark.parametrize("frames", [30, 1000])  # small rows, and such that the size of a page follows from their number
def test_shards_written_apart_are_one_set_as_modelzoo_opens_it(
    tmp_path: Path, sizes: list[int], frames: int, dtype: str
) -> None:
    row_format = RowFormat((1, 8, frames), dtype, 3)  # type: ignore[arg-type]
    ends = np.cumsum([0, *sizes])
    rows = make_rows(sum(sizes), row_format)
    files = write_apart(tmp_path, [rows[a:b] for a, b in itertools.pairwise(ends)], row_format)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [file.name + suffix for file in files for suffix in ("", ".db")]
    )
    for source in (str(files[0]), [str(file) for file in files]):  # by the first one's name, and by the list
        data = ds.MindDataset(source, columns_list=["id", "feature", "label"], shuffle=False)
        found = list(data.create_dict_iterator(num_epochs=1, output_numpy=True))
        assert [int(row["id"]) for row in found] == [row.clip_id for row in rows]
        for stored, row in zip(found, rows, strict=True):
            assert stored["label"].tolist() == row.label.tolist()
            np.testing.assert_array_equal(row_format.decode(stored["feature"][None])[0], row.feature)
    for file, size in zip(files, sizes, strict=True):
        header = load_header(file)
        assert (header.num_rows, header.siblings) == (size, [file.name for file in files])
        header.check(row_format)


def test_no_rows_give_no_shard(tmp_path: Path) -> None:
    assert write_shard(tmp_path / "test.mindrecord0", [], 0, FORMAT, ["test.mindrecord0"]) is None
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_mindrecord_drops_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    rows = make_rows(5)
    rows[2] = Row(21, rows[2].feature, np.zeros(4, np.int8))  # a label too many: FileWriter only warns
    with pytest.raises(DataError, match="MindRecord dropped or changed 1 of 5 clips, ids 21"):
        write_shard(tmp_path / "train.mindrecord0", rows, 5, FORMAT, ["train.mindrecord0"])
    assert list(tmp_path.iterdir()) == []


def test_rows_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    alive: set[int] = set()
    most = 0

    def stream() -> Iterator[Row]:
        nonlocal most
        for row in make_rows(400):
            feature = np.array(row.feature)
            alive.add(row.clip_id)
            weakref.finalize(feature, alive.discard, row.clip_id)
            most = max(most, len(alive))
            yield Row(row.clip_id, feature, row.label)

    write_shard(tmp_path / "train.mindrecord0", stream(), 400, FORMAT, ["train.mindrecord0"])
    assert 0 < most <= 40  # a batch or two of 16


@pytest.mark.parametrize(
    ("row_format", "num_rows", "num_bytes"),
    [
        (RowFormat((1, 96, 1366), "float32", 50), 505, 265_000_000),  # MagnaTagATune: 18,706 clips in 37 shards
        (RowFormat((1, 96, 1366), "float32", 50), 361, 189_600_000),
        (RowFormat((1, 96, 1366), "float16", 50), 4677, 1_227_000_000),
        (RowFormat((1, 96, 188), "float32", 10), 120, 8_665_000),
        (RowFormat((1, 96, 188), "float32", 10), 1, 72_300),
    ],
)
def test_shards_waste_little(row_format: RowFormat, num_rows: int, num_bytes: int) -> None:
    header_bytes, page_bytes = _plan_sizes(row_format, num_rows, 40)
    num_pages = -(-num_rows // (page_bytes // row_format.row_bytes))
    total = header_bytes + page_bytes * (num_pages + 1)
    assert total < 1.03 * num_bytes + page_bytes + 200_000
    assert page_bytes * num_pages < 1.03 * num_bytes + 4096 * num_pages + 200_000
    assert page_bytes <= 256 << 20
    assert 16 << 10 <= header_bytes <= MAX_HEADER_BYTES
    assert header_bytes >= 100 * num_pages


def test_a_thousand_siblings_fit_the_header_and_an_impossible_row_is_refused(tmp_path: Path) -> None:
    names = [f"train.mindrecord{i}" for i in range(1000)]
    assert write_shard(tmp_path / names[999], make_rows(1), 1, FORMAT, names) is not None
    assert load_header(tmp_path / names[999]).siblings == names
    huge = RowFormat((1, 96, 1_000_000), "float32", 50)
    with pytest.raises(DataError, match=r"largest page.*shorten mel\.clip_s"):
        write_shard(tmp_path / "val.mindrecord0", [], 10, huge, ["val.mindrecord0"])
    assert len(list(tmp_path.iterdir())) == 2
