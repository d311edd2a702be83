"""The training run of one rank: steps, evaluations, checkpoints, until the epochs or the steps are done."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np

from fcn4dist.cluster.rank import Rank
from fcn4dist.collectives import broadcast_parameters, broadcast_text
from fcn4dist.config import BatchPlan, RunConfig, plan_batches
from fcn4dist.data.batches import Batch, RecordSplit, has_split, open_split
from fcn4dist.data.manifest import MANIFEST, load_manifest
from fcn4dist.data.order import rank_order
from fcn4dist.errors import DataError
from fcn4dist.evaluate.evaluation import Evaluation, evaluate_network, save_evaluation
from fcn4dist.model.fcn4 import FCN4, check_input
from fcn4dist.run_dir import RunDir
from fcn4dist.train.checkpoint import Checkpoints, ModelCard, Progress, find_newest, load_optimizer, load_weights
from fcn4dist.train.init_from import load_initial_weights
from fcn4dist.train.records import EvaluationRecords, Pace, StepRecord, StepRecords
from fcn4dist.train.schedule import learning_rate
from fcn4dist.train.step import TrainStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainReport:
    """How a run ended."""

    progress: Progress
    evaluation: Evaluation | None


def train(config: RunConfig, run: RunDir, data_dir: Path, rank: Rank, *, resume: bool = False) -> TrainReport:
    """Train on the data set in `data_dir` and write the run directory.

    `config` is resolved (its `mel` is that of the data). Every rank calls this with the same arguments but `rank`.
    Raises DataError, CheckpointError or ConfigError for what the user can mend, and OSError when the run directory refuses.
    """
    return _Run(config, run, data_dir, rank, resume).finish()


class _Run:
    """A run in progress; built once, finished once."""

    def __init__(self, config: RunConfig, run: RunDir, data_dir: Path, rank: Rank, resume: bool) -> None:
        self.config, self.run, self.rank, self.data_dir = config, run, rank, data_dir
        self.plan: BatchPlan = plan_batches(config.train, rank.world_size)
        self.train_split = open_split(data_dir, "train")
        check_input(config.model, *self.train_split.feature_shape[1:])
        self.steps_per_epoch = check_epoch(self.train_split, self.plan)
        self.num_steps = count_steps(config, self.steps_per_epoch)
        self.eval_split = self._open_eval_split()
        ms.set_seed(config.train.seed)
        self.card = card_of(config, data_dir, self.train_split)
        self.network = FCN4(config.model, len(self.train_split.tags))
        self.weights = list(self.network.get_parameters())
        self.scorer = FCN4(config.model, len(self.train_split.tags))  # evaluates in float32 whatever train.amp is
        if config.train.init_from is not None and not resume:
            load_initial_weights(config.train.init_from, self.weights)
        self.step = TrainStep(self.network, config.train, self.plan)
        self.progress = Progress(global_batch=self.plan.global_batch, seed=config.train.seed)
        if resume and rank.is_chief:  # on several hosts only the chief's may have the checkpoints
            self._resume()
        broadcast_parameters([*self.weights, *self.step.state], rank)
        self.progress = Progress.model_validate_json(broadcast_text(self.progress.model_dump_json(), rank))
        self.step.keep_statistics()
        self.checkpoints = Checkpoints(run.checkpoints, config.checkpoint, self.card, config.digest)
        self.pace = Pace()
        self.records = StepRecords(run.metrics(rank.index), self.progress.step)
        self.evaluations = EvaluationRecords(run, self.progress.step)

    def finish(self) -> TrainReport:
        """Run to the end."""
        evaluation = None
        while self.progress.step < self.num_steps:
            epoch = self.progress.epoch
            self._train_epoch()
            is_last = self.progress.step >= self.num_steps
            if is_last or (
                self.progress.epoch > epoch and self.progress.epoch % self.config.evaluate.every_epochs == 0
            ):
                evaluation = self._evaluate()
        self.records.close()
        return TrainReport(self.progress, evaluation)

    def _train_epoch(self) -> None:
        """Train to the end of the epoch, or to the last step."""
        epoch = self.progress.epoch
        for batch, wait_s in timed(self._batches(epoch)):
            self._train_step(batch, wait_s)
            is_end = self.progress.step >= self.num_steps
            if self.progress.step % self.config.checkpoint.every_steps == 0 and not is_end:
                self._save()
            if is_end:
                break

    def _batches(self, epoch: int) -> Iterator[Batch]:
        first_step = self.progress.cursor // self.plan.global_batch
        positions = rank_order(
            self.train_split.num_clips, self.config.train.seed, epoch, self.plan, self.rank.index, first_step
        )
        return self.train_split.iter_batches(positions.ravel(), self.plan.rank_batch)

    def _train_step(self, batch: Batch, data_wait_s: float) -> None:
        start = time.perf_counter()
        progress = self.progress
        lr = learning_rate(self.config.train, progress.step, self.num_steps)
        result = self.step(batch.mel_db, batch.labels, lr)
        step_s = time.perf_counter() - start + data_wait_s
        step_in_epoch = progress.cursor // self.plan.global_batch + 1
        is_epoch_end = step_in_epoch == self.steps_per_epoch
        self.progress = progress.model_copy(
            update={
                "step": progress.step + 1,
                "epoch": progress.epoch + is_epoch_end,
                "cursor": 0 if is_epoch_end else progress.cursor + self.plan.global_batch,
                "num_overflows": progress.num_overflows + result.is_overflow,
            }
        )
        self.records.add(
            StepRecord(
                step=self.progress.step,
                epoch=progress.epoch + 1,
                loss=result.loss if np.isfinite(result.loss) else None,
                lr=lr,
                loss_scale=result.loss_scale,
                overflow=result.is_overflow,
                samples_per_s=self.plan.global_batch / step_s,
                data_wait_s=data_wait_s,
                step_s=step_s,
                num_steps=self.num_steps,
                num_overflows=self.progress.num_overflows,
                time_left_s=self.pace.time_left_s(step_s, self.num_steps - self.progress.step),
                clip_ids=batch.clip_ids.tolist(),
            )
        )
        if self.rank.is_chief:
            # the line that users of ModelZoo's LossMonitor search their logs for
            logger.info("epoch: %d step: %d, loss is %s", progress.epoch + 1, step_in_epoch, np.float32(result.loss))

    def _evaluate(self) -> Evaluation | None:
        """Score the validation clips on all ranks; the chief measures, writes and keeps the best checkpoint."""
        evaluation = None
        if self.eval_split is not None:
            for mine, trained in zip(self.scorer.get_parameters(), self.weights, strict=True):
                mine.set_data(ms.Tensor(trained.asnumpy()))
            evaluation = evaluate_network(
                self.scorer, self.eval_split, self.data_dir, self.config.evaluate, self.card.split_name, self.rank
            )
        score = evaluation.metrics.roc_auc_macro if evaluation else None
        best = self.progress.best_score
        is_best = score is not None and (best is None or score > best)
        if is_best:
            self.progress = self.progress.model_copy(update={"best_score": score, "best_step": self.progress.step})
        folder = self._save(is_best=is_best)
        if evaluation and self.rank.is_chief:
            save_evaluation(evaluation, self.run.evaluation, self.run.scores, checkpoint=folder)
            self.evaluations.add(self.progress.step, self.progress.epoch, evaluation.metrics)
            logger.info("%s", evaluation.summary)
        return evaluation

    def _save(self, *, is_best: bool = False) -> str:
        """Write a checkpoint on the chief and return its name relative to the run directory."""
        if not self.rank.is_chief:
            return ""
        folder = self.checkpoints.save(self.progress, self.weights, self.step.state)
        if is_best:
            self.checkpoints.mark_best(self.progress.step)
        return str(folder.relative_to(self.run.path))

    def _resume(self) -> None:
        path, state, damaged = find_newest(self.run.checkpoints)
        for line in damaged:
            logger.warning("%s; taking the checkpoint before", line)
        check_same_run(state.progress, self.progress, path)
        load_weights(path, self.weights)
        load_optimizer(path, self.step.state)
        self.progress = state.progress
        logger.info("resumed from %s: epoch %d, step %d", path.name, state.progress.epoch + 1, state.progress.step)

    def _open_eval_split(self) -> RecordSplit | None:
        name = self.config.evaluate.split
        if has_split(self.data_dir, name):
            return open_split(self.data_dir, name)
        if self.rank.is_chief:
            logger.warning("%s has no %s clips: nothing is evaluated", self.data_dir, name)
        return None


def check_epoch(split: RecordSplit, plan: BatchPlan) -> int:
    """Return the steps of an epoch; raises DataError when there is not one."""
    steps = plan.steps_per_epoch(split.num_clips)
    if steps == 0:
        raise DataError(
            f"{split.files[0].parent}: {split.num_clips} training clips are fewer than one global batch of "
            f"{plan.global_batch}; lower train.global_batch"
        )
    return steps


def count_steps(config: RunConfig, steps_per_epoch: int) -> int:
    """Return the steps of the whole run."""
    steps = config.train.epochs * steps_per_epoch
    return min(steps, config.train.max_steps or steps)


def check_same_run(saved: Progress, wanted: Progress, path: Path) -> None:
    """Raise DataError where going on would change what a step holds."""
    for key in ("global_batch", "seed"):
        found, expected = getattr(saved, key), getattr(wanted, key)
        if found != expected:
            raise DataError(
                f"{path}: the run had train.{key} {found}, the config says {expected}; a run goes on with its own"
            )


def card_of(config: RunConfig, data_dir: Path, split: RecordSplit) -> ModelCard:
    """Describe the network that is trained on `split`."""
    has_manifest = (data_dir / MANIFEST).is_file()
    return ModelCard(
        name=config.checkpoint.prefix,
        model=config.model,
        mel=config.mel,
        tags=list(split.tags),
        split_name=load_manifest(data_dir).split.name if has_manifest else "unknown (shards without a manifest)",
    )


def timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Yield each batch with the seconds it was waited for."""
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - start
