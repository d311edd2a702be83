"""The order of clips: a function of (seed, epoch), the same for any number of ranks (DESIGN 8.1).

Sample k of epoch e is `epoch_order(n, seed, e)[k]`. Step s takes positions s*G to (s+1)*G of it for the global batch G; rank r
takes the r-th part of each step. What remains after the last whole global batch sits this epoch out.

Mixup gives each clip a partner, a function of (seed, epoch) and the clip's position alone: which clips share its step plays no
part, so neither do the global batch and the number of ranks. A rank then reads twice as many clips as it trains on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import BatchPlan

Positions = NDArray[np.int64]  # 0-based rows of a split, in the order of its shards
PARTNERS = 5  # the stream of random numbers beside those of data/augment.py


def epoch_order(num_clips: int, seed: int, epoch: int) -> Positions:
    """Return the permutation of 0..num_clips-1 for `epoch` (0-based): NumPy's PCG64 seeded with (seed, epoch)."""
    return np.random.default_rng((seed, epoch)).permutation(num_clips)


def mixup_partners(num_clips: int, seed: int, epoch: int) -> Positions:
    """Return the partner (num_clips,) of the clip at each position: another clip, and each is the partner of just one.

    All clips stand in one random ring, and a clip's partner is the next one. A single clip is its own.
    """
    ring = np.random.default_rng((seed, epoch, 0, PARTNERS)).permutation(num_clips)
    partners = np.empty_like(ring)
    partners[ring] = np.roll(ring, -1)
    return partners


def rank_order(num_clips: int, seed: int, epoch: int, plan: BatchPlan, rank: int, first_step: int = 0) -> Positions:
    """Return the positions that `rank` takes in `epoch`, steps `first_step` on, as (num_steps, rank_batch).

    Raises ValueError where the rank is not of the plan.
    """
    if not 0 <= rank < plan.world_size:
        raise ValueError(f"rank {rank} is not in 0..{plan.world_size - 1}")
    num_steps = plan.steps_per_epoch(num_clips)
    steps = epoch_order(num_clips, seed, epoch)[: num_steps * plan.global_batch]
    return steps.reshape(num_steps, plan.world_size, plan.rank_batch)[first_step:, rank]


def evaluation_part(num_clips: int, world_size: int, rank: int) -> Positions:
    """Return the positions that `rank` scores: every world_size-th one, so that over all ranks each comes exactly once."""
    return np.arange(rank, num_clips, world_size)
