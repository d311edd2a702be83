"""The order of clips: a function of (seed, epoch), the same for any number of ranks (DESIGN 8.1).

Sample k of epoch e is `epoch_order(n, seed, e)[k]`. Step s takes positions s*G to (s+1)*G of it for the global batch G; rank r
takes the r-th part of each step. What remains after the last whole global batch sits this epoch out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import BatchPlan

Positions = NDArray[np.int64]  # 0-based rows of a split, in the order of its shards


def epoch_order(num_clips: int, seed: int, epoch: int) -> Positions:
    """Return the permutation of 0..num_clips-1 for `epoch` (0-based): NumPy's PCG64 seeded with (seed, epoch)."""
    return np.random.default_rng((seed, epoch)).permutation(num_clips)


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
