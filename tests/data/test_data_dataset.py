"""Batches come out of the shards as MindSpore's own reader gives them, and broken shards are one message."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.mindrecord import FileWriter

from fcn4dist.data.dataset import Batch, RecordSplit, _read_into, has_split, open_split
from fcn4dist.data.manifest import MANIFEST
from fcn4dist.errors import DataError

SHAPE, NUM_TAGS = (1, 8, 30), 5
FEATURE = {"type": "float32", "shape": list(SHAPE)}
LABEL = {"type": "int32", "shape": [NUM_TAGS]}
SCHEMA = {"id": {"type": "int32"}, "feature": FEATURE, "label": LABEL}
HEADER_BYTES, PAGE_BYTES = 1 << 14, 1 << 15  # a page holds 33 rows


def make_row(clip_id: int, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(abs(clip_id))
    label = rng.integers(0, 2, NUM_TAGS).astype(np.int32)
    return {"id": clip_id, "feature": rng.normal(size=SHAPE).astype(np.float32), "label": label, **more}


def write(
    folder: Path,
    rows: list[dict[str, Any]],
    num_shards: int = 3,
    schema: dict[str, Any] = SCHEMA,
    index: str = "id",
) -> Path:
    """Write shards of val as ModelZoo's script does."""
    folder.mkdir(exist_ok=True)
    writer = FileWriter(str(folder / ("val.mindrecord" if num_shards > 1 else "val.mindrecord0")), num_shards)
    writer.set_header_size(HEADER_BYTES)
    writer.set_page_size(PAGE_BYTES)
    writer.add_schema(schema, "music_tagger_schema")
    writer.add_index([index])
    writer.write_raw_data(rows)
    writer.commit()
    return folder


def describe(folder: Path, num_clips: int, dtype: str) -> None:
    """Write the manifest of shards in `folder`, which have one row more or less in each."""
    files = sorted(file.name for file in folder.glob("val.mindrecord*[0-9]"))
    shards = [
        {"file": file, "split": "val", "num_rows": 0, "num_bytes": 0, "sha256": "", "index_sha256": ""}
        for file in files
    ]
    shards[0]["num_rows"] = num_clips
    document = {
        "format_version": 1, "mel": {}, "feature_dtype": dtype, "feature_shape": SHAPE, "tags": list("abcde"),
        "split": {"name": "made up", "rule": ""}, "splits": {}, "shards": shards, "num_listed": num_clips,
        "num_written": num_clips, "skipped": [],
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(document))


def minddata(split: RecordSplit, positions: np.ndarray, batch: int) -> list[list[np.ndarray]]:
    """Return the batches that MindSpore's own reader gives."""
    sampler = ds.SubsetSampler(positions.tolist())
    rows = ds.MindDataset([str(file) for file in split.files], ["id", "feature", "label"], 1, sampler=sampler)
    return list(rows.batch(batch).create_tuple_iterator(num_epochs=1, output_numpy=True))


def check_equal(found: list[Batch], expected: list[list[np.ndarray]]) -> None:
    assert [len(batch.clip_ids) for batch in found] == [len(ids) for ids, _, _ in expected]
    for batch, (ids, features, labels) in zip(found, expected, strict=True):
        for mine, theirs in ((batch.clip_ids, ids), (batch.labels, labels), (batch.mel_db, features)):
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
            assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(("num_rows", "num_shards"), [(1, 1), (3, 3), (70, 1), (130, 3), (60, 12)])
