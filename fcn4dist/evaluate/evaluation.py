"""One evaluation, from scores to evaluation.json and scores.npz. MindSpore loads only where a network is scored."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import EvaluateConfig
from fcn4dist.data.manifest import digest_clip_list
from fcn4dist.evaluate.evaluated import Evaluated, TrainedOn, describe_evaluated, shorten_checksum
from fcn4dist.evaluate.metrics import Metrics, measure, top_tag_accuracy
from fcn4dist.evaluate.score_file import Scores, save_scores
from fcn4dist.evaluate.thresholds import Thresholds, choose_thresholds
from fcn4dist.files import save_json
from fcn4dist.job.rank import SINGLE

if TYPE_CHECKING:
    from fcn4dist.data.dataset import DataSet, Split
    from fcn4dist.model.fcn4 import FCN4


@dataclass(frozen=True)
class Evaluation:
    """The scores of a split and their figures."""

    about: Evaluated
    scores: Scores
    metrics: Metrics
    top_tag_accuracy: float | None  # where each clip has exactly one tag
    thresholds: Thresholds | None
    resampling: dict[str, Any] = field(default_factory=dict)  # how the intervals came about

    @property
    def split(self) -> str:
        """The part that was scored."""
        return self.about.split

    @property
    def split_checksum(self) -> str:
        """The checksum of the clips that were scored: the manifest's `clip_list_sha256` of that part."""
        return digest_clip_list(self.scores.clip_ids.tolist())

    @property
    def chose_thresholds(self) -> bool:
        """Whether the thresholds were chosen on these very clips, so that F1 is flattered."""
        return self.thresholds is not None and self.thresholds.split_checksum == self.split_checksum

    @property
    def headline(self) -> dict[str, Any]:
        """The figures that a line of metrics/evaluations.jsonl holds."""
        clips = {"split": self.about.split, "split_name": self.about.split_name, "split_checksum": self.split_checksum}
        return {"roc_auc_macro": self.metrics.roc_auc_macro, "pr_auc_macro": self.metrics.pr_auc_macro, **clips}

    @property
    def summary(self) -> str:
        """One line for people."""
        metrics = self.metrics
        place = f"{self.split} of {self.about.split_name} (clip list {shorten_checksum(self.split_checksum)})"
        if metrics.roc_auc_macro is None or metrics.pr_auc_macro is None:
            return f"{place}: no tag has both positives and negatives: nothing to measure"
        parts = [
            f"{place}: ROC-AUC {metrics.roc_auc_macro:.4f}{_interval(metrics.roc_auc_ci95)}",
            f"PR-AUC {metrics.pr_auc_macro:.4f}{_interval(metrics.pr_auc_ci95)}",
        ]
        if self.top_tag_accuracy is not None:
            parts.append(f"top tag right {self.top_tag_accuracy:.1%}")
        parts.append(f"{len(self.scores.clip_ids)} of {self.about.num_expected} clips scored")
        if metrics.undefined_tags:
            parts.append(f"{len(metrics.undefined_tags)} undefined tags left out")
        return ", ".join(parts)


def evaluate_network(
    network: FCN4,
    split: Split,
    data: DataSet,
    config: EvaluateConfig,
    trained_on: TrainedOn,
    thresholds: Thresholds | None = None,
) -> Evaluation:
    """Score `split` in this process and measure. `thresholds` decide about tags; validation clips choose their own.

    Raises DataError.
    """
    from fcn4dist.evaluate.score import score_split  # MindSpore

    scores = score_split(network, split, config.batch, SINGLE)
    return measure_split(scores, split, data, config, trained_on, thresholds)


def measure_split(
    scores: Scores,
    split: Split,
    data: DataSet,
    config: EvaluateConfig,
    trained_on: TrainedOn,
    thresholds: Thresholds | None = None,
) -> Evaluation:
    """Measure the scores of all clips of `split`. Raises DataError."""
    about = describe_evaluated(data, split.name, split.num_clips, trained_on)
    tracks = data.groups_of(scores.clip_ids)
    return evaluate_scores(scores, split.tags, about, tracks, thresholds, config.num_resamples, config.seed)


