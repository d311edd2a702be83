"""A rank's clips, step after step, to the end of the run and beyond: the loop decides when it has enough."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import AugmentConfig, ModelConfig
from fcn4dist.data.augment import crop_clips, dropout_masks, mask_clips, mix, mixup_shares
from fcn4dist.data.dataset import Batch, Split
from fcn4dist.data.order import Positions, mixup_partners, rank_order
from fcn4dist.run.checkpoints import Progress
from fcn4dist.train.progress import Course
from fcn4dist.train.stop_request import StopRequest

Pair = tuple[Batch, Batch | None]  # clips and, with mixup, their partners


@dataclass(frozen=True)
class Clips:
    """What a rank takes in one step."""

    epoch: int  # 0-based
    step_in_epoch: int  # 0-based
    clip_ids: NDArray[np.int32]  # (rank_batch,)
    mel_db: NDArray[np.float32]  # (rank_batch, 1, n_mels, frames): what the network hears of the stored pieces
    labels: (
        NDArray[np.int32] | NDArray[np.float32]
    )  # (rank_batch, num_tags): 1, 0, -1 for unknown; in between with mixup
    keep: NDArray[np.float32] | None  # (rank_batch, channels): dropout's mask; none without dropout
    wait_s: float  # that the step waited for them


@dataclass(frozen=True)
class Feed:
    """The clips of one rank; what is drawn for a clip is a function of (seed, epoch, clip), whatever rank has it."""

    split: Split
    course: Course
    augment: AugmentConfig
    model: ModelConfig
    rank: int

    def iter_clips(self, start: Progress, stop: StopRequest) -> Iterator[Clips]:
        """Yield the clips for each step from `start` on, epoch after epoch, without end.

        Raises DataError where a shard cannot be read, or a feature is no number: its clip is named.
        """
        epoch, step = start.epoch, self.course.step_in_epoch(start)
        while True:
            positions = rank_order(self.split.num_clips, self.course.seed, epoch, self.course.plan, self.rank, step)
            for (own, partner), wait_s in timed(self._iter_pairs(positions.ravel(), epoch), stop):
                mel_db, labels = self._vary(own, partner, epoch)
                yield Clips(epoch, step, own.clip_ids, mel_db, labels, self._draw_keep(own, epoch), wait_s)
                step += 1
            epoch, step = epoch + 1, 0

    def _iter_pairs(self, positions: Positions, epoch: int) -> Iterator[Pair]:
        size = self.course.plan.rank_batch
        if not self.augment.mixup:
            for batch in self.split.iter_batches(positions, size):
                yield batch, None
            return
        partners = mixup_partners(self.split.num_clips, self.course.seed, epoch)[positions]
        yield from self.split.iter_pairs(positions, partners, size)

    def _vary(
        self, own: Batch, partner: Batch | None, epoch: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32] | NDArray[np.float32]]:
        mel_db = self._crop(own, epoch)
        labels: NDArray[np.int32] | NDArray[np.float32] = own.labels
        if partner is not None:
            shares = mixup_shares(own.clip_ids, self.augment.mixup, seed=self.course.seed, epoch=epoch)
            mel_db = mix(mel_db, self._crop(partner, epoch), shares)
            labels = mix(own.labels, partner.labels, shares)
        return mask_clips(mel_db, own.clip_ids, self.augment, seed=self.course.seed, epoch=epoch), labels

    def _crop(self, batch: Batch, epoch: int) -> NDArray[np.float32]:
        batch.check_finite(self.split.files[0].parent)
        return crop_clips(
            batch.mel_db,
            batch.clip_ids,
            batch.sound_frames,
            self.split.num_frames,
            crop=self.augment.crop,
            seed=self.course.seed,
            epoch=epoch,
        )

    def _draw_keep(self, batch: Batch, epoch: int) -> NDArray[np.float32] | None:
        if not self.model.dropout:
            return None
        seed, num_values = self.course.seed, self.model.channels[-1]
        return dropout_masks(batch.clip_ids, num_values, self.model.dropout, seed=seed, epoch=epoch)


def timed(batches: Iterator[Pair], stop: StopRequest) -> Iterator[tuple[Pair, float]]:
    """Yield each batch with the seconds it was waited for; while one is read, signals wait."""
    while True:
        start = time.perf_counter()
        with stop.shielded():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - start