def test_any_order_gives_what_mindspore_reads(tmp_path: Path, num_rows: int, num_shards: int) -> None:
    split = open_split(write(tmp_path / "a b%#?ä", [make_row(7 * i - 50) for i in range(num_rows)], num_shards), "val")
    assert (split.num_clips, split.feature_shape, len(split.tags)) == (num_rows, SHAPE, NUM_TAGS)
    shuffled = np.random.default_rng(num_rows).permutation(num_rows)
    for positions in (np.arange(num_rows), shuffled, shuffled[: num_rows // 2 + 1]):
        check_equal(list(split.iter_batches(positions, 8)), minddata(split, positions, 8))
    assert list(split.iter_batches(shuffled[:0], 8)) == []
    ids, labels = split.load_labels()
    ((all_ids, _, all_labels),) = minddata(split, np.arange(num_rows), num_rows)
    np.testing.assert_array_equal(ids, all_ids)
    np.testing.assert_array_equal(labels, all_labels)


def test_float16_features_are_bytes_in_the_shards_and_float32_in_the_batch(tmp_path: Path) -> None:
    rows = [make_row(i) for i in range(40)]
    halves = [row["feature"].astype(np.float16) for row in rows]
    stored = [{**row, "feature": half.tobytes()} for row, half in zip(rows, halves, strict=True)]
    describe(write(tmp_path / "set", stored, 3, {**SCHEMA, "feature": {"type": "bytes"}}), 40, "float16")
    split = open_split(tmp_path / "set", "val")
    positions = np.random.default_rng(0).permutation(40)
    expected = minddata(split, positions, 16)
    for batch in expected:
        batch[1] = batch[1].view(np.float16).reshape(-1, *SHAPE).astype(np.float32)
    found = list(split.iter_batches(positions, 16))
    check_equal(found, expected)
    by_id = dict(zip(range(40), halves, strict=True))
    for batch in found:
        for clip_id, mel_db in zip(batch.clip_ids.tolist(), batch.mel_db, strict=True):
            np.testing.assert_array_equal(mel_db, by_id[clip_id].astype(np.float32))


def test_an_id_that_is_not_indexed_is_read_from_the_scalars(tmp_path: Path) -> None:
    ids = [0, 127, 128, 255, 256, 65536, 2**31 - 1, -1, -32, -33, -129, -32769, -(2**31)]
    texts = ["", "ä id", "\u00a2id", "x" * 31, "y" * 32, "z" * 300]
    scalars = {"title": {"type": "string"}, "level": {"type": "float64"}, "zone": {"type": "int64"}}
    rows = [make_row(i, title=texts[i % 6], level=i / 7, zone=i * 2**32) for i in ids]
    split = open_split(write(tmp_path / "set", rows, 2, {**scalars, **SCHEMA}, index="title"), "val")
    positions = np.arange(len(ids))[::-1]
    found = list(split.iter_batches(positions, 5))
    check_equal(found, minddata(split, positions, 5))
    assert sorted(i for batch in found for i in batch.clip_ids.tolist()) == sorted(ids)


def test_kept_batches_keep_their_clips_and_no_thread_or_file_is_left(tmp_path: Path) -> None:
    split = open_split(write(tmp_path / "set", [make_row(i) for i in range(60)]), "val")
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    batches = split.iter_batches(np.arange(60), 8)
    kept = [next(batches) for _ in range(4)]
    batches.close()  # type: ignore[attr-defined]
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, files)
    check_equal(kept, minddata(split, np.arange(32), 8))


def test_a_moved_read_only_set_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", [make_row(i) for i in range(9)]).rename(tmp_path / "moved")
    for file in folder.iterdir():
        file.chmod(0o400)
    folder.chmod(0o500)
    before = sorted(file.name for file in folder.iterdir())
    try:
        split = open_split(folder, "val")
        assert sum(len(batch.labels) for batch in split.iter_batches(np.arange(9), 4)) == 9
        assert sorted(file.name for file in folder.iterdir()) == before
    finally:
        folder.chmod(0o700)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("whole") / "set", [make_row(i) for i in range(40)], 2)


