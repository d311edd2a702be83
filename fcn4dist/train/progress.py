"""The course of a run: how many steps it has and at what learning rate, where it stands after each, when an evaluation is due.

Pure functions of numbers: no network, no files, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.config import BatchPlan, RunConfig, TrainConfig
from fcn4dist.data.dataset import Split
from fcn4dist.errors import DataError
from fcn4dist.run.checkpoints import Origin, Progress


@dataclass(frozen=True)
class Course:
    """All steps of a run."""

    plan: BatchPlan
    steps_per_epoch: int
    num_steps: int  # of the whole run
    evaluate_every_epochs: int
    seed: int

    @property
    def start(self) -> Progress:
        """Where a new run stands."""
        return Progress(global_batch=self.plan.global_batch, seed=self.seed)

    def step_in_epoch(self, progress: Progress) -> int:
        """Return which step of its epoch the next step is, 0-based."""
        return progress.cursor // self.plan.global_batch

    def is_last(self, progress: Progress) -> bool:
        """Return whether no step is left."""
        return progress.step >= self.num_steps

    def is_done(self, progress: Progress) -> bool:
        """Return whether neither a step nor an evaluation is left."""
        return self.is_last(progress) and progress.is_evaluated

    def after_step(self, progress: Progress, *, is_overflow: bool) -> Progress:
        """Return where the run stands after its next step: an evaluation is due after the last one and at ends of epochs."""
        is_epoch_end = self.step_in_epoch(progress) + 1 == self.steps_per_epoch
        is_chosen = is_epoch_end and (progress.epoch + 1) % self.evaluate_every_epochs == 0
        return progress.model_copy(
            update={
                "step": progress.step + 1,
                "epoch": progress.epoch + is_epoch_end,
                "cursor": 0 if is_epoch_end else progress.cursor + self.plan.global_batch,
                "num_overflows": progress.num_overflows + is_overflow,
                "is_evaluated": not (is_chosen or progress.step + 1 >= self.num_steps),
            }
        )

    def after_resuming(self, saved: Progress) -> Progress:
        """Return where a run goes on: the evaluation at what was its end is not due where `train.max_steps` was raised."""
        if not self.is_last(saved) and saved.cursor:
            return saved.model_copy(update={"is_evaluated": True})
        return saved


def after_evaluation(progress: Progress, score: float | None) -> Progress:
    """Return where the run stands after the evaluation that was due; the highest `score` is the best, of equal ones the first."""
    changes: dict[str, object] = {"is_evaluated": True}
    if score is not None and (progress.best_score is None or score > progress.best_score):
        changes |= {"best_score": score, "best_step": progress.step}
    return progress.model_copy(update=changes)


def plan_course(config: RunConfig, plan: BatchPlan, split: Split) -> Course:
    """Plan a run over the training part `split`. Raises DataError where it has fewer clips than a global batch."""
    steps_per_epoch = plan.steps_per_epoch(split.num_clips)
    if steps_per_epoch == 0:
        raise DataError(
            f"{split.files[0].parent}: {split.num_clips} training clips are fewer than one global batch of "
            f"{plan.global_batch}; lower train.global_batch"
        )
    num_steps = min(config.train.epochs * steps_per_epoch, config.train.max_steps or math.inf)
    return Course(plan, steps_per_epoch, int(num_steps), config.evaluate.every_epochs, config.train.seed)


def learning_rate(train: TrainConfig, step: int, num_steps: int) -> float:
    """Return the learning rate of `step` (0-based) in a run of `num_steps`; a resumed run needs nothing else.

    Warm-up is linear: step i of w has (i + 1) / w of the full rate. Cosine falls from the full rate after the warm-up to 0 at
    `num_steps` (Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, without restarts).
    """
    if step < train.warmup_steps:
        return train.lr * (step + 1) / train.warmup_steps
    if train.schedule == "constant":
        return train.lr
    progress = (step - train.warmup_steps) / max(1, num_steps - train.warmup_steps)
    return train.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def check_same_run(saved: Progress, wanted: Progress, path: Path) -> None:
    """Raise DataError where going on would change what a step holds."""
    for key in ("global_batch", "seed"):
        found, expected = getattr(saved, key), getattr(wanted, key)
        if found != expected:
            raise DataError(
                f"{path}: the run had train.{key} {found}, the config says {expected}; a run goes on with its own"
            )


def check_same_clips(saved: Origin, wanted: Origin, path: Path) -> None:
    """Raise DataError where the data set is not the one that the run began with."""
    if saved.train_clips is not None and saved.train_clips != wanted.train_clips:
        raise DataError(
            f"{path}: the run trained on other clips (checksum {saved.train_clips}, the data set here has "
            f"{wanted.train_clips}); a run goes on with its own data set"
        )
