"""A rank's clips, step after step, to the end of the run and beyond: the loop decides when it has enough."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import AugmentConfig
from fcn4dist.data.augment import crop_clips
from fcn4dist.data.dataset import Batch, Split
from fcn4dist.data.order import rank_order
from fcn4dist.run.checkpoints import Progress
from fcn4dist.train.progress import Course
from fcn4dist.train.stop_request import StopRequest


@dataclass(frozen=True)
class Clips:
    """What a rank takes in one step."""

    epoch: int  # 0-based
    step_in_epoch: int  # 0-based
    clip_ids: NDArray[np.int32]  # (rank_batch,)
    mel_db: NDArray[np.float32]  # (rank_batch, 1, n_mels, frames): what the network hears of the stored pieces
    labels: NDArray[np.int32]  # (rank_batch, num_tags): 1, 0, or -1 where it is not known
    wait_s: float  # that the step waited for them


def iter_clips(
    split: Split, course: Course, augment: AugmentConfig, start: Progress, rank: int, stop: StopRequest
) -> Iterator[Clips]:
    """Yield the clips of `rank` for each step from `start` on, epoch after epoch, without end."""
    epoch, step = start.epoch, course.step_in_epoch(start)
    while True:
        positions = rank_order(split.num_clips, course.seed, epoch, course.plan, rank, step)
        for batch, wait_s in timed(split.iter_batches(positions.ravel(), course.plan.rank_batch), stop):
            mel_db = crop_clips(
                batch.mel_db,
                batch.clip_ids,
                batch.sound_frames,
                split.num_frames,
                crop=augment.crop,
                seed=course.seed,
                epoch=epoch,
            )
            yield Clips(epoch, step, batch.clip_ids, mel_db, batch.labels, wait_s)
            step += 1
        epoch, step = epoch + 1, 0


def timed(batches: Iterator[Batch], stop: StopRequest) -> Iterator[tuple[Batch, float]]:
    """Yield each batch with the seconds it was waited for; while one is read, signals wait."""
    while True:
        start = time.perf_counter()
        with stop.shielded():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - start