def sql(statement: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with sqlite3.connect(folder / "val.mindrecord1.db") as db:
            db.execute(statement)
        db.close()

    return change


def replace(name: str, content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content((folder / name).read_bytes()))

    return change


def swap_indexes(folder: Path) -> None:
    shutil.copy(folder / "val.mindrecord0.db", folder / "val.mindrecord1.db")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no index": (lambda folder: (folder / "val.mindrecord1.db").unlink(), r"val\.mindrecord1\.db: missing"),
    "an index that is none": (replace("val.mindrecord1.db", lambda _: b"x" * 5000), r"1\.db: damaged: file is not a data"),
    "an empty index": (replace("val.mindrecord1.db", lambda _: b""), r"1\.db: damaged: no such table: SHARD_NAME"),
    "half an index": (replace("val.mindrecord1.db", lambda content: content[:4096]), r"1\.db: damaged: .*malformed"),
    "another's index": (swap_indexes, r"1\.db: the index of val\.mindrecord0; expected val\.mindrecord1"),
    "rows missing": (sql("DELETE FROM INDEXES WHERE ROW_ID = 3"), r"1\.db: 19 rows; the header of .* has 20"),
    "text": (sql("UPDATE INDEXES SET PAGE_OFFSET_BLOB = 'x' WHERE ROW_ID = 3"), r"1\.db: damaged: .*invalid literal"),
    "beyond": (sql("UPDATE INDEXES SET PAGE_ID_BLOB = 9 WHERE ROW_ID = 3"), r"mindrecord1: .* bytes, rows go to .*truncated"),
    "before": (sql("UPDATE INDEXES SET PAGE_ID_BLOB = -1 WHERE ROW_ID = 3"), r"mindrecord1: .* bytes, rows go to"),
    "another size": (
        sql("UPDATE INDEXES SET PAGE_OFFSET_BLOB_END = 4000 WHERE ROW_ID = 3"),
        r"mindrecord1: clip \d+ has 1\d+ bytes; expected 99\d: a feature of 960 and 5 labels, 0 or 1",
    ),
    "no shard": (lambda folder: (folder / "val.mindrecord1").unlink(), r"set: val\.mindrecord0 here; .* a shard is missing"),
    "a shard too many": (
        lambda folder: shutil.copy(folder / "val.mindrecord1", folder / "val.mindrecord2") and None,
        r"val\.mindrecord2\.db: missing",
    ),
    "empty": (replace("val.mindrecord1", lambda _: b""), r"mindrecord1: truncated, or not a MindRecord file"),
    "a torn header": (replace("val.mindrecord1", lambda content: content[:400]), r"mindrecord1: truncated, or not"),
    "no header": (replace("val.mindrecord1", lambda content: b"\xff" * 8 + content[8:]), r"mindrecord1: truncated, or not"),
    "no JSON": (
        replace("val.mindrecord1", lambda content: content.replace(b'{"header_size"', b"[header_size ", 1)),
        r"mindrecord1: the header is damaged, or not MindRecord's: .*JSON",
    ),
    "another version": (
        replace("val.mindrecord1", lambda content: content.replace(b'"version":"3.0"', b'"version":"9.0"', 1)),
        r"mindrecord1: the header is damaged, or not MindRecord's: version: Input should be '3\.0'",
    ),
    "torn pages": (replace("val.mindrecord1", lambda content: content[: HEADER_BYTES + 5000]), r"mindrecord1: 21384 bytes.*"),
    "a folder": (
        lambda folder: (folder / "val.mindrecord1").unlink() or (folder / "val.mindrecord1").mkdir(),
        r"mindrecord1: cannot be opened: Is a directory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_set_is_refused_when_it_is_opened(tmp_path: Path, written: Path, kind: str) -> None:
    folder = tmp_path / "set"
    shutil.copytree(written, folder)
    change, message = BROKEN[kind]
    change(folder)
    assert has_split(folder, "val")
    with pytest.raises(DataError, match=message):
        open_split(folder, "val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[: HEADER_BYTES + 1000], r"mindrecord0: clip 1 is damaged: it ends after \d+ of \d+ bytes"),
        (lambda content: content[:HEADER_BYTES] + b"\x01" + content[HEADER_BYTES + 1 :], r"clip 0 is damaged: lengths 0"),
        (lambda content: content[: 976 + HEADER_BYTES] + b"\x01" + content[977 + HEADER_BYTES :], r"clip 0 is damaged: leng"),
    ],
)  # fmt: skip
def test_what_breaks_after_it_was_opened_names_the_clip(
    tmp_path: Path, written: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(written, folder)
    split = open_split(folder, "val")
    replace("val.mindrecord0", change)(folder)
    with pytest.raises(DataError, match=message):
        list(split.iter_batches(np.arange(40), 8))
    (folder / "val.mindrecord0").unlink()
    with pytest.raises(DataError, match=r"val\.mindrecord0: cannot be opened: No such file"):
        list(split.iter_batches(np.arange(40), 8))
    with pytest.raises(DataError, match=r"val\.mindrecord0: cannot be opened: No such file"):
        split.load_labels()


@pytest.mark.parametrize(
    ("column", "spec", "value", "message"),
    [
        ("id", {"type": "string"}, "7", "id is string; expected int32"),
        ("id", {"type": "int64"}, 7, "id is int64; expected int32"),
        ("feature", {"type": "float64", "shape": [1, 8, 30]}, np.zeros(SHAPE), r"is float64 \[1, 8, 30\]; expected float32"),
        ("feature", {"type": "float32", "shape": [8, 30]}, np.zeros((8, 30), "f"), r"feature is float32 \[8, 30\]; expected"),
        ("feature", {"type": "float32", "shape": [1, 8, -1]}, np.zeros(SHAPE, "f"), r"feature is float32 \[1, 8, -1\]; expected"),
        ("feature", {"type": "bytes"}, b"ab", r"feature is bytes; expected float32 \[1, mel bands, frames\]"),
        ("label", {"type": "float32", "shape": [5]}, np.zeros(5, "f"), r"label is float32 \[5\]; expected int32 \[5\]"),
        ("label", {"type": "int32", "shape": [1, 5]}, np.zeros((1, 5), "i"), r"label is int32 \[1, 5\]; expected int32 \[num"),
        ("label", {"type": "int32"}, 1, "arrays in the columns feature; expected feature and label alone"),
        ("extra", {"type": "bytes"}, b"ab", "arrays in the columns extra, feature, label; expected feature and label alone"),
        ("label", LABEL, np.full(5, 300, "i"), r"clip 0 has \d+ bytes; expected \d+: a feature of 960 and 5 labels, 0 or 1"),
    ],
)  # fmt: skip
def test_other_columns_are_refused(tmp_path: Path, column: str, spec: Any, value: Any, message: str) -> None:
    rows = [{**make_row(0), column: value}]
    with pytest.raises(DataError, match=message):
        open_split(write(tmp_path / "set", rows, 1, {**SCHEMA, column: spec}), "val")


def test_a_missing_column_other_tags_and_the_manifests_word_are_refused(tmp_path: Path, written: Path) -> None:
    schema = {name: spec for name, spec in SCHEMA.items() if name != "label"}
    row = {name: value for name, value in make_row(0).items() if name != "label"}
    with pytest.raises(DataError, match=r"no column 'label'; found feature, id; expected id, feature, label"):
        open_split(write(tmp_path / "set", [row], 1, schema), "val")
    with pytest.raises(DataError, match=r"labels of 5 columns, but 2 tags are named"):
        open_split(written, "val", ["rock", "pop"])
    shutil.copytree(written, tmp_path / "described")
    describe(tmp_path / "described", 41, "float32")
    with pytest.raises(DataError, match=r"the shards hold 40 rows, manifest\.json says 41: one is replaced"):
        open_split(tmp_path / "described", "val")
    describe(tmp_path / "described", 40, "float16")
    with pytest.raises(DataError, match=r"mindrecord0: feature is float32 \[1, 8, 30\]; expected bytes"):
        open_split(tmp_path / "described", "val")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="the failing file is Linux's")
def test_a_disk_that_fails_while_it_is_read_is_one_message() -> None:
    with (
        FileIO("/proc/self/mem") as file,  # nothing is mapped at 0: EIO
        pytest.raises(DataError, match="/proc/self/mem: cannot be read: Input/output error"),
    ):
        _read_into([bytearray(8)], file, 0)
