"""Metrics of a multi-label tagger: pure functions of labels and scores.

ROC-AUC and PR-AUC (average precision) equal scikit-learn's; the macro figures are plain means over the tags that have both a
positive and a negative clip. Intervals are percentile bootstraps over groups of clips cut from one piece, since such clips are
not independent (Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.errors import DataError
from fcn4dist.evaluate.auc import exact_aucs

RESAMPLES_AT_ONCE = 100  # bounds the memory of the bootstrap: 100 x clips doubles
CONFIDENCE = 0.95

Labels = NDArray[np.int32]  # (N, num_tags), 0 or 1
ScoreArray = NDArray[np.floating[Any]]  # (N, num_tags)


@dataclass(frozen=True)
class TagMetrics:
    """The figures of one tag; none where it has no positive or no negative clip."""

    tag: str
    positives: int
    roc_auc: float | None
    pr_auc: float | None


@dataclass(frozen=True)
class Metrics:
    """The figures of an evaluation; macro figures are none when no tag is defined."""

    roc_auc_macro: float | None
    pr_auc_macro: float | None
    roc_auc_ci95: tuple[float, float] | None
    pr_auc_ci95: tuple[float, float] | None
    tags: tuple[TagMetrics, ...]
    undefined_tags: tuple[str, ...]


def measure(
    labels: Labels,
    scores: ScoreArray,
    tags: tuple[str, ...],
    *,
    groups: NDArray[Any] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Return every figure of `scores` (N, num_tags) against `labels` (N, num_tags).

    `groups` (N,) names the piece that each clip was cut from; none: each clip is its own. Raises DataError on NaN or infinity.
    """
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).any(axis=1).sum())
        raise DataError(f"scores: {bad} of {len(scores)} clips have a NaN or infinite score")
    positives = labels.sum(axis=0)
    defined = (positives > 0) & (positives < len(labels))
    per_tag = tuple(
        TagMetrics(tag, int(positives[i]), *(exact_aucs(labels[:, i], scores[:, i]) if defined[i] else (None, None)))
        for i, tag in enumerate(tags)
    )
    undefined = tuple(tag for tag, is_defined in zip(tags, defined, strict=True) if not is_defined)
    if not defined.any():
        return Metrics(None, None, None, None, per_tag, undefined)
    roc_macro = float(np.mean([tag.roc_auc for tag in per_tag if tag.roc_auc is not None]))
    pr_macro = float(np.mean([tag.pr_auc for tag in per_tag if tag.pr_auc is not None]))
    intervals: tuple[Any, Any] = (None, None)
    if num_resamples:
        groups = np.arange(len(labels)) if groups is None else groups
        intervals = bootstrap_intervals(labels[:, defined], scores[:, defined], groups, num_resamples, seed)
    return Metrics(roc_macro, pr_macro, *intervals, per_tag, undefined)


def top_tag_accuracy(labels: Labels, scores: ScoreArray) -> float | None:
    """Return the share of clips whose highest score is their tag; none unless each clip has exactly one tag."""
    if not (labels.sum(axis=1) == 1).all():
        return None
    return float((labels.argmax(axis=1) == scores.argmax(axis=1)).mean())


def bootstrap_intervals(
    labels: Labels, scores: ScoreArray, groups: NDArray[Any], num_resamples: int, seed: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the 95 % intervals of macro ROC-AUC and macro PR-AUC.

    Each resample draws as many groups as there are, with replacement, from a generator seeded with `seed`. A tag that a resample
    leaves without positives or negatives is left out of that resample's mean.
    """
    names, members = np.unique(groups, return_inverse=True)
    generator = np.random.default_rng(seed)
    tables = [RankedTag.of(labels[:, i], scores[:, i]) for i in range(labels.shape[1])]
    roc, pr = [], []
    for start in range(0, num_resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, num_resamples - start)
        counts = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=size)
        weights = counts[:, members].astype(np.float64)  # (size, N): how often each clip was drawn
        figures = np.array([table.weighted_auc(weights) for table in tables])  # (num_tags, 2, size)
        defined = ~np.isnan(figures)
        means = np.where(defined, figures, 0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
        usable = defined.any(axis=0).all(axis=0)
        roc.append(means[0, usable])
        pr.append(means[1, usable])
    return _percentiles(np.concatenate(roc)), _percentiles(np.concatenate(pr))


@dataclass(frozen=True)
class RankedTag:
    """The clips of one tag in descending order of score, ready for many weightings."""

    order: NDArray[np.int64]  # (N,) clips, best first
    is_positive: NDArray[np.float64]  # (N,) in that order
    ends: NDArray[np.int64]  # last index of each run of equal scores

    @classmethod
    def of(cls, labels: NDArray[Any], scores: NDArray[Any]) -> RankedTag:
        """Sort once."""
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
        return cls(order, labels[order].astype(np.float64), ends)

    def weighted_auc(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return ROC-AUC and average precision (num_weightings,) for `weights` (num_weightings, N).

        Weighted like scikit-learn's `sample_weight`; NaN where a weighting has no positive or no negative.
        """
        drawn = weights[:, self.order]
        true_positives = np.cumsum(drawn * self.is_positive, axis=1)[:, self.ends]
        selected = np.cumsum(drawn, axis=1)[:, self.ends]
        false_positives = selected - true_positives
        positives, negatives = true_positives[:, -1], false_positives[:, -1]
        gained = np.diff(true_positives, prepend=0)
        lost = np.diff(false_positives, prepend=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            roc = (lost * (true_positives - gained / 2)).sum(axis=1) / (positives * negatives)
            precision = np.where(selected > 0, true_positives / selected, 0.0)
            average_precision = (gained * precision).sum(axis=1) / positives
        undefined = (positives == 0) | (negatives == 0)
        return np.where(undefined, np.nan, roc), np.where(undefined, np.nan, average_precision)


def _percentiles(figures: NDArray[np.float64]) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(figures, [tail, 1 - tail])
    return float(low), float(high)
