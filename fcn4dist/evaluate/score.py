"""Scores of every clip exactly once, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logsumexp

from fcn4dist.data.augment import window_starts
from fcn4dist.data.dataset import Batch, Split
from fcn4dist.data.order import evaluation_part
from fcn4dist.evaluate.document import Scores
from fcn4dist.job.rank import Rank
from fcn4dist.model.fcn4 import FCN4

LARGEST = np.finfo(np.float32).max
Gather = Callable[[NDArray[Any], int, Rank], NDArray[np.float32]]  # train/collectives.gather_rows


def score_split(network: FCN4, split: Split, batch: int, rank: Rank, gather: Gather | None = None) -> Scores:
    """Score each clip of `split` once: a part on each rank, gathered to all.

    `gather` collects the rows of all ranks; one rank needs none. Of a piece that is stored longer than a clip, all windows are
    scored and averaged. `network` is float32 and left in inference mode. Every forward pass has `batch` windows: the last one
    is filled up with a repeated one whose scores are dropped, so no clip is left out and none counts twice.
    """
    network.set_train(False)
    positions = evaluation_part(split.num_clips, rank.world_size, rank.index)
    own = np.zeros((len(positions), len(split.tags)), np.float32)
    start = 0
    for part in split.iter_batches(positions, batch):
        own[start : start + len(part.clip_ids)] = _clip_logits(network, part, split.num_frames, batch)
        start += len(part.clip_ids)
    gathered = own if gather is None else gather(own, split.num_clips, rank)
    order = np.argsort(split.clip_ids, kind="stable")
    logits = np.clip(gathered[order], -LARGEST, LARGEST)  # infinity is no rank; NaN stays what it is
    return Scores(split.clip_ids[order], split.labels[order].astype(np.int32), expit(logits), logits)


def _clip_logits(network: FCN4, clips: Batch, num_frames: int, batch: int) -> NDArray[np.float32]:
    """Return the logits (N, num_tags) of clips; of a clip with several windows, the logit of its windows' mean score."""
    starts = [window_starts(int(frames), num_frames) for frames in clips.sound_frames]
    counts = [len(found) for found in starts]
    places = [(clip, start) for clip, found in enumerate(starts) for start in found]
    logits = []
    for first in range(0, len(places), batch):
        some = places[first : first + batch]
        windows = np.stack([clips.mel_db[clip, :, :, start : start + num_frames] for clip, start in some])
        filled = np.resize(windows, (batch, *windows.shape[1:]))
        logits.append(network(Tensor(filled)).asnumpy()[: len(some)])
    ends = np.cumsum(counts)[:-1]
    return np.stack([logit_of_mean(found) for found in np.split(np.concatenate(logits), ends)])


def logit_of_mean(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logit (num_tags,) of the mean sigmoid of `logits` (windows, num_tags), also where the sigmoid is 0 or 1."""
    if len(logits) == 1:
        return np.asarray(logits[0])
    wide = logits.astype(np.float64)
    found = logsumexp(log_expit(wide), axis=0) - logsumexp(log_expit(-wide), axis=0)
    return np.asarray(found, np.float32)
