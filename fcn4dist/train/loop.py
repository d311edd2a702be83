"""The training run of one rank: steps, evaluations, checkpoints, until the epochs or the steps are done."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import BatchPlan, RunConfig, plan_batches
from fcn4dist.data.augment import crop_clips
from fcn4dist.data.dataset import Batch, DataSet, Split
from fcn4dist.data.order import rank_order
from fcn4dist.errors import DataError
from fcn4dist.evaluate.evaluated import TrainedOn
from fcn4dist.evaluate.evaluation import Evaluation, evaluate_network, format_evaluation, save_evaluation
from fcn4dist.files import save_json
from fcn4dist.job.rank import Rank
from fcn4dist.model.cpu_layers import build_network
from fcn4dist.model.fcn4 import FCN4, check_input
from fcn4dist.run.folder import RunDir
from fcn4dist.run.metrics import EvaluationRecords, Pace, StepRecord, StepRecords, cut_left_over_ranks
from fcn4dist.run.pulse import Phase, PulseFile
from fcn4dist.train.checkpoint import (
    Checkpoints,
    ModelCard,
    Origin,
    Progress,
    find_newest,
    load_optimizer,
    load_weights,
    step_name,
)
from fcn4dist.train.checkpoint_writer import CheckpointWriter
from fcn4dist.train.collectives import broadcast_state, gather_rows
from fcn4dist.train.init_from import load_initial_weights
from fcn4dist.train.schedule import learning_rate
from fcn4dist.train.step import TrainStep
from fcn4dist.train.stop_request import StopRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainReport:
    """How a run ended."""

    progress: Progress
    num_steps: int  # of the whole run
    evaluation: Evaluation | None
    stopped_by: int | None = None  # the signal that asked this rank, or 0 for another one; None: the run is finished


def train(
    config: RunConfig,
    run: RunDir,
    data: DataSet,
    rank: Rank,
    *,
    resume: bool = False,
    stop: StopRequest | None = None,
    pulse: PulseFile | None = None,
) -> TrainReport:
    """Train on `data` and write the run directory.

    `config` is resolved (its `mel` is that of the data). Every rank calls this with the same arguments but `rank`; of `resume`
    the chief's counts. `stop` ends the run after a step, with a checkpoint; `pulse` is told what this rank is doing. Raises
    DataError, CheckpointError or ConfigError for what the user can mend, JobError when a checkpoint cannot be written, and
    OSError when the run directory refuses.
    """
    return _Run(config, run, data, rank, resume, pulse).finish(stop or StopRequest())


class _Run:
    """A run in progress; built once, finished once."""

    def __init__(
        self, config: RunConfig, run: RunDir, data: DataSet, rank: Rank, resume: bool, pulse: PulseFile | None
    ) -> None:
        self.config, self.run, self.rank, self.data, self.pulse = config, run, rank, data, pulse
        self.plan: BatchPlan = plan_batches(config.train, rank.world_size)
        self.train_split = data.split("train")
        check_input(config.model, self.train_split.feature_shape[1], self.train_split.num_frames)
        self.steps_per_epoch = check_epoch(self.train_split, self.plan)
        self.num_steps = count_steps(config, self.steps_per_epoch)
        self.eval_split = self._open_eval_split()
        ms.set_seed(config.train.seed)
        self.card = card_of(config, data)
        self.network = build_network(config.model, len(self.train_split.tags), config.train.amp)
        self.weights = list(self.network.get_parameters())
        self.scorer = FCN4(config.model, len(self.train_split.tags))  # evaluates in float32 whatever train.amp is
        if config.train.init_from is not None and not resume:
            load_initial_weights(config.train.init_from, self.weights, data)
        self.step = TrainStep(self.network, config.train, self.plan)
        self.progress = Progress(global_batch=self.plan.global_batch, seed=config.train.seed)
        self.origin = Origin(
            train_clips=data.train_checksum(),
            steps_per_epoch=self.steps_per_epoch,
            world_size=rank.world_size,
        )
        checkpoints = Checkpoints(run.checkpoints, config.checkpoint, self.card, config.digest, self.origin)
        if rank.is_chief:
            checkpoints.clean()
            if resume:
                self._resume()
        self._share_start()
        self.step.keep_statistics()
        self.writer = CheckpointWriter(checkpoints, config.checkpoint.on_error)
        self.pace = Pace()
        self.is_patient = config.checkpoint.on_error == "continue"  # with a disk that refuses
        self.records = StepRecords(run.metrics(rank.index), self.progress.step, is_patient=self.is_patient)
        if rank.is_chief:
            cut_left_over_ranks(run, rank.world_size, self.progress.step)
        self.evaluations = EvaluationRecords(run, self.progress.step, is_patient=self.is_patient)
        self.saved_step = self.progress.step if resume else None
        self.is_first_step = True

    def _share_start(self) -> None:
        """Start where the chief starts: only it needs to see the checkpoints."""
        fields = ("step", "epoch", "cursor", "num_overflows", "is_evaluated")
        numbers = [int(getattr(self.progress, field)) for field in fields]
        numbers = broadcast_state([*self.weights, *self.step.state], numbers, self.rank)
        if not self.rank.is_chief:
            self.progress = self.progress.model_copy(update=dict(zip(fields, numbers, strict=True)))

    def finish(self, stop: StopRequest) -> TrainReport:
        """Run to the end, or to the step after which `stop` ends it."""
        evaluation, stopped_by = None, None
        try:
            with stop:
                while stopped_by is None and not self._is_done:
                    if not self.progress.is_evaluated:
                        with stop.shielded():  # a wish to stop waits for the next step in any case
                            evaluation = self._evaluate()
                    else:
                        stopped_by = self._train_epoch(stop)
                self._beat("saving")
                if stopped_by is not None:
                    self._save()
                self.writer.wait(is_end=True)
        finally:
            self.writer.abandon()  # nothing is left to do after the line above; after an error, the last write ends
        self.records.close()
        return TrainReport(self.progress, self.num_steps, evaluation, stopped_by)

    @property
    def _is_done(self) -> bool:
        return self.progress.step >= self.num_steps and self.progress.is_evaluated

    def _beat(self, phase: Phase) -> None:
        if self.pulse is not None:
            self.pulse.beat(phase, self.progress.step + 1)

    def _train_epoch(self, stop: StopRequest) -> int | None:
        """Train to the end of the epoch, to the last step, or until `stop`: then return the signal (0: of another rank)."""
        self._beat("data")
        for batch, wait_s in timed(self._batches(self.progress.epoch), stop):
            self.writer.check()
            is_stop = self._train_step(batch, wait_s, stop)
            if not self.progress.is_evaluated:
                self._save()  # before the evaluation, which may be long
            elif self.progress.step % self.config.checkpoint.every_steps == 0:
                self._save()
            if is_stop and not (self.progress.step >= self.num_steps):
                return stop.signal or 0
            if not self.progress.is_evaluated:
                break
            self._beat("data")
        return None

    def _batches(self, epoch: int) -> Iterator[Batch]:
        first_step = self.progress.cursor // self.plan.global_batch
        positions = rank_order(
            self.train_split.num_clips, self.config.train.seed, epoch, self.plan, self.rank.index, first_step
        )
        return self.train_split.iter_batches(positions.ravel(), self.plan.rank_batch)

    def _train_step(self, batch: Batch, data_wait_s: float, stop: StopRequest) -> bool:
        """Do one step and record it; return whether the ranks agreed to stop after it."""
        self._beat("compiling" if self.is_first_step else "step")
        self.is_first_step = False
        start = time.perf_counter()
        progress = self.progress
        lr = learning_rate(self.config.train, progress.step, self.num_steps)
        result = self.step(self._crop(batch), batch.labels, lr, wants_stop=stop.is_set)
        step_s = time.perf_counter() - start + data_wait_s
        step_in_epoch = progress.cursor // self.plan.global_batch + 1
        is_epoch_end = step_in_epoch == self.steps_per_epoch
        is_last = progress.step + 1 >= self.num_steps
        is_due = is_last or (is_epoch_end and (progress.epoch + 1) % self.config.evaluate.every_epochs == 0)
        self.progress = progress.model_copy(
            update={
                "step": progress.step + 1,
                "epoch": progress.epoch + is_epoch_end,
                "cursor": 0 if is_epoch_end else progress.cursor + self.plan.global_batch,
                "num_overflows": progress.num_overflows + result.is_overflow,
                "is_evaluated": not is_due,
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
                checkpoint_wait_s=self._checkpoint_wait_s(),
                step_s=step_s,
                num_steps=self.num_steps,
                num_overflows=self.progress.num_overflows,
                time_left_s=self.pace.time_left_s(step_s, self.num_steps - self.progress.step),
                clip_ids=batch.clip_ids.tolist(),
                reduce_s=result.reduce_s,
            )
        )
        if self.rank.is_chief:
            # the line that users of ModelZoo's LossMonitor search their logs for
            logger.info("epoch: %d step: %d, loss is %s", progress.epoch + 1, step_in_epoch, np.float32(result.loss))
        return result.is_stop

    def _crop(self, batch: Batch) -> NDArray[np.float32]:
        """Return what the network hears of the stored pieces: (rank_batch, 1, n_mels, frames)."""
        return crop_clips(
            batch.mel_db,
            batch.clip_ids,
            batch.sound_frames,
            self.train_split.num_frames,
            crop=self.config.augment.crop,
            seed=self.config.train.seed,
            epoch=self.progress.epoch,
        )

    def _checkpoint_wait_s(self) -> float:
        """Return what checkpoints have cost since the last step."""
        waited_s, self.writer.waited_s = self.writer.waited_s, 0.0
        return waited_s

    def _evaluate(self) -> Evaluation | None:
        """Score the validation clips on all ranks; the chief measures, writes, and keeps the best checkpoint.

        The checkpoint of this step exists already; that its evaluation is done is noted in it last of all.
        """
        self._beat("evaluating")
        evaluation = None
        if self.eval_split is not None:
            for mine, trained in zip(self.scorer.get_parameters(), self.weights, strict=True):
                mine.set_data(ms.Tensor(trained.asnumpy()))
            evaluation = evaluate_network(
                self.scorer,
                self.eval_split,
                self.data,
                self.config.evaluate,
                self._trained_on,
                self.rank,
                gather=gather_rows,
            )
        score = evaluation.metrics.roc_auc_macro if evaluation else None
        best, step = self.progress.best_score, self.progress.step
        changes: dict[str, object] = {"is_evaluated": True}
        is_best = score is not None and (best is None or score > best)
        if is_best:
            changes |= {"best_score": score, "best_step": step}
        self.progress = self.progress.model_copy(update=changes)
        if self.rank.is_chief:
            if evaluation:
                self._write_evaluation(evaluation, is_best=is_best)
            self.writer.restate(self.progress)
        return evaluation

    @property
    def _trained_on(self) -> TrainedOn:
        return TrainedOn(self.card.split_name, self.card.clip_list_sha256.get("train"))

    def _write_evaluation(self, evaluation: Evaluation, *, is_best: bool) -> None:
        step = self.progress.step
        folder = self.run.checkpoints.relative_to(self.run.path) / step_name(step)
        try:
            save_evaluation(evaluation, self.run.evaluation, self.run.scores, checkpoint=str(folder))
            if is_best:  # the best checkpoint's thresholds and figures outlive later evaluations
                save_json(self.run.best_evaluation, format_evaluation(evaluation, str(folder)))
        except OSError as error:
            if not self.is_patient:
                raise
            logger.warning("%s: cannot be written: %s", self.run.evaluation, error.strerror)
        self.evaluations.add(step, self.progress.epoch, evaluation.headline)
        logger.info("%s", evaluation.summary)

    def _save(self) -> None:
        """Write a checkpoint of this step on the chief, unless it is written already."""
        if self.rank.is_chief and self.saved_step != self.progress.step:
            self.writer.save(self.progress, self.weights, self.step.state)
            self.saved_step = self.progress.step

    def _resume(self) -> None:
        path, state, damaged = find_newest(self.run.checkpoints)
        for line in damaged:
            logger.warning("%s; taking the checkpoint before", line)
        check_same_run(state.progress, self.progress, path)
        check_same_clips(state.origin, self.origin, path)
        load_weights(path, self.weights)
        load_optimizer(path, self.step.state)
        self.progress = state.progress
        if self.progress.step < self.num_steps and self.progress.cursor:  # train.max_steps was raised
            self.progress = self.progress.model_copy(update={"is_evaluated": True})
        logger.info("resumed from %s: epoch %d, step %d", path.name, state.progress.epoch + 1, state.progress.step)

    def _open_eval_split(self) -> Split | None:
        name = self.config.evaluate.split
        if name in self.data.parts:
            return self.data.split(name)
        if self.rank.is_chief:
            logger.warning("%s has no %s clips: nothing is evaluated", self.data.path, name)
        return None


def check_epoch(split: Split, plan: BatchPlan) -> int:
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


def check_same_clips(saved: Origin, wanted: Origin, path: Path) -> None:
    """Raise DataError where the data set is not the one that the run began with."""
    if saved.train_clips is not None and saved.train_clips != wanted.train_clips:
        raise DataError(
            f"{path}: the run trained on other clips (checksum {saved.train_clips}, the data set here has "
            f"{wanted.train_clips}); a run goes on with its own data set"
        )


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


def timed(batches: Iterator[Batch], stop: StopRequest) -> Iterator[tuple[Batch, float]]:
    """Yield each batch with the seconds it was waited for."""
    while True:
        start = time.perf_counter()
        with stop.shielded():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - start
