"""What a rank tells of each step: a line of metrics/rank-R.jsonl, and the chief a line of its log."""

from __future__ import annotations

import logging

import numpy as np

from fcn4dist.config import CheckpointConfig
from fcn4dist.job.rank import Rank
from fcn4dist.run.checkpoints import Progress
from fcn4dist.run.folder import RunDir
from fcn4dist.run.metrics import Pace, StepRecord, StepRecords, cut_left_over_ranks
from fcn4dist.train.feed import Clips
from fcn4dist.train.progress import Course
from fcn4dist.train.step import StepResult

logger = logging.getLogger(__name__)


class RankRecords:
    """The steps of one rank; what a file holds of steps after `start` is of a future that is taken anew."""

    def __init__(self, run: RunDir, course: Course, config: CheckpointConfig, start: Progress, rank: Rank) -> None:
        self._course, self._is_chief = course, rank.is_chief
        self._pace, self._waited_s = Pace(), 0.0
        self._lines = StepRecords(run.metrics(rank.index), start.step, is_patient=config.on_error == "continue")
        if rank.is_chief:
            cut_left_over_ranks(run, rank.world_size, start.step)

    def add(
        self, progress: Progress, clips: Clips, lr: float, result: StepResult, step_s: float, waited_s: float
    ) -> None:
        """Append the step after which the run stands at `progress`.

        `step_s` holds the wait for `clips`; `waited_s` is how long checkpoints have kept steps waiting in all.
        """
        checkpoint_wait_s, self._waited_s = waited_s - self._waited_s, waited_s
        self._lines.add(
            StepRecord(
                step=progress.step,
                epoch=clips.epoch + 1,
                loss=result.loss if np.isfinite(result.loss) else None,
                lr=lr,
                loss_scale=result.loss_scale,
                overflow=result.is_overflow,
                samples_per_s=self._course.plan.global_batch / step_s,
                data_wait_s=clips.wait_s,
                checkpoint_wait_s=checkpoint_wait_s,
                step_s=step_s,
                num_steps=self._course.num_steps,
                num_overflows=progress.num_overflows,
                time_left_s=self._pace.time_left_s(step_s, self._course.num_steps - progress.step),
                clip_ids=clips.clip_ids.tolist(),
            )
        )
        if self._is_chief:  # the line that users of ModelZoo's LossMonitor search their logs for
            place = (clips.epoch + 1, clips.step_in_epoch + 1)
            logger.info("epoch: %d step: %d, loss is %s", *place, np.float32(result.loss))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
