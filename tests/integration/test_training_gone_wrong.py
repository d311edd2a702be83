"""Runs that go wrong say so and do not end with "done"; weights of another network go to the outputs of their tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jobs import TINY, Run, processes_of, run_here

from fcn4dist.config import load_config
from fcn4dist.data.dataset import open_dataset
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


def test_a_feature_that_is_no_number_ends_the_run_and_names_its_clip(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", nan_clip=11)
    result = run_here(
        "launch", "--devices", 2, "--data", data, "--run-dir", tmp_path / "run", *TINY, "--set", "train.epochs=1"
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "clip 11: 2 of its features are NaN or infinite" in result.stderr
    assert "Traceback" not in result.stderr
    assert processes_of(tmp_path / "run") == []


def test_scores_that_are_no_numbers_are_a_failure_and_not_the_users_input(tiny_shards: Path, tmp_path: Path) -> None:
    options = ("--set", "train.epochs=1", "--set", "train.lr=1e30")
    result = run_here("train", "--data", tiny_shards, "--run-dir", tmp_path / "run", *TINY, *options)
    assert result.returncode == 1
    assert "done" not in result.stdout
    said = "step 5: the training has diverged: scores: clip 0, tag 'tag0' is nan; 13 of 13 clips have a NaN or infinite score"
    assert said in result.stderr


def test_weights_go_to_the_outputs_of_their_tags(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From a run; of other tags, it is said what was taken and what is new. `train.init_from`: test_modelzoo_checkpoint.py."""
    from mindspore import Tensor

    from fcn4dist.model.fcn4 import FCN4
    from fcn4dist.model.stored import load_weights
    from fcn4dist.run.checkpoints import named
    from fcn4dist.train.init_from import load_initial_weights

    origin, model = tmp_path / "origin", load_config(overrides=TINY[1::2]).model
    done = run_here(
        *("train", "--data", write_set(tmp_path / "abc"), "--run-dir", origin, "--set", "data.tags=[a,b,c]", *TINY),
        *("--set", "train.max_steps=1", "--set", "evaluate.num_resamples=0"),
    )
    assert done.returncode == 0, done.stderr
    mel_db = Tensor(np.random.default_rng(2).normal(-4, 1, (5, *SHAPE)).astype(np.float32))

    def logits(network: FCN4) -> np.ndarray:
        return network.set_train(False)(mel_db).asnumpy()

    def begun(name: str, columns: tuple[int, ...], tags: str) -> np.ndarray:
        network, caplog.handler.records = FCN4(model, 3), []
        with caplog.at_level("INFO", "fcn4dist.train.init_from"):
            data = open_dataset(write_set(tmp_path / name, columns), list(tags))
            load_initial_weights(origin, list(network.get_parameters()), data)
        return logits(network)

    trained, checkpoint = FCN4(model, 3), named(origin / "checkpoints", "best")
    assert checkpoint is not None
    load_weights(checkpoint, list(trained.get_parameters()))
    expected = logits(trained)
    np.testing.assert_array_equal(begun("same", (0, 1, 2), "abc"), expected)
    assert caplog.messages == [f"train.init_from {origin}: all 3 tags taken over"]
    np.testing.assert_array_equal(begun("turned", (2, 0, 1), "cab"), expected[:, [2, 0, 1]])
    assert "all 3 tags taken over, in the order of the data set" in caplog.text
    other = begun("other", (0, 1, 3), "abd")
    np.testing.assert_array_equal(other[:, :2], expected[:, :2])
    assert (other[:, 2] != expected[:, 2]).all()
    assert "2 of 3 tags taken over (a, b), new are d; left out are c" in caplog.text
