"""The course of a run: how many steps it has and at what learning rate, where it stands after each, when an evaluation is due.

Pure functions of numbers: no network, no files, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from fcn4dist.config import BatchPlan, RunConfig, TrainConfig
from fcn4dist.data.dataset import Split
from fcn4dist.errors import DataError, JobError
from fcn4dist.run.checkpoints import Origin, Progress

EXPLODED_LOSS = 10.0  # a network that knows nothing has ln 2 = 0.69


@dataclass(frozen=True)
class Course:
    """All steps of a run."""

    plan: BatchPlan
    steps_per_epoch: int
    num_steps: int  # of the whole run
    horizon: int  # steps of all epochs, which a schedule is laid over; train.max_steps cuts a run and not its schedule
    evaluate_every_epochs: int
    seed: int
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def start(self) -> Progress:
        """Where a new run stands."""
        return Progress(global_batch=self.plan.global_batch, seed=self.seed)

    def step_in_epoch(self, progress: Progress) -> int:
        """Return which step of its epoch the next step is, 0-based."""
        return progress.cursor // self.plan.global_batch

    @property
    def is_guided(self) -> bool:
        """Whether evaluations decide how the run goes on, so that all ranks must hear of them."""
        return self.train.schedule == "plateau" or self.train.early_stop_epochs is not None

    def is_stopped_early(self, progress: Progress) -> bool:
        """Return whether train.early_stop_epochs epochs brought no better score, by the last evaluation."""
        return progress.is_stopped_early(self.train.early_stop_epochs)

    def is_last(self, progress: Progress) -> bool:
        """Return whether no step is left."""
        return progress.step >= self.num_steps or self.is_stopped_early(progress)

    def is_done(self, progress: Progress) -> bool:
        """Return whether neither a step nor an evaluation is left."""
        return self.is_last(progress) and progress.is_evaluated

    def after_step(self, progress: Progress, *, is_overflow: bool, loss: float = 0.0) -> Progress:
        """Return where the run stands after its next step: an evaluation is due after the last one and at ends of epochs."""
        is_epoch_end = self.step_in_epoch(progress) + 1 == self.steps_per_epoch
        is_chosen = is_epoch_end and (progress.epoch + 1) % self.evaluate_every_epochs == 0
        return progress.model_copy(
            update={
                "step": progress.step + 1,
                "epoch": progress.epoch + is_epoch_end,
                "cursor": 0 if is_epoch_end else progress.cursor + self.plan.global_batch,
                "num_overflows": progress.num_overflows + is_overflow,
                "overflows_in_row": progress.overflows_in_row + 1 if is_overflow else 0,
                "diverged_in_row": 0 if loss <= EXPLODED_LOSS else progress.diverged_in_row + 1,  # NaN is not less
                "is_evaluated": not (is_chosen or progress.step + 1 >= self.num_steps),
            }
        )

    def after_resuming(self, saved: Progress) -> Progress:
        """Return where a run goes on: the evaluation at what was its end is not due where `train.max_steps` was raised."""
        if not self.is_last(saved) and saved.cursor:
            return saved.model_copy(update={"is_evaluated": True})
        return saved

    def after_evaluation(self, progress: Progress, score: float | None) -> Progress:
        """Return where the run stands after the evaluation that was due; the last of the highest scores is the best.

        Few clips soon have a score of 1.0, and the network goes on learning. No equal score is a better one to wait for, though:
        under the plateau schedule the rate is reduced after train.plateau_patience epochs without a better score, counted anew
        from each reduction.
        """
        changes: dict[str, object] = {"is_evaluated": True, "evaluated_epoch": progress.epoch}
        if score is not None and score == progress.best_score:
            changes["best_step"] = progress.step
        if score is not None and (progress.best_score is None or score > progress.best_score):
            changes |= {"best_score": score, "best_step": progress.step, "best_epoch": progress.epoch}
        elif self.train.schedule == "plateau":
            waited = progress.epoch - max(progress.best_epoch, progress.reduced_epoch)
            if waited >= self.train.plateau_patience:
                changes |= {"num_reductions": progress.num_reductions + 1, "reduced_epoch": progress.epoch}
        return progress.model_copy(update=changes)

    def check_health(self, progress: Progress) -> None:
        """Raise JobError where too many steps in a row changed nothing, or had an exploding or no loss."""
        if progress.overflows_in_row >= self.train.max_overflows:
            raise JobError(
                f"step {progress.step}: the last {progress.overflows_in_row} steps overflowed and changed nothing "
                "(train.max_overflows); use a lower train.lr, train.clip_norm, or train.loss_scale dynamic"
            )
        if progress.diverged_in_row >= self.train.max_diverged_steps:
            raise JobError(
                f"step {progress.step}: the training has diverged: for {progress.diverged_in_row} steps the loss was over "
                f"{EXPLODED_LOSS:g} or no number (train.max_diverged_steps); use a lower train.lr, or train.clip_norm"
            )


def plan_course(config: RunConfig, plan: BatchPlan, split: Split) -> Course:
    """Plan a run over the training part `split`. Raises DataError where it has fewer clips than a global batch."""
    steps_per_epoch = plan.steps_per_epoch(split.num_clips)
    if steps_per_epoch == 0:
        raise DataError(
            f"{split.files[0].parent}: {split.num_clips} training clips are fewer than one global batch of "
            f"{plan.global_batch}; lower train.global_batch"
        )
    horizon = config.train.epochs * steps_per_epoch
    num_steps = min(horizon, config.train.max_steps or horizon)
    return Course(
        plan, steps_per_epoch, num_steps, horizon, config.evaluate.every_epochs, config.train.seed, config.train
    )


def learning_rate(train: TrainConfig, step: int, horizon: int, num_reductions: int = 0) -> float:
    """Return the learning rate of `step` (0-based) in a run whose epochs have `horizon` steps; a resumed run needs nothing else.

    Warm-up is linear: step i of w has (i + 1) / w of the full rate. Cosine falls from the full rate after the warm-up to 0 at
    `horizon` (Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, without restarts). Plateau multiplies the rate by
    train.plateau_factor at each of `num_reductions`.
    """
    full = train.lr * train.plateau_factor**num_reductions
    if step < train.warmup_steps:
        return full * (step + 1) / train.warmup_steps
    if train.schedule != "cosine":
        return full
    progress = (step - train.warmup_steps) / max(1, horizon - train.warmup_steps)
    return train.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def describe_early_stop(train: TrainConfig, progress: Progress) -> str:
    """Say why a run ends before its last step."""
    score = "no ROC-AUC was defined"
    if progress.best_score is not None:
        score = f"best {progress.best_score:.4f} at epoch {progress.best_epoch}"
    return (
        f"stopped early after epoch {progress.epoch}: no better ROC-AUC for {train.early_stop_epochs} epochs "
        f"(train.early_stop_epochs); {score}"
    )


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