def evaluate_scores(
    scores: Scores,
    tags: tuple[str, ...],
    about: Evaluated,
    tracks: NDArray[Any] | None,
    thresholds: Thresholds | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Measure scores. Validation clips choose their own thresholds unless some are given. Raises DataError on NaN."""
    if thresholds is None and about.split == "val":
        chosen = choose_thresholds(scores.labels, scores.scores)
        thresholds = Thresholds(chosen, about.split_name, digest_clip_list(scores.clip_ids.tolist()))
    metrics = measure(
        scores.labels,
        scores.scores,
        tags,
        groups=tracks,
        num_resamples=num_resamples,
        seed=seed,
        thresholds=None if thresholds is None else thresholds.values,
        clip_ids=scores.clip_ids,
    )
    resampling = {
        "num_resamples": num_resamples,
        "seed": seed,
        "unit": "clip" if tracks is None else "track",
        "num_units": len(scores.clip_ids) if tracks is None else len(np.unique(tracks)),
    }
    return Evaluation(about, scores, metrics, top_tag_accuracy(scores.labels, scores.scores), thresholds, resampling)


def format_evaluation(evaluation: Evaluation, checkpoint: str | None) -> dict[str, Any]:
    """Return the document of evaluation.json (DESIGN section 5, with more keys)."""
    metrics, about, decisions = evaluation.metrics, evaluation.about, evaluation.metrics.decisions
    thresholds = evaluation.thresholds
    return {
        "checkpoint": checkpoint,
        "split": about.split,
        "split_name": about.split_name,
        "split_checksum": evaluation.split_checksum,
        "trained_on": None if about.trained_on is None else asdict(about.trained_on),
        "num_expected": about.num_expected,
        "num_scored": len(evaluation.scores.clip_ids),
        "roc_auc_macro": metrics.roc_auc_macro,
        "pr_auc_macro": metrics.pr_auc_macro,
        "roc_auc_ci95": metrics.roc_auc_ci95,
        "pr_auc_ci95": metrics.pr_auc_ci95,
        "roc_auc_micro": metrics.roc_auc_micro,
        "pr_auc_micro": metrics.pr_auc_micro,
        "bootstrap": evaluation.resampling,
        "thresholds": None
        if thresholds is None
        else {
            "chosen_on": f"val of {thresholds.split_name}",
            "clip_list_sha256": thresholds.split_checksum,
            "on_these_clips": evaluation.chose_thresholds,
        },
        "f1_macro": decisions and decisions.f1_macro,
        "f1_micro": decisions and decisions.f1_micro,
        "precision_micro": decisions and decisions.precision_micro,
        "recall_micro": decisions and decisions.recall_micro,
        "num_tagged": metrics.num_tagged,
        "num_unknown": sum(tag.unknown for tag in metrics.tags),
        "precision_at_k": {str(found.k): found.precision for found in metrics.at_ranks},
        "recall_at_k": {str(found.k): found.recall for found in metrics.at_ranks},
        "top_tag_accuracy": evaluation.top_tag_accuracy,
        "tags": [asdict(tag) for tag in metrics.tags],
        "undefined_tags": list(metrics.undefined_tags),
        "warnings": list(about.warnings),
    }


def save_evaluation(evaluation: Evaluation, json_file: Path, scores_file: Path, *, checkpoint: str | None) -> None:
    """Write evaluation.json and scores.npz (clip_ids, labels, scores), each atomically."""
    save_scores(scores_file, evaluation.scores)
    save_json(json_file, format_evaluation(evaluation, checkpoint))


def _interval(bounds: tuple[float, float] | None) -> str:
    return f" ({bounds[0]:.4f} to {bounds[1]:.4f})" if bounds else ""
