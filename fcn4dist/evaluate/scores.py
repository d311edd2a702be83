"""Scores of every clip exactly once, whatever the number of ranks."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor
from scipy.special import expit

from fcn4dist.cluster.rank import Rank
from fcn4dist.collectives import gather_rows
from fcn4dist.data.dataset import RecordSplit
from fcn4dist.data.order import evaluation_part
from fcn4dist.evaluate.score_file import Scores
from fcn4dist.model.fcn4 import FCN4


def score_split(network: FCN4, split: RecordSplit, batch: int, rank: Rank) -> Scores:
    """Score each clip of `split` once: a part on each rank, gathered to all.

    `network` is float32 and left in inference mode. Every forward pass has the same shape: the last one is filled up with a
    repeated clip whose scores are dropped, so no clip is left out and none counts twice.
    """
    network.set_train(False)
    positions = evaluation_part(split.num_clips, rank.world_size, rank.index)
    own = np.zeros((len(positions), len(split.tags)), np.float32)
    start = 0
    for part in split.iter_batches(positions, batch):
        size = len(part.mel_db)
        filled = np.resize(part.mel_db, (batch, *part.mel_db.shape[1:]))
        own[start : start + size] = network(Tensor(filled)).asnumpy()[:size]
        start += size
    gathered = gather_rows(own, split.num_clips, rank)
    clip_ids, labels = split.load_labels()
    order = np.argsort(clip_ids, kind="stable")
    return Scores(clip_ids[order], labels[order], expit(gathered)[order])
