"""Figures of one evaluation for the page, pure functions of labels (N, num_tags) and scores (N, num_tags) in 0..1.

Labels are 0, 1 or -1: unknown, in no figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 20
NORMAL_975 = 1.959963984540054  # the normal distribution's 97.5 % point
ROC_POINTS = 120  # of one drawn curve
PR_STEPS = 60

Labels = NDArray[np.signedinteger[Any] | np.bool_]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Roc:
    """The ROC and the precision-recall curve of one tag, at every distinct score, highest first."""

    false_positive_rate: Floats
    true_positive_rate: Floats  # recall
    precision: Floats
    thresholds: Floats


def roc_of(labels: Labels, scores: Floats) -> Roc | None:
    """Return the curves of one tag, labels (N,) and scores (N,); None without a positive or without a negative."""
    labels, scores = labels[labels >= 0], scores[labels >= 0]
    positives, negatives = int((labels > 0).sum()), int((labels == 0).sum())
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


def drawn_roc(roc: Roc) -> list[tuple[float, float]]:
    """Return the corners of a ROC curve, so many that the area under the line through them is the AUC.

    Where there are too many, those nearest to even steps along both rates: clips by rank would be nearly all negatives.
    """
    x, y = roc.false_positive_rate, roc.true_positive_rate
    turns = np.diff(x)[:-1] * np.diff(y)[1:] != np.diff(x)[1:] * np.diff(y)[:-1]
    corners = np.concatenate([[0], np.flatnonzero(turns) + 1, [len(x) - 1]])
    if len(corners) > ROC_POINTS:
        walked = (x + y)[corners]
        corners = corners[
            np.unique(np.searchsorted(walked, np.linspace(0, 2, ROC_POINTS) - 1e-12).clip(0, len(walked) - 1))
        ]
    return list(zip(x[corners].tolist(), y[corners].tolist(), strict=True))


def mean_precision(roc: Roc, edges: Floats) -> Floats:
    """Return the mean precision between edges of recall, of the steps whose sum over 0..1 is the average precision."""
    area = np.insert(np.cumsum(np.diff(roc.true_positive_rate) * roc.precision[1:]), 0, 0.0)
    rising = np.append(np.diff(roc.true_positive_rate) > 0, True)  # the last of those with one recall; area is the same
    return np.asarray(
        np.diff(np.interp(edges, roc.true_positive_rate[rising], area[rising])) / np.diff(edges), np.float64
    )


def drawn_precision(roc: Roc) -> list[tuple[float, float]]:
    """Return the corners of precision over recall as steps: the area under them is scikit-learn's average precision.

    A step a recall; where there are more than PR_STEPS of them, so many equal ones with the mean precision of each.
    """
    edges = np.unique(roc.true_positive_rate)
    if len(edges) > PR_STEPS + 1:
        edges = np.linspace(0, 1, PR_STEPS + 1)
    return steps_of(edges, mean_precision(roc, edges))


def steps_of(edges: Floats, heights: Floats) -> list[tuple[float, float]]:
    """Return the corners of steps, each of one height between two edges."""
    return list(zip(np.repeat(edges, 2)[1:-1].tolist(), np.repeat(heights, 2).tolist(), strict=True))


def delong_interval(labels: Labels, scores: Floats) -> tuple[float, float] | None:
    """Return the 95 % interval of one tag's ROC-AUC by DeLong, DeLong and Clarke-Pearson (1988), cut at 0 and 1.

    Clips count as independent. None with fewer than two positives or negatives, and where no clip is on the wrong side (or
    all are): the variance is then 0, which says nothing about other clips.
    """
    positives, negatives = scores[labels > 0], scores[labels == 0]
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


def histograms(labels: Labels, scores: Floats) -> tuple[list[float], list[float]]:
    """Return the shares of one tag's negatives and of its positives in NUM_BINS equal bins of score."""
    found = []
    for part in (scores[labels == 0], scores[labels > 0]):
        counts, _ = np.histogram(part, bins=NUM_BINS, range=(0.0, 1.0))
        found.append((counts / max(1, len(part))).tolist())
    return found[0], found[1]


def top_tags(labels: Labels, scores: Floats) -> Bools:
    """Return which tags (N, num_tags) each clip would get: as many of its highest scores among known tags as it has tags."""
    counts = (labels > 0).sum(axis=1)
    ranked = np.where(labels >= 0, -scores, np.inf)
    places = np.argsort(np.argsort(ranked, axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray(places < counts[:, None])


def co_predictions(labels: Labels, scores: Floats) -> Floats:
    """Return (num_tags, num_tags): of the clips that have tag i and a known j, the share that gets tag j from `top_tags`.

    The diagonal is the recall; where each clip has one tag it is the confusion matrix. Rows without a clip are 0.
    """
    predicted = top_tags(labels, scores).astype(np.float64)
    has_tag = (labels > 0).astype(np.float64).T
    return np.asarray(has_tag @ predicted / np.maximum(has_tag @ (labels >= 0), 1), np.float64)


def confusions(labels: Labels, scores: Floats) -> Floats:
    """Return (num_tags, num_tags): clips with tag i and known to be without j that got j and not i from `top_tags`."""
    predicted = top_tags(labels, scores)
    missed = ((labels > 0) & ~predicted).astype(np.float64)
    wrong = (predicted & (labels == 0)).astype(np.float64)
    return np.asarray(missed.T @ wrong, np.float64)
