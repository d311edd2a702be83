"""Thresholds: the best F1 among all candidates, and files of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from fcn4dist.errors import DataError
from fcn4dist.evaluate.thresholds import choose_thresholds, load_thresholds


def test_no_other_threshold_gives_a_better_f1() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random((80, 5)) < 0.3).astype(np.int32)
    scores = np.round(rng.random((80, 5)) + labels * 0.4, 2).astype(np.float32)
    for i, threshold in enumerate(choose_thresholds(labels, scores)):
        f1 = {
            float(score): f1_score(labels[:, i], scores[:, i] >= score, zero_division=0)
            for score in np.unique(scores[:, i])
        }
        best = max(f1.values())
        assert threshold == max(score for score, value in f1.items() if value == pytest.approx(best, abs=1e-12))


def test_a_tag_of_one_kind_has_no_threshold() -> None:
    labels = np.array([[0, 1, 1], [0, 1, 0]], np.int32)
    assert choose_thresholds(labels, np.array([[0.1, 0.2, 0.9], [0.3, 0.4, 0.5]])) == (None, None, 0.9)


def evaluation(**changes: object) -> dict[str, object]:
    return {
        "split_name": "folds:f:1",
        "split_checksum": "abc",
        "thresholds": {"on_these_clips": True},
        "tags": [{"tag": "x", "threshold": 0.5}, {"tag": "y", "threshold": None}],
        **changes,
    }


def test_thresholds_come_from_an_evaluation_of_validation_clips(tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps(evaluation()))
    found = load_thresholds(file, ("x", "y"))
    assert (found.values, found.split_name, found.split_checksum) == ((0.5, None), "folds:f:1", "abc")
    with pytest.raises(DataError, match="thresholds for other tags: tag 1 is 'y', expected 'z'"):
        load_thresholds(file, ("x", "z"))
    with pytest.raises(DataError, match="other tags: 2 tags, expected 1"):
        load_thresholds(file, ("x",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(evaluation(thresholds={"on_these_clips": False})), "its thresholds were chosen elsewhere"),
        (json.dumps(evaluation(thresholds=None)), "no evaluation with thresholds"),
        (json.dumps([1, 2]), "no evaluation with thresholds"),
        ("{", "no evaluation with thresholds"),
        (None, "cannot be read: No such file"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_thresholds(tmp_path / "evaluation.json", ("x", "y"))
