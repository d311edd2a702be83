"""One evaluation, from a network to evaluation.json and scores.npz."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.cluster.rank import Rank
from fcn4dist.config import EvaluateConfig
from fcn4dist.data.batches import RecordSplit
from fcn4dist.data.manifest import CLIPS
from fcn4dist.data.splits import parse_track
from fcn4dist.evaluate.metrics import Metrics, measure, top_tag_accuracy
from fcn4dist.evaluate.scores import Scores, score_split
from fcn4dist.files import save_atomically, save_json
from fcn4dist.model.fcn4 import FCN4


@dataclass(frozen=True)
class Evaluation:
    """The scores of a split and their figures."""

    split: str
    split_name: str
    num_expected: int
    scores: Scores
    metrics: Metrics
    top_tag_accuracy: float | None  # where each clip has exactly one tag

    @property
    def summary(self) -> str:
        """One line for people."""
        metrics = self.metrics
        if metrics.roc_auc_macro is None or metrics.pr_auc_macro is None:
            return f"{self.split}: no tag has both positives and negatives: nothing to measure"
        parts = [
            f"{self.split}: ROC-AUC {metrics.roc_auc_macro:.4f}{_interval(metrics.roc_auc_ci95)}",
            f"PR-AUC {metrics.pr_auc_macro:.4f}{_interval(metrics.pr_auc_ci95)}",
        ]
        if self.top_tag_accuracy is not None:
            parts.append(f"top tag right {self.top_tag_accuracy:.1%}")
        parts.append(f"{len(self.scores.clip_ids)} of {self.num_expected} clips scored")
        if metrics.undefined_tags:
            parts.append(f"{len(metrics.undefined_tags)} undefined tags left out")
        return ", ".join(parts)


def evaluate_network(
    network: FCN4, split: RecordSplit, data_dir: Path, config: EvaluateConfig, split_name: str, rank: Rank
) -> Evaluation:
    """Score `split` on all ranks and measure; every rank gets the same evaluation, only the chief's has intervals."""
    scores = score_split(network, split, config.batch, rank)
    metrics = measure(
        scores.labels,
        scores.scores,
        split.tags,
        groups=track_groups(data_dir, scores.clip_ids),
        num_resamples=config.num_resamples if rank.is_chief else 0,
    )
    accuracy = top_tag_accuracy(scores.labels, scores.scores)
    return Evaluation(split.name, split_name, split.num_clips, scores, metrics, accuracy)


def track_groups(data_dir: Path, clip_ids: NDArray[np.int32]) -> NDArray[Any] | None:
    """Return the source track of each clip, from clips.tsv; none where the data set has no such file."""
    file = data_dir / CLIPS
    if not file.is_file():
        return None
    with file.open(encoding="utf-8", newline="") as lines:
        paths = {int(row["clip_id"]): row["mp3_path"] for row in csv.DictReader(lines, delimiter="\t")}
    return np.array([parse_track(paths[clip_id]).track for clip_id in clip_ids.tolist()])


def format_evaluation(evaluation: Evaluation, checkpoint: str) -> dict[str, Any]:
    """Return the document of evaluation.json (DESIGN section 5)."""
    metrics = evaluation.metrics
    return {
        "checkpoint": checkpoint,
        "split": evaluation.split,
        "split_name": evaluation.split_name,
        "num_expected": evaluation.num_expected,
        "num_scored": len(evaluation.scores.clip_ids),
        "roc_auc_macro": metrics.roc_auc_macro,
        "pr_auc_macro": metrics.pr_auc_macro,
        "roc_auc_ci95": metrics.roc_auc_ci95,
        "pr_auc_ci95": metrics.pr_auc_ci95,
        "top_tag_accuracy": evaluation.top_tag_accuracy,
        "tags": [asdict(tag) for tag in metrics.tags],
        "undefined_tags": list(metrics.undefined_tags),
    }


def save_evaluation(evaluation: Evaluation, json_file: Path, scores_file: Path, *, checkpoint: str) -> None:
    """Write evaluation.json and scores.npz (clip_ids, labels, scores), each atomically."""
    scores = evaluation.scores
    save_atomically(
        scores_file,
        lambda file: np.savez(file, clip_ids=scores.clip_ids, labels=scores.labels, scores=scores.scores),
    )
    save_json(json_file, format_evaluation(evaluation, checkpoint))


def _interval(bounds: tuple[float, float] | None) -> str:
    return f" ({bounds[0]:.4f} to {bounds[1]:.4f})" if bounds else ""
