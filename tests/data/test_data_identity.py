"""The same clips in the same places are the same data set, wherever they stand."""

from __future__ import annotations

import shutil
from pathlib import Path

from fcn4dist.data.identity import identify_data, identify_train_clips
from fcn4dist.data.manifest import MANIFEST, Manifest


def make_shards(folder: Path, **sizes: int) -> Path:
    folder.mkdir()
    for part, size in sizes.items():
        for number in range(2):
            (folder / f"{part}.mindrecord{number}").write_bytes(b"x" * size)
            (folder / f"{part}.mindrecord{number}.db").write_bytes(b"index")
    return folder


def test_modelzoos_shards_are_known_by_names_and_sizes(tmp_path: Path) -> None:
    one = make_shards(tmp_path / "one", train=30, val=20)
    two = shutil.copytree(one, tmp_path / "two")
    (two / "train.mindrecord0.db").write_bytes(b"a longer index")
    (two / "notes.txt").write_text("not a shard")
    assert identify_data(one) == identify_data(two)
    assert identify_data(one)["shards"][0] == ["train.mindrecord0", 30]
    assert identify_train_clips(one) == identify_train_clips(two)
    (two / "val.mindrecord1").write_bytes(b"other")
    assert identify_data(one) != identify_data(two)
    assert identify_train_clips(one) == identify_train_clips(two)
    (two / "train.mindrecord1").write_bytes(b"other")
    assert identify_train_clips(one) != identify_train_clips(two)


def test_a_manifest_counts_and_its_digests_do_not(tmp_path: Path) -> None:
    def write(name: str, clips: str = "a" * 64, sha256: str = "b" * 64, rows: int = 5) -> Path:
        shard = {"file": "train.mindrecord0", "split": "train", "num_rows": rows, "num_bytes": 9}
        values = {
            "format_version": 1,
            "mel": {},
            "feature_dtype": "float32",
            "feature_shape": (1, 96, 1366),
            "tags": ["rock"],
            "split": {"name": "random", "rule": "by lot"},
            "splits": {"train": {"num_clips": rows, "clip_list_sha256": clips, "positives": [3]}},
            "shards": [{**shard, "sha256": sha256, "index_sha256": sha256}],
            "num_listed": rows,
            "num_written": rows,
            "skipped": [],
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text(Manifest.model_validate(values).model_dump_json())
        return tmp_path / name

    first = write("first")
    for name, changes, is_same in (
        ("digest", {"sha256": "c" * 64}, True),
        ("clips", {"clips": "d" * 64}, False),
        ("rows", {"rows": 6}, False),
    ):
        other = write(name, **changes)  # type: ignore[arg-type]
        assert (identify_data(first) == identify_data(other)) is is_same
        assert (identify_train_clips(first) == identify_train_clips(other)) is is_same
