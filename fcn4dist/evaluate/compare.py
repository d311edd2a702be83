"""Is the difference between two evaluations real? A paired bootstrap over tracks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.manifest import digest_clip_list
from fcn4dist.errors import DataError
from fcn4dist.evaluate.bootstrap import Interval, Resampling, interval_of, macro_means, resample_aucs
from fcn4dist.evaluate.document import UNKNOWN_TRACKS, ScoreSource, shorten_checksum
from fcn4dist.evaluate.metrics import defined_tags, exact_aucs

METRICS = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}


@dataclass(frozen=True)
class Difference:
    """One figure of both, and B - A; none where it is not defined."""

    a: float | None
    b: float | None
    difference: float | None
    ci95: Interval | None
    p_value: float | None  # two-sided


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same clips."""

    a: str
    b: str
    a_checkpoint: str  # in words
    b_checkpoint: str
    split: str  # that was scored: train, val or test
    split_name: str
    split_checksum: str  # of the clips
    num_clips: int
    is_identical: bool  # every score is the same in both
    num_resamples: int
    seed: int
    unit: str  # what was drawn: "track", or "clip" where the tracks are not known
    num_units: int
    macro: dict[str, Difference]  # roc_auc, pr_auc
    tags: dict[str, dict[str, Difference]]  # tag -> roc_auc, pr_auc
    undefined_tags: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document of `fcn4dist evaluate --compare A B --json`."""
        document = asdict(self)
        macro = {f"{metric}_macro": found for metric, found in document.pop("macro").items()}
        tags = [{"tag": tag, **figures} for tag, figures in document.pop("tags").items()]
        return {**document, "undefined_tags": list(self.undefined_tags), **macro, "tags": tags}


def compare(a: ScoreSource, b: ScoreSource, resampling: Resampling) -> Comparison:
    """Compare two evaluations on the same resamples of tracks.

    The p-value is twice the smaller share of resamples in which the difference is not on one side of nothing, each count raised
    by one, at most 1 (Davison and Hinkley 1997, section 4.4). Unknown labels (-1) are left out. Raises DataError where clips,
    tags or labels differ.
    """
    check_same_clips(a, b)
    labels = a.scores.labels
    defined = defined_tags(labels)
    known = a if a.data is not None else b
    tracks, about = known.tracks, (a if a.evaluation else known).describe()
    figures = (
        [resample_aucs(labels[:, defined], source.scores.ranking[:, defined], tracks, resampling) for source in (a, b)]
        if defined.any()
        else []
    )
    tags: dict[str, dict[str, Difference]] = {}
    places = np.flatnonzero(defined).tolist()
    for drawn, place in enumerate(places):
        plain = [exact_aucs(labels[:, place], source.scores.ranking[:, place]) for source in (a, b)]
        tags[a.tags[place]] = {
            metric: _differ(plain[0][i], plain[1][i], figures[1][i, drawn] - figures[0][i, drawn])
            for i, metric in enumerate(METRICS)
        }
    return Comparison(
        a=str(a.path),
        b=str(b.path),
        a_checkpoint=a.checkpoint,
        b_checkpoint=b.checkpoint,
        split=about.split,
        split_name=about.split_name,
        split_checksum=digest_clip_list(a.scores.clip_ids.tolist()),
        num_clips=len(labels),
        is_identical=np.array_equal(a.scores.ranking, b.scores.ranking),
        num_resamples=resampling.num_resamples,
        seed=resampling.seed,
        unit="clip" if tracks is None else "track",
        num_units=len(labels) if tracks is None else len(np.unique(tracks)),
        macro={metric: _differ_macro(metric, i, tags, figures) for i, metric in enumerate(METRICS)},
        tags=tags,
        undefined_tags=tuple(tag for tag, is_defined in zip(a.tags, defined, strict=True) if not is_defined),
    )


def check_same_clips(a: ScoreSource, b: ScoreSource) -> None:
    """Raise DataError unless both have the same tags, clips and labels, naming the first difference."""
    where = f"--compare {a.path} {b.path}"
    if (one := a.scores.labels.shape[1]) != (other := b.scores.labels.shape[1]):
        raise DataError(f"{where}: {one} tags in A, {other} in B; expected the same")
    if a.evaluation and b.evaluation:
        for place, (in_a, in_b) in enumerate(zip(a.tags, b.tags, strict=True)):
            if in_a != in_b:
                raise DataError(f"{where}: tag {place} is {in_a!r} in A, {in_b!r} in B; expected the same")
    ids_a, ids_b = a.scores.clip_ids, b.scores.clip_ids
    if not np.array_equal(ids_a, ids_b):
        odd = np.setxor1d(ids_a, ids_b)
        owner = "A" if odd[0] in ids_a else "B"
        raise DataError(
            f"{where}: clip {odd[0]} is in {owner} only, as are {len(odd) - 1} more in one of the two "
            f"({len(ids_a)} and {len(ids_b)} clips); expected the same clips"
        )
    different = np.argwhere(a.scores.labels != b.scores.labels)
    if len(different):
        row, tag = different[0]
        found = f"{a.scores.labels[row, tag]} in A, {b.scores.labels[row, tag]} in B"
        raise DataError(
            f"{where}: clip {ids_a[row]}, tag {a.tags[tag]!r}: label {found}; {len(different)} labels differ, "
            "expected the same"
        )


def format_comparison(comparison: Comparison) -> str:
    """Return the comparison for people."""
    c = comparison
    checksum = shorten_checksum(c.split_checksum)
    lines = [
        f"A: {c.a}: {c.a_checkpoint}",
        f"B: {c.b}: {c.b_checkpoint}",
        f"{c.split} of {c.split_name} (clip list {checksum}), {c.num_clips} clips",
    ]
    for metric, found in c.macro.items():
        if found.a is None or found.b is None or found.difference is None:
            return "\n".join([*lines, "no tag has both positives and negatives: nothing to compare"])
        line = f"{METRICS[metric]:<8} A {found.a:.4f}  B {found.b:.4f}  B - A {found.difference:+.4f}"
        if found.ci95 is not None and found.p_value is not None and not c.is_identical:
            verdict = "unlikely to be chance" if found.p_value < 0.05 else "may well be chance"
            line += f" (95 % interval {found.ci95[0]:+.4f} to {found.ci95[1]:+.4f}, p = {found.p_value:.4f}: {verdict})"
        lines.append(line)
    if c.is_identical:
        lines.append("the scores are identical")
    lines.append(f"{c.num_units} {c.unit}s, {c.num_resamples} paired resamples of {c.unit}s, seed {c.seed}")
    if c.undefined_tags:
        lines.append(f"undefined tags left out: {', '.join(c.undefined_tags)}")
    if c.unit == "clip":
        lines.append(UNKNOWN_TRACKS)
    return "\n".join(lines)


def _differ_macro(
    metric: str, place: int, tags: dict[str, dict[str, Difference]], figures: list[NDArray[Any]]
) -> Difference:
    if not tags:
        return Difference(None, None, None, None, None)
    a = [found[metric].a for found in tags.values()]
    b = [found[metric].b for found in tags.values()]
    drawn = macro_means(figures[1][place]) - macro_means(figures[0][place])
    return _differ(
        float(np.mean([value for value in a if value is not None])),
        float(np.mean([value for value in b if value is not None])),
        drawn,
    )


def _differ(a: float, b: float, drawn: NDArray[np.float64]) -> Difference:
    usable = drawn[~np.isnan(drawn)]
    if not len(usable):
        return Difference(a, b, b - a, None, None)
    rare = min(int((usable <= 0).sum()), int((usable >= 0).sum()))
    return Difference(a, b, b - a, interval_of(usable), min(1.0, 2 * (rare + 1) / (len(usable) + 1)))
