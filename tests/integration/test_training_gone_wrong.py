"""Runs that go wrong say so and do not end with "done"; weights of another network go to the outputs of their tags."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from jobs import TINY, Run, processes_of

from fcn4dist.data.shards import Row, RowFormat, write_shard

SHAPE = (1, 24, 32)
CLIPS = {"train": 16, "val": 8}


def write_set(folder: Path, columns: tuple[int, ...] = (0, 1, 2), nan_clip: int | None = None) -> Path:
    """Write the same clips always; labels of three of four tags, in the order of `columns`."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for part, size in CLIPS.items():
        labels = (rng.random((size, 4)) < 0.5).astype(np.int8)
        features = rng.normal(-4, 1, (size, *SHAPE)).astype(np.float32)
        if part == "train" and nan_clip is not None:
            features[nan_clip, 0, 3, 4:6] = np.nan
        rows = (Row(i, features[i], labels[i, list(columns)]) for i in range(size))
        file = f"{part}.mindrecord0"
        assert write_shard(folder / file, rows, size, RowFormat(SHAPE, "float32", len(columns)), [file]) is not None
    return folder


@pytest.mark.slow  # the loop itself: tests/train/test_train_reads_late.py
def test_a_run_that_diverges_fails_at_a_step(fcn4dist: Run, finite_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = fcn4dist(
        *("launch", "--devices", 2, "--data", finite_shards, "--run-dir", run, *TINY, "--set", "train.epochs=9"),
        *("--set", "train.lr=1e30", "--set", "train.max_diverged_steps=3"),
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert "step 4: the training has diverged: for 3 steps the loss was over 10 or no number" in result.stderr
    assert "done" not in result.stderr
    assert processes_of(run) == []
    watched = fcn4dist("watch", "--once", run)
    assert watched.returncode == 1
    assert "the training has diverged" in watched.stderr


def test_a_feature_that_is_no_number_ends_the_run_and_names_its_clip(fcn4dist: Run, tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", nan_clip=11)
    result = fcn4dist(
        "launch", "--devices", 2, "--data", data, "--run-dir", tmp_path / "run", *TINY, "--set", "train.epochs=1"
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "clip 11: 2 of its features are NaN or infinite" in result.stderr
    assert "Traceback" not in result.stderr


def test_weights_go_to_the_outputs_of_their_tags(fcn4dist: Run, tmp_path: Path) -> None:
    """The first loss is that of the same network; of other tags, it is said what was taken and what is new."""
    abc, cab = write_set(tmp_path / "abc"), write_set(tmp_path / "cab", (2, 0, 1))
    abd = write_set(tmp_path / "abd", (0, 1, 3))
    once = [
        *TINY,
        "--set",
        "train.max_steps=1",
        "--set",
        "train.freeze_batch_norm=true",
        "--set",
        "evaluate.num_resamples=0",
    ]

    def first_loss(name: str, data: Path, tags: str, *more: object) -> tuple[float, str]:
        run = tmp_path / name
        result = fcn4dist("train", "--data", data, "--run-dir", run, "--set", f"data.tags=[{tags}]", *once, *more)
        assert result.returncode == 0, result.stderr
        return json.loads((run / "metrics" / "rank-0.jsonl").read_text().splitlines()[0])["loss"], result.stdout

    first_loss("origin", abc, "a,b,c", "--set", "train.seed=7")
    init = ("--set", f"train.init_from={tmp_path / 'origin'}")
    expected, said = first_loss("same", abc, "a,b,c", *init)
    assert f"train.init_from {tmp_path / 'origin'}: all 3 tags taken over\n" in said
    found, said = first_loss("turned", cab, "c,a,b", *init)
    assert "all 3 tags taken over, in the order of the data set" in said
    assert found == pytest.approx(expected, rel=1e-5)
    other, said = first_loss("other", abd, "a,b,d", *init)
    assert "2 of 3 tags taken over (a, b), new are d; left out are c" in said
    assert other != pytest.approx(expected, rel=1e-5)
