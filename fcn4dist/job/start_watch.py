"""Who waits for whom until the first step is done: said once ten seconds pass without progress. Decided without a process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fcn4dist.run.pulse import Pulse

QUIET_S = 10.0
BEFORE_JOINING = ("", "starting", "importing")  # "": no pulse yet
UNTIL_FIRST_STEP = (*BEFORE_JOINING, "joining", "opening", "data", "compiling")


@dataclass(frozen=True)
class Reached:
    """How far a rank is."""

    pulse: Pulse | None  # None: it has not said anything yet
    since_s: float

    @property
    def phase(self) -> str:
        """The phase, "" before the first."""
        return "" if self.pulse is None else self.pulse.phase

    @property
    def doing(self) -> str:
        """What it does, to follow "is"."""
        return "starting Python" if self.phase in ("", "starting") else str(self.pulse)


@dataclass
class StartWatch:
    """Listens to the pulses of this host's ranks until one of them has done its first step."""

    ranks: Mapping[str, Reached]
    world_size: int  # ranks of the whole job
    _told: list[tuple[str, str]] = field(default_factory=list)  # the situation that the last line was about
    _is_over: bool = False

    @classmethod
    def begin(cls, at_s: float, ranks: Iterable[str], world_size: int) -> StartWatch:
        """Return a watch over ranks that are started now."""
        return cls(dict.fromkeys(ranks, Reached(None, at_s)), world_size)

    def on_pulse(self, at_s: float, rank: str, pulse: Pulse) -> None:
        """Note that a rank moved."""
        self._is_over |= self.ranks[rank].phase == "compiling" or pulse.phase not in UNTIL_FIRST_STEP
        self.ranks = {**self.ranks, rank: Reached(pulse, at_s)}

    def line(self, now_s: float) -> str | None:
        """Return what to say now, once about each situation; None: nothing."""
        situation = [(name, reached.phase) for name, reached in self.ranks.items()]
        if self._is_over or situation == self._told:
            return None
        said = explain_wait(self.ranks, now_s, self.world_size)
        if said is not None:
            self._told = situation
        return said


def explain_wait(ranks: Mapping[str, Reached], now_s: float, world_size: int) -> str | None:
    """Return who waits for whom; None while ranks move or compile.

    `ranks` are those of this host, `world_size` counts those of all hosts.
    """
    if not ranks or now_s - max(reached.since_s for reached in ranks.values()) < QUIET_S:
        return None
    joining = {name: reached for name, reached in ranks.items() if reached.phase == "joining"}
    behind = {name: reached for name, reached in ranks.items() if reached.phase in BEFORE_JOINING}
    if joining and (behind or len(joining) == len(ranks)):
        who = f"{_names(joining)} {'has' if len(joining) == 1 else 'have'} waited"
        long = f"{now_s - min(reached.since_s for reached in joining.values()):.0f} s"
        if behind:
            return (
                f"{who} {long} for {_names(behind)}, which {'has' if len(behind) == 1 else 'have'} not joined yet "
                f"({_doings(behind)})"
            )
        if len(ranks) < world_size:
            return f"{who} {long} for the ranks of other hosts"
        return f"{who} {long} for the scheduler, which introduces the ranks to each other (scheduler.log)"
    if all(reached.phase == "compiling" for reached in ranks.values()):
        return None  # work, and the console has said so
    quiet_s = now_s - max(reached.since_s for reached in ranks.values())
    return f"no progress for {quiet_s:.0f} s: {_doings(ranks)}"


def _doings(ranks: Mapping[str, Reached]) -> str:
    doings: dict[str, list[str]] = {}
    for name, reached in ranks.items():
        doings.setdefault(reached.doing, []).append(name)
    return "; ".join(f"{_names(names)} {'is' if len(names) == 1 else 'are'} {doing}" for doing, names in doings.items())


def _names(ranks: Iterable[str]) -> str:
    """Return "rank 1" or "ranks 0, 2 and 3"."""
    numbers = [name.removeprefix("rank-") for name in ranks]
    *most, last = numbers
    return f"ranks {', '.join(most)} and {last}" if most else f"rank {last}"
