"""Who a worker is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """A worker's place in the job."""

    index: int  # 0 .. world_size - 1, unique in the job
    world_size: int
    device: int  # position among the devices that this process sees (ascend.devices)

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes checkpoints, evaluations and the console's progress."""
        return self.index == 0


SINGLE = Rank(index=0, world_size=1, device=0)  # a run in this process, without a job around it
