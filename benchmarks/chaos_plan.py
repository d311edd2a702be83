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
STEPS_WITHOUT_SCHEDULER = 400  # that ranks do before the watchdog finds a suspended scheduler, which they do not need


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


def plan_kills(num_kills: int, seed: int) -> tuple[list[Kill], int]:
    """Return `num_kills` blows and the number of training steps that they are spread over."""
    rng = random.Random(seed)
    kills, first_step = [], 0
    for _ in range(num_kills):
        in_start_up = rng.random() < START_UP_SHARE
        step = first_step + rng.randint(1, STEPS_A_KILL)
        kill = Kill(
            victim=rng.choice(VICTIMS),
            signal=rng.choice(SIGNALS),
            step=None if in_start_up else step,
            delay_s=rng.uniform(0, START_UP_S if in_start_up else 0.05),
            max_restarts=rng.choice((0, 100)),
        )
        kills.append(kill)
        goes_on = kill.victim == "scheduler" and kill.signal == signal.SIGSTOP
        first_step += STEPS_A_KILL + (STEPS_WITHOUT_SCHEDULER if goes_on else 0)
    return kills, first_step + STEPS_A_KILL
