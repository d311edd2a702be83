"""One evaluation, from scores to figures. MindSpore loads only where a network is scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import EvaluateConfig
from fcn4dist.data.leaks import warn_of_leaks
from fcn4dist.data.manifest import digest_clip_list
from fcn4dist.evaluate.document import Evaluated, Evaluation, Scores, TrainedOn, shorten_checksum
from fcn4dist.evaluate.metrics import measure, top_tag_accuracy
from fcn4dist.evaluate.thresholds import Thresholds, choose_thresholds, count_support
from fcn4dist.job.rank import SINGLE

if TYPE_CHECKING:
    from fcn4dist.data.dataset import DataSet, Split
    from fcn4dist.model.fcn4 import FCN4


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
        checksum = digest_clip_list(scores.clip_ids.tolist())
        thresholds = Thresholds(chosen, about.split_name, checksum, count_support(scores.labels))
    metrics = measure(
        scores.labels,
        scores.scores,
        tags,
        groups=tracks,
        num_resamples=num_resamples,
        seed=seed,
        thresholds=None if thresholds is None else thresholds.values,
        clip_ids=scores.clip_ids,
        ranking=scores.ranking,
    )
    resampling = {
        "num_resamples": num_resamples,
        "seed": seed,
        "unit": "clip" if tracks is None else "track",
        "num_units": len(scores.clip_ids) if tracks is None else len(np.unique(tracks)),
    }
    return Evaluation(about, scores, metrics, top_tag_accuracy(scores.labels, scores.ranking), thresholds, resampling)


def describe_evaluated(data: DataSet, part: str, num_expected: int, trained_on: TrainedOn) -> Evaluated:
    """Return what is known of a part of `data`, with a warning where its clips may have been trained on. Raises DataError."""
    if data.mel is None:  # bare shards say nothing of themselves
        return Evaluated(part, trained_on.split_name, num_expected, trained_on)
    warnings = warn_of_leaks(data.leaks) if data.leaks is not None else []
    digest = data.clip_lists.get("train")
    is_same_name = trained_on.split_name == data.split_name
    is_same_list = trained_on.clip_list_sha256 in (None, digest)
    if not (is_same_name and is_same_list):
        checksum = f", clip list {shorten_checksum(trained_on.clip_list_sha256)}" if trained_on.clip_list_sha256 else ""
        warnings.append(
            f"trained on another split ({trained_on.split_name}{checksum}) than the data set's ({data.split_name}): "
            "clips scored here may have been trained on"
        )
    return Evaluated(part, data.split_name, num_expected, trained_on, tuple(warnings))
