"""A data set: batches as MindSpore's own reader gives them, what the folder tells, and broken folders in one message."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np
import pytest
from audio_set import AudioSet, make_audio_set
from mindspore.mindrecord import FileWriter

from fcn4dist.config import AugmentConfig, MelConfig, load_config, override_config
from fcn4dist.data.augment import check_augment
from fcn4dist.data.dataset import Batch, DataSet, Split, describe_lengths, open_dataset
from fcn4dist.data.manifest import ClipTable, format_clip_tables, load_clip_tables
from fcn4dist.data.order import mixup_partners
from fcn4dist.data.prepare import prepare
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


def minddata(split: Split, positions: np.ndarray, batch: int) -> list[list[np.ndarray]]:
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
    folder = write(tmp_path / "a b%#?ä", [make_row(7 * i - 50) for i in range(num_rows)], num_shards)
    split = open_dataset(folder).split("val")
    assert (split.num_clips, split.feature_shape, len(split.tags)) == (num_rows, SHAPE, NUM_TAGS)
    shuffled = np.random.default_rng(num_rows).permutation(num_rows)
    for positions in (np.arange(num_rows), shuffled, shuffled[: num_rows // 2 + 1]):
        check_equal(list(split.iter_batches(positions, 8)), minddata(split, positions, 8))
    assert list(split.iter_batches(shuffled[:0], 8)) == []
    ((all_ids, features, all_labels),) = minddata(split, np.arange(num_rows), num_rows)
    np.testing.assert_array_equal(split.clip_ids, all_ids)
    np.testing.assert_array_equal(split.labels, all_labels)
    some = [num_rows - 1, 0, num_rows - 1]
    np.testing.assert_array_equal(split.read(some), features[some])
    for wrong in (np.array([num_rows]), np.array([-1])):
        with pytest.raises(IndexError, match=f"val has {num_rows} clips"):
            list(split.iter_batches(wrong, 8))


def test_partners_are_read_beside_their_clips_however_the_batch_is_cut(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", [make_row(7 * i - 50) for i in range(70)])
    split = open_dataset(folder).split("val")
    order, partners = np.random.default_rng(0).permutation(70), mixup_partners(70, 1, 0)
    whole = split.read(np.arange(70))
    for size in (1, 8, 35):
        pairs = list(split.iter_pairs(order, partners[order], size))
        for i, side in enumerate((order, partners[order])):
            np.testing.assert_array_equal(np.concatenate([pair[i].mel_db for pair in pairs]), whole[side])
            np.testing.assert_array_equal(np.concatenate([pair[i].clip_ids for pair in pairs]), side * 7 - 50)


def test_clips_that_a_training_cannot_use_are_named(tmp_path: Path) -> None:
    rows = [make_row(i, label=np.zeros(NUM_TAGS, np.int32)) for i in range(5)]
    rows[3]["feature"][0, 2, 7] = np.nan
    split = open_dataset(write(tmp_path / "d", rows)).split("val")
    with pytest.raises(DataError, match=r"d: none of the 5 clips of val has a tag"):
        split.check_positives()
    first, second = split.iter_batches(np.array([0, 1, 4, 3]), 2)
    first.check_finite(tmp_path)
    with pytest.raises(DataError, match=r"clip 3: 1 of its features are NaN or infinite; prepare the data again"):
        second.check_finite(tmp_path)
    check_augment(AugmentConfig(mixup=0.2, time_masks=1, time_mask_frames=29), split)
    with pytest.raises(
        DataError, match=r"val has clips of 30, 2 masks of augment\.time_mask_frames may blank 30 of them"
    ):
        check_augment(AugmentConfig(time_masks=2, time_mask_frames=15), split)
    rows[1]["label"][2] = -1
    unknown = open_dataset(write(tmp_path / "u", rows)).split("val")
    check_augment(AugmentConfig(), unknown)
    with pytest.raises(DataError, match=r"val has 1 unknown labels, and augment\.mixup 0\.2 mixes only known ones"):
        check_augment(AugmentConfig(mixup=0.2), unknown)


def test_two_readers_at_once_and_one_that_is_left_early_do_not_disturb_each_other(tmp_path: Path) -> None:
    split = open_dataset(write(tmp_path / "set", [make_row(i) for i in range(60)])).split("val")
    left = split.iter_batches(np.arange(60), 8)
    kept = [next(left) for _ in range(2)]
    backwards = list(split.iter_batches(np.arange(60)[::-1], 8))
    kept += [next(left) for _ in range(2)]
    left.close()  # type: ignore[attr-defined]
    check_equal(kept, minddata(split, np.arange(32), 8))
    check_equal(backwards, minddata(split, np.arange(60)[::-1], 8))


def test_a_moved_read_only_set_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", [make_row(i) for i in range(9)]).rename(tmp_path / "moved")
    for file in folder.iterdir():
        file.chmod(0o400)
    folder.chmod(0o500)
    before = sorted(file.name for file in folder.iterdir())
    try:
        split = open_dataset(folder).split("val")
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
    "no shard": (lambda folder: (folder / "val.mindrecord1").unlink(), r"set: val\.mindrecord0 here; .* a shard is missing"),
    "a shard too many": (  # type: ignore[dict-item]
        lambda folder: shutil.copy(folder / "val.mindrecord1", folder / "val.mindrecord2") and None,
        r"val\.mindrecord2\.db: missing",
    ),
    "empty": (replace("val.mindrecord1", lambda _: b""), r"mindrecord1: truncated, or not a MindRecord file"),
    "a torn header": (replace("val.mindrecord1", lambda content: content[:400]), r"mindrecord1: truncated, or not"),
    "no header": (replace("val.mindrecord1", lambda content: b"\xff" * 8 + content[8:]), r"mindrecord1: truncated, or not"),
    "no JSON": (
        replace("val.mindrecord1", lambda content: content.replace(b'{"header_size"', b"[header_size ", 1)),
        r"mindrecord1: truncated, or not a MindRecord file",
    ),
    "torn pages": (replace("val.mindrecord1", lambda content: content[: HEADER_BYTES + 5000]), r"mindrecord1: 21384 bytes.*"),
    "a folder": (
        lambda folder: (folder / "val.mindrecord1").unlink() or (folder / "val.mindrecord1").mkdir(),
        r"mindrecord1: cannot be opened: Is a directory",
    ),
}  # fmt: skip
READ_AND_TELL = """
import hashlib
import sys
import numpy as np
from fcn4dist.data.dataset import open_dataset
from fcn4dist.errors import DataError
try:
    split = open_dataset(sys.argv[1]).split("val")
    batches = list(split.iter_batches(np.arange(split.num_clips), 8))
    rows = [row for batch in batches for row in zip(batch.clip_ids, batch.mel_db, batch.labels)]
    print(hashlib.sha256(b"".join(part.tobytes() for row in sorted(rows, key=lambda row: row[0]) for part in row)).hexdigest())
