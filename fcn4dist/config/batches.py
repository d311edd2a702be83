"""How a global batch is divided: over ranks, and over micro-batches whose gradients accumulate."""

from __future__ import annotations

from dataclasses import dataclass

from fcn4dist.config.load import override_config
from fcn4dist.config.schema import RunConfig, TrainConfig
from fcn4dist.errors import ConfigError


@dataclass(frozen=True)
class BatchPlan:
    """How one global batch is divided: over ranks, then over micro-batches whose gradients accumulate."""

    global_batch: int
    world_size: int
    accumulation: int = 1

    @property
    def rank_batch(self) -> int:
        """Clips of a step on each rank."""
        return self.global_batch // self.world_size

    @property
    def micro_batch(self) -> int:
        """Clips of one forward and backward pass on each rank."""
        return self.rank_batch // self.accumulation

    def steps_per_epoch(self, num_clips: int) -> int:
        """Whole global batches in an epoch; the clips of the last incomplete one sit this epoch out."""
        return num_clips // self.global_batch


def plan_batches(train: TrainConfig, world_size: int) -> BatchPlan:
    """Divide the global batch over ranks and micro-batches.

    Raises ConfigError when the ranks do not divide the global batch.
    """
    global_batch = train.global_batch or 32 * world_size
    if global_batch % world_size:
        below, above = global_batch // world_size * world_size, -(-global_batch // world_size) * world_size
        choices = " or ".join(str(n) for n in (below, above) if n)
        raise ConfigError(
            f"train.global_batch: {global_batch} clips cannot be divided among {world_size} ranks; use {choices}"
        )
    rank_batch = global_batch // world_size
    most = train.device_batch or rank_batch
    accumulation = next(a for a in range(1, rank_batch + 1) if rank_batch % a == 0 and rank_batch // a <= most)
    return BatchPlan(global_batch, world_size, accumulation)


def keep_batches(config: RunConfig, batches: BatchPlan) -> RunConfig:
    """Write down what a run's number of ranks decided: another number, in a resumed run, keeps the clips of a step.

    With fewer ranks, each one's part of the global batch passes through it in pieces of the size it had.
    """
    device_batch = config.train.device_batch or batches.micro_batch
    return override_config(config, train={"global_batch": batches.global_batch, "device_batch": device_batch})
