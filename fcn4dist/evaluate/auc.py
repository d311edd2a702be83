"""ROC-AUC and average precision of one tag, exact and fast: two sorts instead of a curve.

Both are sums over the positive clips only (Fawcett 2006, section 7; scikit-learn's average_precision_score): for a positive with
score s, ROC-AUC needs how many negatives lie below s, average precision how many clips of either kind lie at s or above.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def defined_tags(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which columns of `labels` (N, num_tags) have a positive and a negative: those have AUCs."""
    return np.asarray((labels > 0).any(axis=0) & (labels == 0).any(axis=0))


def exact_aucs(labels: NDArray[Any], scores: NDArray[Any]) -> tuple[float, float]:
    """Return (ROC-AUC, average precision) of finite `scores` (N,) against `labels` (N,), ties as in scikit-learn.

    Labels are 0, 1 or -1 (unknown: left out). Both are NaN without a positive or without a negative.
    """
    positives, negatives = np.sort(scores[labels > 0]), np.sort(scores[labels == 0])
    num_positives, num_negatives = len(positives), len(negatives)
    if not num_positives or not num_negatives:
        return float("nan"), float("nan")
    below = np.searchsorted(negatives, positives, "left")  # negatives under each positive
    not_above = np.searchsorted(negatives, positives, "right")
    roc_auc = (below + not_above).sum() / 2 / num_positives / num_negatives
    true_positives = num_positives - np.searchsorted(positives, positives, "left")
    false_positives = num_negatives - below
    average_precision = (true_positives / (true_positives + false_positives)).mean()
    return float(roc_auc), float(average_precision)
