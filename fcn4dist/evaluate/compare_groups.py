"""Do two ways to train differ? Groups of runs, compared pair by pair: the same clips, and the same seed where both have it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from fcn4dist.data.manifest import digest_clip_list
from fcn4dist.errors import DataError
from fcn4dist.evaluate.bootstrap import Interval
from fcn4dist.evaluate.compare import METRICS, check_same_clips
from fcn4dist.evaluate.document import ScoreSource, shorten_checksum
from fcn4dist.evaluate.metrics import defined_tags, exact_aucs
from fcn4dist.run.groups import Spread, repetition_of

Figures = dict[str, tuple[float, float]]  # tag -> ROC-AUC, PR-AUC


@dataclass(frozen=True)
class Pair:
    """One run of each group, on the same clips; figures are means over the tags, none where no tag is defined."""

    a: str
    b: str
    a_checkpoint: str
    b_checkpoint: str
    what: str  # "seed 1, folds:5:4" of a pair by seed
    split_checksum: str
    num_clips: int
    roc_auc: tuple[float | None, float | None]
    pr_auc: tuple[float | None, float | None]


@dataclass(frozen=True)
class GroupDifference:
    """One figure of both groups, and B - A over the pairs."""

    a: Spread
    b: Spread
    difference: Spread
    ci95: Interval | None = (
        None  # of the mean difference, by Student's t; none of one pair, or of pairs that differ alike
    )
    p_value: float | None = None


@dataclass(frozen=True)
class GroupComparison:
    """Two groups of runs."""

    pairs: tuple[Pair, ...]
    is_by_seed: bool  # else in the order in which the runs were named, on the same clips
    macro: dict[str, GroupDifference]
    tags: dict[str, dict[str, GroupDifference]]

    def to_json(self) -> dict[str, Any]:
        """Return the document of `fcn4dist evaluate --compare A B --json` for groups."""
        document = asdict(self)
        macro = {f"{metric}_macro": found for metric, found in document.pop("macro").items()}
        tags = [{"tag": tag, **figures} for tag, figures in document.pop("tags").items()]
        return {"num_pairs": len(self.pairs), **document, **macro, "tags": tags}


def compare_groups(a: Sequence[ScoreSource], b: Sequence[ScoreSource]) -> GroupComparison:
    """Compare two groups of runs pair by pair: mean and sample standard deviation over the runs, and of the differences.

    Raises DataError where the groups have not as many runs on the same clips, or clips, tags or labels of a pair differ.
    """
    matched, is_by_seed = pair_up(a, b)
    pairs, figures = [], []
    for one, other in matched:
        check_same_clips(one, other)
        found = (_aucs(one), _aucs(other))
        figures.append(found)
        pairs.append(
            Pair(
                *(str(one.path), str(other.path), one.checkpoint, other.checkpoint),
                what=repetition_of(_config(one)).words if is_by_seed else "",
                split_checksum=_clips(one),
                num_clips=len(one.scores.clip_ids),
                roc_auc=(_macro(found[0], 0), _macro(found[1], 0)),
                pr_auc=(_macro(found[0], 1), _macro(found[1], 1)),
            )
        )
    macro = {metric: _differ([getattr(pair, metric) for pair in pairs]) for metric in METRICS}
    names = list(dict.fromkeys(tag for found, _ in figures for tag in found))
    tags = {
        tag: {
            metric: difference
            for i, metric in enumerate(METRICS)
            if (difference := _differ([(x[tag][i], y[tag][i]) for x, y in figures if tag in x])) is not None
        }
        for tag in names
    }
    return GroupComparison(tuple(pairs), is_by_seed, {key: found for key, found in macro.items() if found}, tags)


def pair_up(a: Sequence[ScoreSource], b: Sequence[ScoreSource]) -> tuple[list[tuple[ScoreSource, ScoreSource]], bool]:
    """Return the pairs, and whether they are by seed; else the k-th run of A on some clips goes with the k-th of B on them."""
    by_seed = [{(_seed(source), _clips(source)): source for source in group} for group in (a, b)]
    is_whole = len(by_seed[0]) == len(a) and len(by_seed[1]) == len(b) and None not in {key[0] for key in by_seed[0]}
    if is_whole and by_seed[0].keys() == by_seed[1].keys():
        return [(source, by_seed[1][key]) for key, source in by_seed[0].items()], True
    counts = [Counter(map(_clips, group)) for group in (a, b)]
    if len(a) == len(b) and counts[0] != counts[1]:
        for one, other in zip(a, b, strict=True):
            check_same_clips(one, other)  # names the first difference
    if counts[0] != counts[1]:
        raise DataError(
            f"--compare: {len(a)} runs in A, {len(b)} in B; expected as many of each on the same clips: a run of A is compared "
            "with the run of B that has its clips, and its seed where both groups have the same seeds"
        )
    waiting = {checksum: [source for source in b if _clips(source) == checksum] for checksum in counts[1]}
    return [(source, waiting[_clips(source)].pop(0)) for source in a], False


def format_groups(comparison: GroupComparison) -> str:
    """Return the comparison for people."""
    pairs = comparison.pairs
    lines = []
    for pair in pairs:
        (roc_a, roc_b), what = pair.roc_auc, f"{pair.what}, " if pair.what else ""
        found = (
            "no AUC"
            if roc_a is None or roc_b is None
            else f"ROC-AUC A {roc_a:.4f}  B {roc_b:.4f}  B - A {roc_b - roc_a:+.4f}"
        )
        lines.append(f"{what}{pair.num_clips} clips (clip list {shorten_checksum(pair.split_checksum)}): {found}")
        lines += [f"  A: {pair.a}: {pair.a_checkpoint}", f"  B: {pair.b}: {pair.b_checkpoint}"]
    if not comparison.macro:
        return "\n".join([*lines, "no tag has both positives and negatives: nothing to compare"])
    for metric, one in comparison.macro.items():
        spread = "" if one.difference.deviation is None else f" ± {one.difference.deviation:.4f}"
        line = f"{METRICS[metric]:<8} A {one.a}  B {one.b}  B - A {one.difference.mean:+.4f}{spread}"
        if one.ci95 is not None and one.p_value is not None:
            verdict = "unlikely to be chance" if one.p_value < 0.05 else "may well be chance"
            line += f" (95 % interval {one.ci95[0]:+.4f} to {one.ci95[1]:+.4f}, p = {one.p_value:.4f}: {verdict})"
        lines.append(line)
    num = max(one.difference.num for one in comparison.macro.values())
    how = "by seed" if comparison.is_by_seed else "in their order"
    lines.append(
        f"n = {num} pair{'s'[: num != 1]} of runs on the same clips, {how}; ± is the sample standard deviation over runs, and of "
        "B - A over the pairs; interval and p by Student's t over the pairs"
    )
    if len({pair.split_checksum for pair in pairs}) > 1:
        lines.append(
            "warning: folds share training clips, so their interval is too narrow (Bengio and Grandvalet 2004)"
        )
    return "\n".join(lines)


def _config(source: ScoreSource) -> dict[str, Any]:
    return {} if source.config is None else source.config.model_dump(mode="json")


def _seed(source: ScoreSource) -> int | None:
    return None if source.config is None else source.config.train.seed


def _clips(source: ScoreSource) -> str:
    return digest_clip_list(source.scores.clip_ids.tolist())


def _aucs(source: ScoreSource) -> Figures:
    labels, ranking = source.scores.labels, source.scores.ranking
    places = np.flatnonzero(defined_tags(labels)).tolist()
    return {source.tags[place]: exact_aucs(labels[:, place], ranking[:, place]) for place in places}


def _macro(figures: Figures, metric: int) -> float | None:
    return float(np.mean([found[metric] for found in figures.values()])) if figures else None


def _differ(values: Sequence[tuple[float | None, float | None]]) -> GroupDifference | None:
    """Return mean and spread over pairs (a, b); none where no pair is defined."""
    known = [(x, y) for x, y in values if x is not None and y is not None]
    a, b, difference = (
        Spread.of(column) for column in ([x for x, _ in known], [y for _, y in known], [y - x for x, y in known])
    )
    if a is None or b is None or difference is None:
        return None
    if not difference.deviation:
        return GroupDifference(a, b, difference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # differences that are nearly alike
        found = stats.ttest_1samp([y - x for x, y in known], 0.0)
    low, high = found.confidence_interval(0.95)
    return GroupDifference(a, b, difference, (float(low), float(high)), float(found.pvalue))
