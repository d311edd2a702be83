"""MindRecord shards: what is written comes back, whatever the numbers of rows and shards."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fcn4dist.data.shards import Row, RowFormat, Sizes, iter_stored, plan_sizes, write_part
from fcn4dist.errors import DataError

FORMAT = RowFormat((1, 8, 30), "float32", 3)


def make_rows(num_rows: int, row_format: RowFormat = FORMAT) -> list[Row]:
    rng = np.random.default_rng(num_rows)
    return [
        Row(
            10 * i + 1,
            rng.normal(size=row_format.feature_shape).astype(row_format.feature_dtype),
            rng.integers(0, 2, row_format.num_tags).astype(np.int32),
        )
        for i in range(num_rows)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("num_rows", "num_shards"), [(1, 1), (50, 1), (3, 4), (23, 4), (40, 12), (4, 4)])
def test_every_row_comes_back(tmp_path: Path, num_rows: int, num_shards: int, dtype: str) -> None:
    row_format = RowFormat((1, 8, 30), dtype, 3)  # type: ignore[arg-type]
    rows = make_rows(num_rows, row_format)
    shards = write_part(tmp_path, "train", rows, num_rows, num_shards, row_format)
    width = len(str(num_shards - 1)) if num_rows >= num_shards else 1
    assert [shard.file.name for shard in shards] == [
        f"train.mindrecord{i:0{width}d}" for i in range(min(num_rows, num_shards))
    ]
    stored = [list(iter_stored(shard.file)) for shard in shards]
    assert [len(part) for part in stored] == [shard.num_rows for shard in shards]
    assert max(map(len, stored)) - min(map(len, stored)) <= max(1, 16 // num_shards)
    for part in stored:
        ids = [int(row["id"]) for row in part]
        assert ids == sorted(ids)
    by_id = {int(row["id"]): row for part in stored for row in part}
    assert len(by_id) == num_rows
    for row in rows:
        feature = by_id[row.clip_id]["feature"]
        if dtype == "float16":
            feature = np.frombuffer(feature.tobytes(), np.float16).reshape(row_format.feature_shape)
        assert feature.dtype == dtype
        np.testing.assert_array_equal(feature, row.feature)
        np.testing.assert_array_equal(by_id[row.clip_id]["label"], row.label)


def test_mindspore_reads_the_shards_as_modelzoo_reads_its_own(tmp_path: Path) -> None:
    import mindspore.dataset as ds

    rows = make_rows(10)
    write_part(tmp_path, "val", rows, 10, 4, FORMAT)
    data = ds.MindDataset(str(tmp_path / "val.mindrecord0"), columns_list=["id", "feature", "label"], shuffle=False)
    found = {int(row["id"]): row for row in data.create_dict_iterator(num_epochs=1, output_numpy=True)}
    assert sorted(found) == [row.clip_id for row in rows]
    assert found[11]["feature"].shape == (1, 8, 30)
    assert found[11]["label"].dtype == np.int32


def test_no_rows_give_no_shard(tmp_path: Path) -> None:
    assert write_part(tmp_path, "test", [], 0, 4, FORMAT) == []
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_mindrecord_drops_is_an_error(tmp_path: Path) -> None:
    rows = make_rows(5)
    rows[2] = Row(21, rows[2].feature, np.zeros(4, np.int32))  # a label too many: FileWriter only warns
    with pytest.raises(DataError, match="MindRecord dropped 1 of 5 clips, first ids: 21"):
        write_part(tmp_path, "train", rows, 5, 2, FORMAT)


def test_a_repeated_or_a_missing_clip_is_an_error(tmp_path: Path) -> None:
    rows = make_rows(4)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="3 different clips came to the writer, 4 were expected"):
        write_part(tmp_path / "a", "train", [*rows[:3], rows[0]], 4, 1, FORMAT)
    with pytest.raises(DataError, match="3 different clips"):
        write_part(tmp_path / "b", "train", rows[:3], 4, 1, FORMAT)


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

    write_part(tmp_path, "train", stream(), 400, 3, FORMAT)
    assert 0 < most <= 40  # a batch or two of 18


@pytest.mark.parametrize(
    ("row_format", "rows_per_shard", "num_bytes"),
    [
        (RowFormat((1, 96, 1366), "float32", 50), 4677, 2_454_000_000),  # MagnaTagATune: 18,709 clips in 4 shards
        (RowFormat((1, 96, 1366), "float16", 50), 4677, 1_227_000_000),
        (RowFormat((1, 96, 188), "float32", 10), 120, 8_665_000),
        (RowFormat((1, 96, 188), "float32", 10), 1, 72_300),
    ],
)
def test_shards_waste_little(row_format: RowFormat, rows_per_shard: int, num_bytes: int) -> None:
    sizes = plan_sizes(row_format, rows_per_shard)
    rows_per_page = sizes.page_bytes // row_format.row_bytes
    num_pages = -(-rows_per_shard // rows_per_page)
    total = sizes.header_bytes + sizes.page_bytes * (num_pages + 1)
    assert total < 1.3 * num_bytes + 200_000
    assert sizes.page_bytes <= 256 << 20
    assert 16 << 10 <= sizes.header_bytes <= 128 << 20
    assert sizes.header_bytes >= 100 * num_pages


def test_sizes_of_an_ordinary_and_an_impossible_set() -> None:
    assert plan_sizes(RowFormat((1, 96, 1366), "float32", 50), 5000) == Sizes(
        header_bytes=1 << 16, page_bytes=-(-63 * (96 * 1366 * 4 + 200 + 128) // 4096) * 4096
    )
    with pytest.raises(DataError, match=r"largest page.*shorten mel\.clip_s"):
        plan_sizes(RowFormat((1, 96, 1_000_000), "float32", 50), 10)