except DataError as error:
    print("DataError", error)
"""


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_set_is_refused_when_a_part_is_opened(tmp_path: Path, written: Path, kind: str) -> None:
    folder = tmp_path / "set"
    shutil.copytree(written, folder)
    change, message = BROKEN[kind]
    change(folder)
    with pytest.raises(DataError, match=message):
        open_dataset(folder).split("val")


def read_elsewhere(folder: Path) -> subprocess.CompletedProcess[str]:
    """MindDataset may crash on a damaged file, so it reads in a process of its own."""
    command, root = [sys.executable, "-c", READ_AND_TELL, str(folder)], Path(__file__).resolve().parents[2]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, check=False, timeout=100)


@pytest.fixture(scope="module")
def whole(written: Path) -> str:
    """Return what a set that is whole tells."""
    found = read_elsewhere(written)
    assert len(found.stdout) == 65, found.stderr
    return found.stdout


@pytest.mark.parametrize(
    "change",
    [
        replace("val.mindrecord1.db", lambda _: b"x" * 5000),
        replace("val.mindrecord1.db", lambda content: content[:4096]),
        swap_indexes,
        sql("DELETE FROM INDEXES WHERE ROW_ID = 3"),
        sql("UPDATE INDEXES SET PAGE_ID_BLOB = 9 WHERE ROW_ID = 3"),
    ],
    ids=["no index", "half an index", "another's index", "a row missing", "beyond the file"],
)
def test_a_damaged_index_never_gives_other_rows(
    tmp_path: Path, written: Path, whole: str, change: Callable[[Path], None]
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(written, folder)
    change(folder)
    found = read_elsewhere(folder)
    refused = found.returncode != 0 or found.stdout.startswith("DataError")
    assert refused or found.stdout == whole, (found.stdout, found.stderr)


@pytest.mark.parametrize(
    ("column", "spec", "value", "message"),
    [
        ("id", {"type": "string"}, "7", "id is string; expected int32"),
        ("id", {"type": "int64"}, 7, "id is int64; expected int32"),
        ("feature", {"type": "float64", "shape": [1, 8, 30]}, np.zeros(SHAPE), r"is float64 1x8x30; expected float32"),
        ("feature", {"type": "float32", "shape": [8, 30]}, np.zeros((8, 30), "f"), r"feature is float32 8x30; expected"),
        ("feature", {"type": "float32", "shape": [1, 8, -1]}, np.zeros(SHAPE, "f"), r"feature is float32 1x8x-1; expected"),
        ("feature", {"type": "bytes"}, b"ab", r"feature is bytes; expected float32, 1 x mel bands x frames"),
        ("label", {"type": "float32", "shape": [5]}, np.zeros(5, "f"), r"label is float32 5; expected int32 5"),
        ("label", {"type": "int32", "shape": [1, 5]}, np.zeros((1, 5), "i"), r"label is int32 1x5; expected int32, as many"),
        ("label", {"type": "int32"}, 1, "label is int32; expected int32, as many"),
    ],
)  # fmt: skip
def test_other_columns_are_refused(tmp_path: Path, column: str, spec: Any, value: Any, message: str) -> None:
    rows = [{**make_row(0), column: value}]
    folder = write(tmp_path / "set", rows, 1, {**SCHEMA, column: spec})
    with pytest.raises(DataError, match=message):
        open_dataset(folder).split("val")


def test_labels_beyond_one_a_missing_column_and_other_tags_are_refused(tmp_path: Path, written: Path) -> None:
    folder = write(tmp_path / "three", [{**make_row(0), "label": np.full(NUM_TAGS, 3, np.int32)}], 1)
    with pytest.raises(DataError, match="a label of val is 3; expected 0, 1, or -1"):
        _ = open_dataset(folder).split("val").labels
    schema = {name: spec for name, spec in SCHEMA.items() if name != "label"}
    row = {name: value for name, value in make_row(0).items() if name != "label"}
    with pytest.raises(DataError, match=r"no column 'label'; found feature, id; expected id, feature, label"):
        open_dataset(write(tmp_path / "set", [row], 1, schema)).split("val")
    with pytest.raises(DataError, match=r"labels of 5 columns, but 2 tags are named"):
        open_dataset(written, ["rock", "pop"]).split("val")
    with pytest.raises(DataError, match=r"has no train clips; it has val"):
        open_dataset(written).split("train")
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DataError, match=r"neither manifest\.json nor train\.mindrecord0"):
        open_dataset(tmp_path)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> AudioSet:
    return make_audio_set(tmp_path_factory.mktemp("audio"))


def prepare_into(folder: Path, audio: AudioSet, **data: object) -> DataSet:
    config = override_config(load_config(), **audio.sections)
    return prepare(override_config(config, data={"records_dir": folder, "num_workers": 1, **data})).data


@pytest.fixture(scope="module")
def prepared(audio: AudioSet, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return prepare_into(tmp_path_factory.mktemp("prepared") / "data", audio)


def test_a_prepared_set_tells_its_clips_labels_and_groups_without_mindspore(audio: AudioSet, prepared: DataSet) -> None:
    code = (
        "import sys; sys.modules['mindspore'] = None; import json, fcn4dist.data.dataset as d; s = d.open_dataset(sys.argv[1]); "
        "v = s.split('val'); print(json.dumps([s.tags, s.parts, v.clip_ids.tolist(), v.labels.tolist(), "
        "{k: g.tolist() for k, g in v.groups.items()}, s.train_checksum()]))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, prepared.path], capture_output=True, text=True, cwd=root, check=True
    )
    tags, parts, clip_ids, labels, groups, checksum = json.loads(done.stdout)
    rows = [1000 - clip_id for clip_id in clip_ids]
    assert (tags, parts) == (["low", "high", "quiet"], ["train", "val", "test"])
    assert sorted(rows) == [9, 21, 33, 45]
    assert labels == [[row % 2, 1 - row % 2, int(row % 3 == 0)] for row in rows]
    assert groups["artist"] == [f"artist_{row % 7}" for row in rows]
    assert checksum == open_dataset(prepared.path).train_checksum()
    ids = np.array(clip_ids[::-1])
    assert prepared.groups_of(ids).tolist() == groups["track"][::-1]  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"clip 5 is not in its clips\.tsv"):
        prepared.groups_of(np.array([5]))


def test_float16_comes_back_as_float32(audio: AudioSet, prepared: DataSet, tmp_path: Path) -> None:
    half, whole = prepare_into(tmp_path / "half", audio, feature_dtype="float16").split("val"), prepared.split("val")
    np.testing.assert_array_equal(half.clip_ids, whole.clip_ids)
    positions = np.array([3, 0, 2])
    np.testing.assert_array_equal(half.read(positions), whole.read(positions).astype(np.float16).astype(np.float32))


def test_another_label_or_feature_is_another_data_set_and_a_copy_is_not(
    audio: AudioSet, prepared: DataSet, tmp_path: Path
) -> None:
    again = prepare_into(tmp_path / "again", audio)
    assert again.identity() == prepared.identity()
    assert again.train_checksum() == prepared.train_checksum()
    table = audio.annotations.read_text()
    corrected = tmp_path / "corrected.csv"
    corrected.write_text(table.replace('"1000"\t"0"\t"1"\t"1"', '"1000"\t"0"\t"1"\t"0"'))  # a clip to train on
    assert corrected.read_text() != table
    other = prepare_into(tmp_path / "other", audio, annotations=corrected)
    assert other.clip_lists == prepared.clip_lists
    assert other.train_checksum() != prepared.train_checksum()
    half = prepare_into(tmp_path / "half", audio, feature_dtype="float16")
    assert half.train_checksum() != prepared.train_checksum()
    assert half.identity() != prepared.identity()


def test_a_shard_of_another_part_is_noticed_by_its_ids_and_other_labels_by_their_checksum(
    prepared: DataSet, tmp_path: Path
) -> None:
    shutil.copytree(prepared.path, tmp_path / "data")
    clips = tmp_path / "data" / "clips.tsv"
    lines = clips.read_text().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if "\tval\t" in line)
    line = lines[place].rstrip("\n")
    lines[place] = f"{line.rpartition(chr(9))[0]}\t-\n"  # none of its tags
    clips.write_text("".join(lines))
    with pytest.raises(DataError, match=r"clips\.tsv: its labels of val are not those that manifest\.json is of"):
        open_dataset(tmp_path / "data").split("val")
    (one, rest), (other, others) = line.split("\t", 1), lines[place + 1].split("\t", 1)
    lines[place : place + 2] = [f"{other}\t{rest}\n", f"{one}\t{others}"]
    clips.write_text("".join(lines))
    with pytest.raises(DataError, match=r"row \d of val is clip \d+, clips\.tsv says \d+: a shard is replaced"):
        open_dataset(tmp_path / "data").split("val").read([0, 1])


@pytest.mark.parametrize(
    ("change", "verify", "message"),
    [
        (replace("val.mindrecord1", lambda content: content[:-1]), "size", r"val\.mindrecord1: \d+ bytes, manifest\.json says"),
        (lambda folder: (folder / "val.mindrecord0").unlink(), "size", r"val\.mindrecord0: missing; manifest\.json lists it"),
        (lambda folder: (folder / "val.mindrecord0.db").unlink(), "size", r"val\.mindrecord0\.db: missing"),
        (replace("val.mindrecord1", lambda c: c[:-9] + b"x" + c[-8:]), "digest", r"val\.mindrecord1: damaged: SHA-256"),
        (replace("val.mindrecord1.db", lambda c: c[:-9] + b"x" + c[-8:]), "digest", r"1\.db: damaged: SHA-256"),
    ],
)  # fmt: skip
def test_shards_are_checked_by_size_or_by_content_and_only_the_parts_in_use(
    prepared: DataSet, tmp_path: Path, change: Callable[[Path], None], verify: Any, message: str
) -> None:
    prepared.check("digest")
    shutil.copytree(prepared.path, tmp_path / "data")
    change(tmp_path / "data")
    data = open_dataset(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        data.check(verify)
    data.check(verify, ["train", "test"])
    if verify == "digest":
        data.check("size")


def as_first_edition(folder: Path) -> None:
    """Make of a prepared set what the first edition wrote: another order in clips.tsv, fewer columns, fewer checksums."""
    document = json.loads((folder / "manifest.json").read_text())
    document["format_version"] = 1
    del document["noted"]
    for counts in document["splits"].values():
        del counts["labels_sha256"], counts["features_sha256"]
    (folder / "manifest.json").write_text(json.dumps(document))
    with (folder / "clips.tsv").open(newline="") as text:
        rows = sorted(csv.DictReader(text, delimiter="\t"), key=lambda row: int(row["clip_id"]) * 7 % 100)
    columns = ["clip_id", "split", "mp3_path", "duration_s", "labels"]
    with (folder / "clips.tsv").open("w", newline="") as text:
        writer = csv.DictWriter(text, columns, delimiter="\t", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_a_set_of_the_first_edition_still_reads(prepared: DataSet, tmp_path: Path) -> None:
    shutil.copytree(prepared.path, tmp_path / "old")
    as_first_edition(tmp_path / "old")
    old = open_dataset(tmp_path / "old")
    for part in ("train", "val", "test"):
        mine, theirs = old.split(part), prepared.split(part)
        np.testing.assert_array_equal(mine.clip_ids, theirs.clip_ids)
        np.testing.assert_array_equal(mine.labels, theirs.labels)
        np.testing.assert_array_equal(mine.read([0, 1]), theirs.read([0, 1]))
        found = old.groups_of(theirs.clip_ids)
        assert found is not None
        assert found.tolist() == theirs.groups["track"].tolist()


def make_table(num_clips: int, num_tags: int) -> ClipTable:
    rng = np.random.default_rng(num_clips)
    hostile = ["a\tb", 'say "x"', "line\nbreak", "carriage\rreturn", "民謡", " ", "", "-", "?3", "'"]
    names = [hostile[i % len(hostile)] + str(i) for i in range(num_clips)]
    return ClipTable(
        clip_ids=np.arange(num_clips, dtype=np.int32) * 3,
        source_ids=[f"track_{name}" for name in names],
        paths=[f"{name}.mp3" for name in names],
        labels=rng.integers(-1, 2, (num_clips, num_tags)).astype(np.int8),
        durations_s=np.where(rng.random(num_clips) < 0.3, np.nan, rng.integers(0, 9000, num_clips) / 8).astype(
            np.float32
        ),
        groups={"artist": [f"{name}!" for name in names], "track": names},
    )


def test_clips_tsv_comes_back_whatever_the_names_are(tmp_path: Path) -> None:
    tables = {"train": make_table(40, 5), "val": make_table(7, 5), "test": make_table(0, 5)}
    (tmp_path / "clips.tsv").write_text(format_clip_tables(tables), encoding="utf-8", newline="")  # type: ignore[arg-type]
    found = load_clip_tables(tmp_path, 5)
    for part, table in tables.items():
        mine = found[part]  # type: ignore[index]
        assert (mine.source_ids, mine.paths, mine.groups) == (table.source_ids, table.paths, table.groups)
        np.testing.assert_array_equal(mine.clip_ids, table.clip_ids)
        np.testing.assert_array_equal(mine.labels, table.labels)
        np.testing.assert_array_equal(mine.durations_s, table.durations_s)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip_id\tmp3_path\n", r"clips\.tsv:1: no column 'split'"),
        ("clip_id\tsplit\tmp3_path\nx\tval\tp\n", r"clips\.tsv: not what .* wrote: .*'x'"),
        ("clip_id\tsplit\tmp3_path\n1\tvalid\tp\n", r"clips\.tsv: not what .*split 'valid'"),
        ("clip_id\tsplit\tmp3_path\n1\tval\n", r"clips\.tsv: not what .*row 2 has 2 fields, the header 3"),
        ("clip_id\tsplit\tmp3_path\tduration_s\n1\tval\tp\t-1\n", r"duration_s that is no length"),
        ("clip_id\tsplit\tmp3_path\tlabels\n1\tval\tp\t9\n", r"clips\.tsv: not what .*tag 9; the manifest has 5"),
        ("clip_id\tsplit\tmp3_path\tlabels\n1\tval\tp\ta\n", r"clips\.tsv: not what .* wrote: .*'a'"),
        (f"clip_id\tsplit\tmp3_path\n{'9' * 5000}\tval\tp\n", r"clips\.tsv: not what"),
        ("", r"clips\.tsv: not what"),
    ],
)
def test_a_damaged_clips_tsv_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "clips.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_clip_tables(tmp_path, 5)


def test_lengths_that_do_not_fit_are_said() -> None:
    mel = MelConfig()
    assert describe_lengths(np.full(9, 29.1), mel) is None
    assert describe_lengths(np.full(9, np.nan), mel) is None
    short = describe_lengths(np.array([5.0, 5.0, 29.0, np.nan]), mel)
    assert short is not None
    assert "median clip is 5.00 s long, mel.clip_s is 29.12: 83% of what the network hears is silence" in short
    assert "--set mel.clip_s=5.00" in short
    long = describe_lengths(np.full(3, 240.0), mel)
    assert long is not None
    assert "only its middle 29.12 s are used" in long
    assert describe_lengths(np.full(3, 240.0), MelConfig(stored_s=240)) is None


def test_the_clip_list_checksum_does_not_depend_on_the_order(prepared: DataSet) -> None:
    ids = sorted(prepared.split("val").clip_ids.tolist())
    assert prepared.clip_lists["val"] == hashlib.sha256("".join(f"{i}\n" for i in ids).encode()).hexdigest()
