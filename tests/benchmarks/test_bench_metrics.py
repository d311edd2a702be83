"""The histogram loop that row 10 compares with gives what it should."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.metrics import histogram_auc


def test_the_loop_gives_the_roc_auc_of_scores_that_fall_into_its_bins() -> None:
    """400 clips make 200 bins; scores in the middle of bins lose nothing, ties included."""
    rng = np.random.default_rng(3)
    labels = (rng.random(400) < 0.2).astype(np.int32)
    scores = (np.clip(rng.integers(0, 150, 400) + 50 * labels, 0, 199) + 0.5) / 200
    assert histogram_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_a_score_of_one_is_in_the_last_bin() -> None:
    labels, scores = np.array([0, 1, 0, 1, 0, 0]), np.array([0.1, 1.0, 0.4, 0.99, 0.2, 1.0])
    # three bins; the two positives tie with one negative in the last bin and are above the three others: (2 x 3 + 2 / 2) / 8
    assert histogram_auc(labels, scores) == pytest.approx(7 / 8)
