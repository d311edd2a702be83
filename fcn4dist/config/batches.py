"""How a global batch is divided: over ranks, and over micro-batches whose gradients accumulate."""

from __future__ import annotations

from dataclasses import dataclass

from fcn4dist.config.load import override_config
from fcn4dist.config.schema import RunConfig, TrainConfig
from fcn4dist.errors import ConfigError

ENOUGH_CLIPS = 8  # of a micro-batch under batch norm; fewer are refused where a device may take more than twice as many


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

    Micro-batches are equal and not over train.device_batch. Raises ConfigError when the ranks do not divide the global batch,
    and when that would make micro-batches of one or a few clips although a device may take more, and batch norm is not frozen.
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
    if not train.freeze_batch_norm and not _divides_well(rank_batch, most):
        raise ConfigError(_say_what_divides(rank_batch, most, world_size))
    return BatchPlan(global_batch, world_size, rank_batch // _micro_batch(rank_batch, most))


def _micro_batch(rank_batch: int, most: int) -> int:
    """Return the largest equal part of `rank_batch` clips that is not over `most`."""
    return next(size for size in range(min(most, rank_batch), 0, -1) if rank_batch % size == 0)


def _divides_well(rank_batch: int, most: int) -> bool:
    """Whether micro-batches have at least half of the clips that a device may take, or enough for batch norm's statistics."""
    return _micro_batch(rank_batch, most) >= min(rank_batch, most, max(2, min(most / 2, ENOUGH_CLIPS)))


def _say_what_divides(rank_batch: int, most: int, world_size: int) -> str:
    fitting = [size for size in range(1, 2 * rank_batch) if _divides_well(size, most)]
    below = max((size for size in fitting if size < rank_batch), default=None)
    above = min((size for size in fitting if size > rank_batch), default=None)
    batches = " or ".join(str(size * world_size) for size in (below, above) if size is not None)
    device = next(size for size in range(most + 1, rank_batch + 1) if rank_batch % size == 0)
    size = _micro_batch(rank_batch, most)
    return (
        f"train.device_batch: {rank_batch} clips a rank in equal parts of at most {most} are {rank_batch // size} of "
        f"{size}, too few for batch norm; use train.global_batch {batches}, or train.device_batch {device}"
    )


def keep_batches(config: RunConfig, batches: BatchPlan) -> RunConfig:
    """Write down what a run's number of ranks decided: another number, in a resumed run, keeps the clips of a step.

    With fewer ranks, each one's part of the global batch passes through it in pieces of the size it had.
    """
    device_batch = config.train.device_batch or batches.micro_batch
    return override_config(config, train={"global_batch": batches.global_batch, "device_batch": device_batch})
