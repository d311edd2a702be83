"""Metrics of a multi-label tagger: pure functions of labels and scores.

ROC-AUC and PR-AUC (average precision) are scikit-learn's. Macro figures are plain means over the tags that have both a positive
and a negative clip; micro figures pool all decisions about all tags. A label that is unknown (-1) counts in no figure.
Intervals: `bootstrap.py`. Thresholds: `thresholds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.errors import DataError
from fcn4dist.evaluate.bootstrap import Interval, Resampling, interval_of, macro_means, resample_aucs
from fcn4dist.evaluate.thresholds import Decisions, decide

RANKS = (1, 3, 5, 10)  # k of precision and recall at k

Labels = NDArray[np.signedinteger[Any]]  # (N, num_tags), 0, 1 or -1: unknown
ScoreArray = NDArray[np.floating[Any]]  # (N, num_tags)


@dataclass(frozen=True)
class TagMetrics:
    """The figures of one tag; the AUCs are none where it has no positive or no negative clip."""

    tag: str
    positives: int
    unknown: int  # clips of which it is not known whether they have the tag: in no figure
    roc_auc: float | None = None
    pr_auc: float | None = None
    roc_auc_ci95: Interval | None = None
    pr_auc_ci95: Interval | None = None
    threshold: float | None = None
    precision: float | None = None  # at the threshold, as are recall and F1
    recall: float | None = None
    f1: float | None = None


@dataclass(frozen=True)
class AtRank:
    """Precision and recall of the k highest scores of a clip among its known tags, averaged over the clips that have a tag."""

    k: int
    precision: float
    recall: float


@dataclass(frozen=True)
class Metrics:
    """The figures of an evaluation; macro figures are none when no tag is defined."""

    roc_auc_macro: float | None
    pr_auc_macro: float | None
    roc_auc_ci95: Interval | None
    pr_auc_ci95: Interval | None
    tags: tuple[TagMetrics, ...]
    undefined_tags: tuple[str, ...]
    roc_auc_micro: float | None = None
    pr_auc_micro: float | None = None
    decisions: Decisions | None = None  # none: no thresholds are at hand
    at_ranks: tuple[AtRank, ...] = ()
    num_tagged: int = 0  # clips with one tag or more


def measure(
    labels: Labels,
    scores: ScoreArray,
    tags: tuple[str, ...],
    *,
    groups: NDArray[Any] | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
    thresholds: tuple[float | None, ...] | None = None,
    clip_ids: NDArray[Any] | None = None,
    ranking: ScoreArray | None = None,
) -> Metrics:
    """Return every figure of `scores` (N, num_tags) against `labels` (N, num_tags).

    `groups` (N,) names the track that each clip was cut from; none: each clip is its own. `thresholds` decide about tags;
    none: precision, recall and F1 are left out. `clip_ids` (N,) name clips in messages. `ranking` (N, num_tags) are the logits of
    the scores, which have no ties where the sigmoid has: AUCs and ranks go by them. Raises DataError on NaN or infinity.
    """
    check_scores(scores, tags, clip_ids)
    ranking = scores if ranking is None else ranking
    positives, unknown, defined = (labels > 0).sum(axis=0), (labels < 0).sum(axis=0), defined_tags(labels)
    drawn = None
    if num_resamples and defined.any():
        drawn = resample_aucs(labels[:, defined], ranking[:, defined], groups, Resampling(num_resamples, seed))
    decisions = None if thresholds is None else decide(labels, scores, thresholds)
    per_tag = []
    for i, tag in enumerate(tags):
        found = TagMetrics(tag, int(positives[i]), int(unknown[i]))
        if defined[i]:
            found = _with_aucs(found, labels[:, i], ranking[:, i], drawn, int(defined[:i].sum()))
        per_tag.append(_with_decisions(found, i, thresholds, decisions))
    roc_auc_micro, pr_auc_micro = None, None
    if 0 < positives.sum() < labels.size - unknown.sum():
        roc_auc_micro, pr_auc_micro = exact_aucs(labels.ravel(), ranking.ravel())
    return Metrics(
        roc_auc_macro=_mean([found.roc_auc for found in per_tag]),
        pr_auc_macro=_mean([found.pr_auc for found in per_tag]),
        roc_auc_ci95=None if drawn is None else interval_of(macro_means(drawn[0])),
        pr_auc_ci95=None if drawn is None else interval_of(macro_means(drawn[1])),
        tags=tuple(per_tag),
        undefined_tags=tuple(tag for tag, is_defined in zip(tags, defined, strict=True) if not is_defined),
        roc_auc_micro=roc_auc_micro,
        pr_auc_micro=pr_auc_micro,
        decisions=decisions,
        at_ranks=measure_ranks(labels, ranking),
        num_tagged=int((labels > 0).any(axis=1).sum()),
    )


def defined_tags(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which columns of `labels` (N, num_tags) have a positive and a negative: those have AUCs."""
    return np.asarray((labels > 0).any(axis=0) & (labels == 0).any(axis=0))


