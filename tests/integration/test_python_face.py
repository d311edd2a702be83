"""`import fcn4dist` and what it offers: the examples of its own docstring run, and the figures are those of other programs."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from small_onnx import write_small_onnx

import fcn4dist

ROOT = Path(__file__).resolve().parents[2]

if TYPE_CHECKING:  # `make lint` sees that the names have types
    from typing_extensions import assert_type

    from fcn4dist import errors

    def use(tagger_file: str) -> None:
        tagging = fcn4dist.load(tagger_file).tag("a.wav")
        val = fcn4dist.open_dataset("DATA").split("val")
        assert_type(tagging.top(5), list[tuple[str, float]])
        assert_type(tagging.window_scores, NDArray[np.float32])
        assert_type(val.read([0]), NDArray[np.float32])
        assert_type(fcn4dist.evaluate(val.labels, val.labels, groups=val.groups), dict[str, Any])
        assert_type(errors.DataError("words"), fcn4dist.errors.DataError)
        fcn4dist.load(3)  # type: ignore[arg-type]


def test_the_examples_of_the_docstring_run(tmp_path: Path, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_small_onnx(tmp_path / "model.onnx", ["tag0", "tag1", "tag2"])
    soundfile.write("song.wav", np.random.default_rng(0).normal(0, 0.1, 7 * 8000), 8000)
    (tmp_path / "notes.txt").write_text("words\n" * 100)
    (tmp_path / "DATA").symlink_to(tiny_shards)
    found = doctest.testmod(fcn4dist)
    assert (found.failed, found.attempted) == (0, 12)


def test_evaluate_is_a_function_also_when_its_room_is_loaded() -> None:
    """Python binds a room that is imported to its name in the package."""
    code = (
        "import fcn4dist; first = fcn4dist.evaluate([[1], [0]], [[0.9], [0.1]], num_resamples=0)\n"
        "import fcn4dist.evaluate.metrics; from fcn4dist import evaluate\n"
        "assert evaluate([[1], [0]], [[0.9], [0.1]], num_resamples=0) == first; print(first['roc_auc_macro'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1.0\n", "")


def test_figures_are_those_of_scikit_learn_and_unknown_labels_are_left_out() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, (60, 3)).astype(float)
    scores = rng.random((60, 3))
    labels[::7, 1] = np.nan
    groups = {"artist": np.repeat(["a", "b", "c"], 20), "track": np.repeat(np.arange(15), 4).astype(str)}
    found = fcn4dist.evaluate(labels, scores, tags=["x", "y", "z"], groups=groups, split="val", num_resamples=50)  # type: ignore[arg-type]
    for i, tag in enumerate(found["tags"]):
        known = ~np.isnan(labels[:, i])
        assert tag["roc_auc"] == pytest.approx(roc_auc_score(labels[known, i], scores[known, i]), abs=1e-12)
        assert tag["pr_auc"] == pytest.approx(average_precision_score(labels[known, i], scores[known, i]), abs=1e-12)
    assert found["tags"][1]["unknown"] == 9
    assert (found["bootstrap"]["unit"], found["bootstrap"]["num_units"]) == ("track", 15)
    shuffled = rng.permutation(60)  # the order of clips is no matter
    again = fcn4dist.evaluate(
        labels[shuffled],
        scores[shuffled],
        tags=["x", "y", "z"],
        groups=groups["track"][shuffled],
        clip_ids=shuffled,
        split="val",
        num_resamples=50,
    )
    assert again == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [[0, 2]]}, "clip 0, tag 1: label 2; expected 0, 1 or -1"),
        ({"labels": [[0, 1], [1, 0]]}, r"labels \(2, 2\), scores \(1, 2\); expected"),
        ({"scores": [[0.5, float("nan")]]}, "clip 0, tag 'tag1' is nan"),
        ({"scores": [["a", "b"]]}, "expected whole numbers, 0, 1 or -1, and floating point"),
        ({"tags": ["x"]}, "tags: 1 names; labels and scores have 2 columns"),
        ({"groups": ["a", "b"]}, r"groups: shape \(2,\); expected a name for each of 1 clips"),
        ({"clip_ids": [2**40]}, "clip_ids: expected whole numbers of 32 bits"),
        ({"labels": [], "scores": []}, "expected"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(fcn4dist.errors.DataError, match=message):
        fcn4dist.evaluate(**{"labels": [[0, 1]], "scores": [[0.5, 0.5]], **arguments})


def test_what_cannot_be_loaded_is_an_error_of_ours(tmp_path: Path) -> None:
    for name, message in (("gone.onnx", "no such file"), ("gone", "no such file or folder"), ("", "checkpoint")):
        with pytest.raises(fcn4dist.errors.CheckpointError, match=message):
            fcn4dist.load(str(tmp_path / name))
