"""Thresholds that turn scores into tags: the best F1 on validation clips, and what it gives on any clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.errors import DataError
from fcn4dist.run.figures import Figures
from fcn4dist.run.state import value_of

MIN_SUPPORT = 10  # with fewer, one clip more or less moves the threshold: with 3 of 10 clips it was 0.97


@dataclass(frozen=True)
class Thresholds:
    """One threshold a tag: a clip has the tag where its score is at least that."""

    values: tuple[float | None, ...]  # none: the tag had no positive, or no negative, to choose by
    split_name: str  # whose val part they were chosen on
    split_checksum: str  # of the clips they were chosen on
    support: tuple[
        int, ...
    ] = ()  # clips a tag that each was chosen from: those with it or without it, whichever are fewer


@dataclass(frozen=True)
class Decisions:
    """How decisions by threshold fare; a figure is none where it has nothing to count."""

    precision: tuple[float | None, ...]  # a tag
    recall: tuple[float | None, ...]
    f1: tuple[float | None, ...]
    f1_macro: float | None  # mean over the tags that have a threshold and a positive clip
    precision_micro: float | None  # over all decisions about tags with a threshold
    recall_micro: float | None
    f1_micro: float | None


def choose_thresholds(labels: NDArray[Any], scores: NDArray[Any]) -> tuple[float | None, ...]:
    """Return for each tag the score (of some clip) that gives the best F1; of several the highest.

    `labels` (0, 1 or -1: unknown, left out) and `scores` are (N, num_tags). None for a tag without a positive or a negative clip.
    """
    return tuple(_best_threshold(labels[:, i], scores[:, i]) for i in range(labels.shape[1]))


def decide(labels: NDArray[Any], scores: NDArray[Any], thresholds: tuple[float | None, ...]) -> Decisions:
    """Measure decisions: precision is none where nothing was tagged, recall and F1 where nothing should be.

    A decision about a label that is unknown (-1) does not count.
    """
    used = [i for i, threshold in enumerate(thresholds) if threshold is not None]
    true, tagged, found = (np.zeros(len(thresholds), np.int64) for _ in range(3))
    for i in used:
        is_true, is_tagged = labels[:, i] > 0, (scores[:, i] >= thresholds[i]) & (labels[:, i] >= 0)
        true[i], tagged[i], found[i] = is_true.sum(), is_tagged.sum(), (is_tagged & is_true).sum()
    rows = [
        _ratios(int(found[i]), int(tagged[i]), int(true[i])) if i in used else (None, None, None)
        for i in range(len(true))
    ]
    precision, recall, f1 = zip(*rows, strict=True)
    measured = [value for value in f1 if value is not None]
    micro = _ratios(int(found.sum()), int(tagged.sum()), int(true.sum()))
    return Decisions(precision, recall, f1, float(np.mean(measured)) if measured else None, *micro)


def count_support(labels: NDArray[Any]) -> tuple[int, ...]:
    """Return for each tag how many clips have it or how many do not, whichever are fewer; unknown labels (-1) are neither."""
    return tuple(np.minimum((labels > 0).sum(axis=0), (labels == 0).sum(axis=0)).tolist())


def reliable_thresholds(figures: Figures) -> tuple[tuple[float | None, ...], int]:
    """Return the thresholds of an evaluation that may decide about clips, and how many were left out (none).

    A threshold that was chosen from fewer than MIN_SUPPORT clips with the tag, or without it, says more about these clips than
    about the tag.
    """
    chosen = figures.document.get("thresholds")
    support: Any = chosen.get("support") if isinstance(chosen, dict) else None
    if support is None and isinstance(chosen, dict) and chosen.get("on_these_clips"):  # of an older fcn4dist
        support = _support_of(figures)
    counts = support if isinstance(support, list) and all(isinstance(few, int) for few in support) else []
    if len(counts) != len(figures.thresholds):
        return figures.thresholds, 0
    known = list(zip(figures.thresholds, counts, strict=True))
    found = tuple(None if few < MIN_SUPPORT else threshold for threshold, few in known)
    return found, sum(threshold is not None and few < MIN_SUPPORT for threshold, few in known)


def load_thresholds(file: Path, tags: tuple[str, ...]) -> Thresholds:
    """Read thresholds from the evaluation.json of a val part.

    Raises DataError where the file has none, or other tags, or thresholds that were not chosen on its own clips.
    """
    figures = Figures.load(file)
    names, chosen = figures.tag_names, figures.document.get("thresholds")
    split_name, checksum = (figures.document.get(key) for key in ("split_name", "split_checksum"))
    if not names or not isinstance(chosen, dict) or not isinstance(split_name, str) or not isinstance(checksum, str):
        found = "no evaluation with thresholds" if file.is_file() else "cannot be read: No such file"
        raise DataError(f"{file}: {found}; expected an evaluation.json of validation clips")
    if not chosen.get("on_these_clips"):
        raise DataError(
            f"{file}: its thresholds were chosen elsewhere; expected an evaluation.json of validation clips"
        )
    if names != tags:
        raise DataError(f"{file}: thresholds for other tags: {_first_difference(names, tags)}")
    return Thresholds(figures.thresholds, split_name, checksum, tuple(_support_of(figures)))


def _support_of(figures: Figures) -> list[int]:
    """Return the support of thresholds that were chosen on the clips of these figures themselves."""
    num_clips, support = int(value_of(figures.document, "num_scored") or 0), []
    for entry in figures.tag_entries:
        positives, unknown = (int(value_of(entry, key) or 0) for key in ("positives", "unknown"))
        support.append(max(0, min(positives, num_clips - unknown - positives)))
    return support


def _best_threshold(labels: NDArray[Any], scores: NDArray[Any]) -> float | None:
    is_known = labels >= 0
    labels, scores = labels[is_known], scores[is_known]
    num_positives = int(labels.sum())
    if num_positives in (0, len(labels)):
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # last clip of each run of equal scores
    found = np.cumsum(labels[order])[ends]
    f1 = 2 * found / (ends + 1 + num_positives)
    return float(scores[order[ends[np.argmax(f1)]]])


def _ratios(found: int, tagged: int, true: int) -> tuple[float | None, float | None, float | None]:
    return (
        found / tagged if tagged else None,
        found / true if true else None,
        2 * found / (tagged + true) if true else None,
    )


def _first_difference(found: tuple[str, ...], expected: tuple[str, ...]) -> str:
    for place, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return f"tag {place} is {one!r}, expected {other!r}"
    return f"{len(found)} tags, expected {len(expected)}"
