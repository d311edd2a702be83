"""Figures of one evaluation for the page, pure functions of labels (N, num_tags) and scores (N, num_tags) in 0..1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 20
NORMAL_975 = 1.959963984540054  # the normal distribution's 97.5 % point
CLIPPED = 1e-7  # scores are kept this far from 0 and 1 in logarithms

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Roc:
    """The ROC and the precision-recall curve of one tag, at every distinct score, highest first."""

    false_positive_rate: Floats
    true_positive_rate: Floats  # recall
    precision: Floats
    thresholds: Floats


def roc_of(labels: Bools, scores: Floats) -> Roc | None:
    """Return the curves of one tag, labels (N,) and scores (N,); None without a positive or without a negative."""
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(labels[order])[ends].astype(np.float64)
    return Roc(
        np.insert((ends + 1 - hits) / negatives, 0, 0.0),
        np.insert(hits / positives, 0, 0.0),
        np.insert(hits / (ends + 1), 0, 1.0),
        np.insert(scores[order][ends], 0, np.inf),
    )


def delong_interval(labels: Bools, scores: Floats) -> tuple[float, float] | None:
    """Return the 95 % interval of one tag's ROC-AUC by DeLong, DeLong and Clarke-Pearson (1988), cut at 0 and 1.

    Clips count as independent. None with fewer than two positives or negatives, and where no clip is on the wrong side (or
    all are): the variance is then 0, which says nothing about other clips.
    """
    positives, negatives = scores[labels], scores[~labels]
    m, n = len(positives), len(negatives)
    if m < 2 or n < 2:
        return None
    ordered_n, ordered_p = np.sort(negatives), np.sort(positives)
    # share of negatives below each positive, ties count half; and of positives above each negative
    v10 = (np.searchsorted(ordered_n, positives, "left") + np.searchsorted(ordered_n, positives, "right")) / (2 * n)
    v01 = 1 - (np.searchsorted(ordered_p, negatives, "left") + np.searchsorted(ordered_p, negatives, "right")) / (2 * m)
    auc = float(v10.mean())
    variance = float(v10.var(ddof=1) / m + v01.var(ddof=1) / n)
    if variance <= 0:
        return None
    half = NORMAL_975 * variance**0.5
    return max(0.0, auc - half), min(1.0, auc + half)


def histograms(labels: Bools, scores: Floats) -> tuple[list[float], list[float]]:
    """Return the shares of one tag's negatives and of its positives in NUM_BINS equal bins of score."""
    found = []
    for part in (scores[~labels], scores[labels]):
        counts, _ = np.histogram(part, bins=NUM_BINS, range=(0.0, 1.0))
        found.append((counts / max(1, len(part))).tolist())
    return found[0], found[1]


def top_tags(labels: Bools, scores: Floats) -> Bools:
    """Return which tags (N, num_tags) each clip would get: as many of its highest scores as it has tags."""
    counts = labels.sum(axis=1)
    places = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray(places < counts[:, None])


def co_predictions(labels: Bools, scores: Floats) -> Floats:
    """Return (num_tags, num_tags): of the clips that have tag i, the share that gets tag j from `top_tags`.

    The diagonal is the recall; where each clip has one tag it is the confusion matrix. Rows without a clip are 0.
    """
    predicted = top_tags(labels, scores).astype(np.float64)
    counts = labels.sum(axis=0)
    found = labels.astype(np.float64).T @ predicted / np.maximum(counts, 1)[:, None]
    return np.asarray(found, np.float64)


def confusions(labels: Bools, scores: Floats) -> Floats:
    """Return (num_tags, num_tags): clips with tag i and without j that got j and not i from `top_tags`."""
    predicted = top_tags(labels, scores)
    missed = (labels & ~predicted).astype(np.float64)
    wrong = (predicted & ~labels).astype(np.float64)
    return np.asarray(missed.T @ wrong, np.float64)


def clip_losses(labels: Bools, scores: Floats) -> Floats:
    """Return each clip's mean binary cross-entropy over the tags (N,), in nats."""
    kept = np.clip(scores, CLIPPED, 1 - CLIPPED)
    return np.asarray(-np.where(labels, np.log(kept), np.log1p(-kept)).mean(axis=1), np.float64)
