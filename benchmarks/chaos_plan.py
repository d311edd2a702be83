"""What a chaos run does: who is hit, by which signal, when; decided from a seed before anything starts."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass, replace
from typing import Literal

Victim = Literal["rank-0", "rank-1", "rank-2", "rank-3", "scheduler", "launcher", "group", "network"]
VICTIMS: tuple[Victim, ...] = ("rank-0", "rank-1", "scheduler", "launcher", "group")
VICTIMS_OF_HOSTS: tuple[Victim, ...] = ("rank-0", "rank-1", "rank-2", "rank-3", "scheduler", "launcher", "group")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
START_UP_SHARE = 0.25  # of the kills that meet a job which imports, meets its ranks or compiles
START_UP_S = 9.0
STEPS_A_KILL = 60
STEPS_WITHOUT_SCHEDULER = 400  # that ranks do before the watchdog finds a suspended scheduler, which they do not need
STEPS_A_KILL_OF_HOSTS = 15
CUTS_S = (5.0, 60.0)  # of the network: shorter and longer than launch.peer_timeout_s, 10 s
KILLS_A_CUT = 4


@dataclass(frozen=True)
class Kill:
    """One blow."""

    victim: Victim
    signal: signal.Signals
    step: int | None  # when so many steps are done; None: while the job starts
    delay_s: float  # after the step, or after the start
    more_steps: int = 0  # or when so many are done since the last blow
    max_restarts: int = 0  # of the launcher that is started for it, where none runs
    host: int | None = None  # whose launcher, group or cable it is; None: there is one
    cut_s: float = 0.0  # how long the network is away

    @property
    def target(self) -> str:
        """Who is hit, in words."""
        return self.victim if self.host is None else f"{self.victim} of {'ab'[self.host]}"

    @property
    def blow(self) -> str:
        """What is done to it, in words."""
        return f"{self.cut_s:g} s" if self.victim == "network" else self.signal.name

    @property
    def moment(self) -> str:
        """When, in words."""
        if self.more_steps:
            return f"{self.more_steps} steps later"
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


def plan_kills_of_hosts(num_kills: int, seed: int) -> list[Kill]:
    """Return blows for two hosts with two ranks each; about every fourth cuts the network, in turn for a short and a long time.

    How many steps ranks do before the other host gives up a suspended launcher is a matter of the machine's speed, so moments
    count from the last blow.
    """
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(num_kills), max(min(2, num_kills), num_kills // KILLS_A_CUT)))
    kills = []
    for number in range(num_kills):
        in_start_up = rng.random() < START_UP_SHARE
        kill = Kill(
            victim=rng.choice(VICTIMS_OF_HOSTS),
            signal=rng.choice(SIGNALS),
            step=None,
            more_steps=0 if in_start_up else rng.randint(1, STEPS_A_KILL_OF_HOSTS),
            delay_s=rng.uniform(0, START_UP_S if in_start_up else 0.05),
            max_restarts=rng.choice((0, 100)),
        )
        if number in cuts:
            kill = replace(kill, victim="network", cut_s=CUTS_S[cuts.index(number) % len(CUTS_S)])
        if kill.victim in ("launcher", "group", "network"):
            kill = replace(kill, host=rng.randrange(2))
        kills.append(kill)
    return kills
