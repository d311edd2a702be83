"""What a chaos run does: who is hit, by which signal, when; decided from a seed before anything starts."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass
from typing import Literal

Victim = Literal["rank-0", "rank-1", "scheduler", "launcher", "group"]
VICTIMS: tuple[Victim, ...] = ("rank-0", "rank-1", "scheduler", "launcher", "group")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
START_UP_SHARE = 0.25  # of the kills that meet a job which imports, meets its ranks or compiles
START_UP_S = 9.0
STEPS_A_KILL = 60


@dataclass(frozen=True)
class Kill:
    """One blow."""

    victim: Victim
    signal: signal.Signals
    step: int | None  # when so many steps are done; None: while the job starts
    delay_s: float  # after the step, or after the start
    max_restarts: int  # of the launcher that is started for it, where none runs

    @property
    def moment(self) -> str:
        """When, in words."""
        return f"{self.delay_s:.1f} s after a start" if self.step is None else f"at step {self.step}"


def plan_kills(num_kills: int, seed: int) -> list[Kill]:
    """Return `num_kills` blows, spread over `num_steps(num_kills)` steps."""
    rng = random.Random(seed)
    kills = []
    for index in range(num_kills):
        in_start_up = rng.random() < START_UP_SHARE
        step = index * STEPS_A_KILL + rng.randint(1, STEPS_A_KILL)
        kills.append(
            Kill(
                victim=rng.choice(VICTIMS),
                signal=rng.choice(SIGNALS),
                step=None if in_start_up else step,
                delay_s=rng.uniform(0, START_UP_S if in_start_up else 0.05),
                max_restarts=rng.choice((0, 100)),
            )
        )
    return kills


def num_steps(num_kills: int) -> int:
    """Return the length of the training that `num_kills` blows are spread over."""
    return (num_kills + 1) * STEPS_A_KILL