def exact_aucs(labels: NDArray[Any], scores: NDArray[Any]) -> tuple[float, float]:
    """Return (ROC-AUC, average precision) of finite `scores` (N,) against `labels` (N,).

    Labels are 0, 1 or -1 (unknown: left out). Both are NaN without a positive or without a negative.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # a second: not for ranks that only score

    is_known = labels >= 0
    labels, scores = labels[is_known] > 0, scores[is_known]
    if labels.all() or not labels.any():
        return float("nan"), float("nan")
    return float(roc_auc_score(labels, scores)), float(average_precision_score(labels, scores))


def check_scores(scores: ScoreArray, tags: Sequence[str], clip_ids: NDArray[Any] | None = None) -> None:
    """Raise DataError on a NaN or infinite score, naming the first one's clip and tag and how many there are."""
    bad = ~np.isfinite(scores)
    if bad.any():
        row, column = (int(place) for place in np.argwhere(bad)[0])
        clip = row if clip_ids is None else int(clip_ids[row])
        raise DataError(
            f"scores: clip {clip}, tag {tags[column]!r} is {scores[row, column]}; "
            f"{int(bad.any(axis=1).sum())} of {len(scores)} clips have a NaN or infinite score; expected numbers"
        )


def top_tag_accuracy(labels: Labels, scores: ScoreArray) -> float | None:
    """Return the share of clips whose highest score is their tag; none unless each clip is known to have exactly one tag."""
    if not len(labels) or labels.min() < 0 or not (labels.sum(axis=1) == 1).all():
        return None
    return float((labels.argmax(axis=1) == scores.argmax(axis=1)).mean())


def measure_ranks(labels: Labels, scores: ScoreArray, ranks: Sequence[int] = RANKS) -> tuple[AtRank, ...]:
    """Return precision and recall at each k of `ranks` that is no more than the tags, over clips with a tag.

    The k highest scores of a clip, equal ones in the order of the tags, are its k tags. Unknown tags are not ranked; where a clip
    has fewer than k known ones, its k tags are those.
    """
    has_tag = (labels > 0).any(axis=1)
    if not has_tag.any():
        return ()
    true, is_known = labels[has_tag] > 0, labels[has_tag] >= 0
    best = np.argsort(np.where(is_known, -scores[has_tag], np.inf), axis=1, kind="stable")
    hits = np.cumsum(np.take_along_axis(true, best, axis=1), axis=1)  # (clips, k - 1)
    num_true, num_known = true.sum(axis=1), is_known.sum(axis=1)
    return tuple(
        AtRank(
            k,
            float((hits[:, k - 1] / np.minimum(k, num_known)).mean()),
            float((hits[:, k - 1] / num_true).mean()),
        )
        for k in ranks
        if k <= labels.shape[1]
    )


def _with_aucs(
    found: TagMetrics, labels: NDArray[Any], scores: NDArray[Any], drawn: NDArray[np.float64] | None, place: int
) -> TagMetrics:
    roc_auc, pr_auc = exact_aucs(labels, scores)
    return replace(
        found,
        roc_auc=roc_auc,
        pr_auc=pr_auc,
        roc_auc_ci95=None if drawn is None else interval_of(drawn[0, place]),
        pr_auc_ci95=None if drawn is None else interval_of(drawn[1, place]),
    )


def _with_decisions(
    found: TagMetrics, place: int, thresholds: tuple[float | None, ...] | None, decisions: Decisions | None
) -> TagMetrics:
    if thresholds is None or decisions is None:
        return found
    return replace(
        found,
        threshold=thresholds[place],
        precision=decisions.precision[place],
        recall=decisions.recall[place],
        f1=decisions.f1[place],
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
