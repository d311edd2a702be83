"""The start of a run on one rank: what is checked, built, loaded and shared before the first step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import mindspore as ms
from mindspore import Parameter

from fcn4dist.config import RunConfig, check_precision, plan_batches
from fcn4dist.data.augment import check_augment
from fcn4dist.data.dataset import DataSet, Split
from fcn4dist.data.tags import named_tags
from fcn4dist.errors import DataError
from fcn4dist.job.rank import Rank
from fcn4dist.model.cpu_layers import build_network
from fcn4dist.model.fcn4 import check_input
from fcn4dist.run.folder import RunDir
from fcn4dist.train.checkpoint import (
    Checkpoints,
    ModelCard,
    Origin,
    Progress,
    find_newest,
    load_optimizer,
    load_weights,
)
from fcn4dist.train.collectives import broadcast_state
from fcn4dist.train.init_from import load_initial_weights
from fcn4dist.train.progress import Course, check_same_clips, check_same_run, plan_course
from fcn4dist.train.step import TrainStep

logger = logging.getLogger(__name__)
SHARED = (
    "step",
    "epoch",
    "cursor",
    "num_overflows",
    "best_epoch",
    "evaluated_epoch",
    "num_reductions",
    "reduced_epoch",
    "overflows_in_row",
    "diverged_in_row",
    "is_evaluated",
)  # of Progress; the best score is the chief's alone


@dataclass(frozen=True)
class Start:
    """A run that is ready for its next step."""

    split: Split  # the training part
    course: Course
    card: ModelCard
    weights: Sequence[
        Parameter
    ]  # as they are evaluated: parameters, or their moving average, and batch-norm statistics
    step: TrainStep
    progress: Progress
    checkpoints: Checkpoints


def start_run(config: RunConfig, run: RunDir, data: DataSet, rank: Rank, *, resume: bool) -> Start:
    """Check that the run is possible, build its network and its step, and set them to where the chief begins.

    Raises DataError, CheckpointError or ConfigError.
    """
    plan = plan_batches(config.train, rank.world_size)
    split = data.split("train")
    n_mels = split.feature_shape[1]
    check_input(config.model, n_mels, split.num_frames)
    check_precision(config.train, ms.get_context("device_target"))
    check_augment(config.augment, split)
    split.check_positives()
    course = plan_course(config, plan, split)
    if course.is_guided:
        check_validation(data)
    ms.set_seed(config.train.seed)
    network = build_network(config.model, len(split.tags), config.train.amp, n_mels)
    if config.train.init_from is not None and not resume:
        load_initial_weights(config.train.init_from, list(network.get_parameters()), data, named_tags(config.data.tags))
    step = TrainStep(network, config.train, plan)
    weights = step.weights
    card = card_of(config, data)
    origin = Origin(
        train_clips=data.train_checksum(), steps_per_epoch=course.steps_per_epoch, world_size=rank.world_size
    )
    checkpoints = Checkpoints(run.checkpoints, config.checkpoint, card, config.digest, origin)
    progress = course.start
    if rank.is_chief:
        checkpoints.clean()
        if resume:
            progress = _load_newest(run, course, origin, weights, step, checkpoints)
    progress = _share(progress, [*weights, *step.state], rank)
    step.keep_statistics()
    return Start(split, course, card, weights, step, progress, checkpoints)


def check_validation(data: DataSet) -> None:
    """Raise DataError where evaluations cannot guide a run: without a validation clip, or with no tag that has both kinds."""
    where = f"{data.path}: train.schedule plateau and train.early_stop_epochs go by the validation ROC-AUC, but there"
    if "val" not in data.parts:
        raise DataError(f"{where} are no val clips")
    labels = data.split("val").labels
    if not ((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).any():
        raise DataError(f"{where} is no tag that some val clips have and others have not")


def card_of(config: RunConfig, data: DataSet) -> ModelCard:
    """Describe the network that is trained on `data`."""
    return ModelCard(
        name=config.checkpoint.prefix,
        model=config.model,
        mel=config.mel,
        tags=list(data.split("train").tags),
        split_name=data.split_name,
        clip_list_sha256=data.clip_lists,
    )


def _load_newest(
    run: RunDir,
    course: Course,
    origin: Origin,
    weights: Sequence[Parameter],
    step: TrainStep,
    checkpoints: Checkpoints,
) -> Progress:
    """Load the newest checkpoint that is whole, and return where it stands."""
    path, state, damaged = find_newest(run.checkpoints)
    for line in damaged:
        logger.warning("%s; taking the checkpoint before", line)
    check_same_run(state.progress, course.start, path)
    check_same_clips(state.origin, origin, path)
    load_weights(path, weights)
    load_optimizer(path, step.state)
    checkpoints.go_on_from(path)
    logger.info("resumed from %s: epoch %d, step %d", path.name, state.progress.epoch + 1, state.progress.step)
    return course.after_resuming(state.progress)


def _share(progress: Progress, parameters: Sequence[Parameter], rank: Rank) -> Progress:
    """Start where the chief starts: only it needs to see the checkpoints."""
    numbers = broadcast_state(parameters, [int(getattr(progress, field)) for field in SHARED], rank)
    if rank.is_chief:
        return progress
    return progress.model_copy(update=dict(zip(SHARED, numbers, strict=True)))
