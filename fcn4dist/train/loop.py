"""The training of one rank, from its start to its end: train, save, evaluate, stop.

On Ascend a step is read after the next one has begun, so that the device does not wait for the host (`steps_ahead`). What a step
says then acts one step later: a stop comes after the next step, and steps that change nothing end the run when one more has
begun. All that is written down is as without: a step that is saved or evaluated is read before the next one begins.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass

from fcn4dist.config import RunConfig
from fcn4dist.data.dataset import DataSet
from fcn4dist.evaluate.document import Evaluation
from fcn4dist.job.rank import Rank
from fcn4dist.run.checkpoints import Progress
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import Phase, PulseFile
from fcn4dist.train.checkpoint_writer import CheckpointWriter
from fcn4dist.train.collectives import meet
from fcn4dist.train.device import steps_ahead
from fcn4dist.train.feed import Clips, Feed
from fcn4dist.train.profiling import StepProfiler
from fcn4dist.train.progress import describe_early_stop, learning_rate
from fcn4dist.train.records import RankRecords
from fcn4dist.train.start import start_run
from fcn4dist.train.step import RunningStep
from fcn4dist.train.stop_request import StopRequest
from fcn4dist.train.validation import Validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainReport:
    """How a run ended."""

    progress: Progress
    num_steps: int  # of the whole run
    evaluation: Evaluation | None  # the last one; the chief's alone
    stopped_by: int | None = None  # the signal that asked this rank, or 0 for another one; None: the run is finished
    early: str | None = None  # why it finished before its last step; the chief's alone


@dataclass(frozen=True)
class _Begun:
    """A step that has begun and is not read."""

    clips: Clips
    lr: float
    begin_s: float  # before the wait for the clips
    step: RunningStep


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
    stop, beat = stop or StopRequest(), pulse.beat if pulse is not None else _beat_for_nobody
    start = start_run(config, run, data, rank, resume=resume)
    course, step, progress = start.course, start.step, start.progress
    validation = Validation(config, run, data, start, rank)
    writer = CheckpointWriter(start.checkpoints, config.checkpoint.on_error)
    records = RankRecords(run, course, config.checkpoint, progress, rank)
    feed = Feed(start.split, course, config.augment, config.model, rank.index).iter_clips(progress, stop)
    profiler = StepProfiler(config.launch.profiled, run.profile(rank.index), progress.step, course.num_steps)
    evaluation, stopped_by, early = None, None, None
    begun: deque[_Begun] = deque()
    num_ahead, ahead = steps_ahead(), progress  # `ahead`: where the run stands after all that has begun
    done_s = 0.0  # when the last step was read
    try:
        with stop, profiler:
            while stopped_by is None and not course.is_done(progress):
                if not progress.is_evaluated:  # this step is saved already; that it is evaluated is noted last of all
                    beat("evaluating", progress.step + 1)
                    with stop.shielded():  # a wish to stop waits for the next step in any case
                        evaluation, progress = validation.evaluate(progress)
                        if rank.is_chief:
                            writer.note_evaluation(progress)
                    ahead = progress
                    continue
                beat("data", ahead.step + 1)
                clips = next(feed)
                writer.check()
                course.check_health(progress)
                beat("compiling" if ahead.step == start.progress.step else "step", ahead.step + 1)
                profiler.before(ahead.step + 1)
                begin_s = time.perf_counter() - clips.wait_s
                lr = learning_rate(config.train, ahead.step, course.horizon, ahead.num_reductions)
                running = step.begin(clips.mel_db, clips.labels, lr, keep=clips.keep, wants_stop=stop.is_set)
                begun.append(_Begun(clips, lr, begin_s, running))
                ahead = course.after_step(ahead, is_overflow=False)
                is_regular = ahead.step % config.checkpoint.every_steps == 0
                is_pause = is_regular or not ahead.is_evaluated or profiler.is_end(ahead.step)
                is_stop = False
                while len(begun) > (0 if is_pause else num_ahead):
                    last = begun.popleft()
                    result = last.step.read()
                    begin_s, done_s = max(last.begin_s, done_s), time.perf_counter()
                    progress = course.after_step(progress, is_overflow=result.is_overflow, loss=result.loss)
                    records.add(progress, last.clips, last.lr, result, done_s - begin_s, writer.waited_s)
                    is_stop = is_stop or result.is_stop
                    is_pause = is_pause or is_stop
                if profiler.is_end(progress.step):
                    beat("saving", progress.step)  # the trace; on an NPU that may take minutes
                    profiler.after(progress.step)
                if is_stop and not course.is_last(progress):
                    stopped_by = stop.signal or 0
                if is_regular or not progress.is_evaluated or stopped_by is not None:
                    # all have written down this step: a rank that is killed before leaves no checkpoint without its line
                    meet(rank)
                    if rank.is_chief:
                        writer.save(progress, start.weights, step.state)
            if rank.is_chief and stopped_by is None and course.is_stopped_early(progress):
                early = describe_early_stop(config.train, progress)
                logger.info("%s", early)
            beat("saving", progress.step + 1)
            writer.wait(is_end=True)
    finally:
        writer.abandon()  # nothing is left to do after the line above; after an error, the last write ends
    records.close()
    is_early = stopped_by is None and course.is_stopped_early(progress)
    return TrainReport(progress, progress.step if is_early else course.num_steps, evaluation, stopped_by, early)


def _beat_for_nobody(phase: Phase, step: int) -> None:
    """Say nothing: no launcher watches this process."""
