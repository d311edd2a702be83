from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fcn4dist.evaluate.auc import exact_aucs


@pytest.mark.parametrize("decimals", [1, 2, 12])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.97])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_figures_are_scikit_learns_with_few_and_many_ties(decimals: int, share: float, dtype: type) -> None:
    rng = np.random.default_rng(decimals)
    for size in (2, 7, 500, 3000):
        labels = (rng.random(size) < share).astype(np.int32)
        labels[:2] = [0, 1]
        scores = np.round(rng.random(size), decimals).astype(dtype)
        expected = (roc_auc_score(labels, scores), average_precision_score(labels, scores))
        assert exact_aucs(labels, scores) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_a_tag_with_clips_of_one_kind_has_none() -> None:
    for label in (0, 1):
        assert all(math.isnan(figure) for figure in exact_aucs(np.full(4, label), np.arange(4.0)))
