"""The watchdog: when does a job that has not failed count as hanging, and which rank holds it up? Decided without a process."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fcn4dist.run.pulse import PHASES, UNTIMED, Pulse

FRESH_S = 3.0  # without a look at the pulses for so long, nothing is known about the ranks
MOST_NAMES = 8  # in a message


@dataclass(frozen=True)
class Stall:
    """A job that hangs: where its ranks are, on this host or on all."""

    waited_s: float  # since the last sign of life
    pulses: Mapping[str, Pulse] = field(default_factory=dict)  # rank -> where it is
    suspended: tuple[str, ...] = ()  # processes that the kernel holds (SIGSTOP)

    @property
    def suspects(self) -> tuple[str, ...]:
        """The processes that hold the others up; empty where nobody stands apart.

        Those that are suspended; or else the ranks in the earliest phase without steps, for which the others wait; or else
        those that are not in the collective of the latest step.
        """
        if self.suspended:
            return tuple(sorted(self.suspended))
        untimed = [PHASES.index(pulse.phase) for pulse in self.pulses.values() if pulse.phase in UNTIMED]
        latest = max((pulse.step for pulse in self.pulses.values()), default=0)
        late = [
            name
            for name, pulse in self.pulses.items()
            if (PHASES.index(pulse.phase) == min(untimed) if untimed else (pulse.phase, pulse.step) != ("step", latest))
        ]
        return () if len(late) == len(self.pulses) > 1 else tuple(sorted(late or self._only))

    @property
    def _only(self) -> list[str]:
        return list(self.pulses) if len(self.pulses) == 1 else []

    @property
    def place(self) -> str:
        """What hangs where no process stands apart: "collective of step 7", or the whole "job"."""
        where = {(pulse.phase, pulse.step) for pulse in self.pulses.values()}
        phase, step = next(iter(where)) if len(where) == 1 else ("", 0)
        return f"collective of step {step}" if phase == "step" else "job"

    def __str__(self) -> str:
        doings: dict[str, list[str]] = {}
        for name in sorted({*self.pulses, *self.suspended}):
            doing = str(self.pulses.get(name, "no rank"))
            doings.setdefault(f"suspended (SIGSTOP), {doing}" if name in self.suspended else doing, []).append(name)
        what = "nothing moved" if any(p.phase in UNTIMED for p in self.pulses.values()) else "no step was finished"
        return f"{what} for {self.waited_s:.0f} s: " + "; ".join(f"{_names(n)} {doing}" for doing, n in doings.items())

    def to_json(self) -> dict[str, Any]:
        """Return it for other launchers and for the record."""
        pulses = {name: [pulse.phase, pulse.step] for name, pulse in self.pulses.items()}
        suspects, suspended = list(self.suspects), list(self.suspended)
        return {"waited_s": self.waited_s, "suspects": suspects, "suspended": suspended, "pulses": pulses}


def parse_stall(values: Mapping[str, Any]) -> Stall:
    """Return what `to_json` wrote; raises KeyError, TypeError or ValueError."""
    pulses = {str(name): Pulse(phase, int(step)) for name, (phase, step) in values["pulses"].items()}
    if unknown := {pulse.phase for pulse in pulses.values()} - set(PHASES):
        raise ValueError(f"unknown phases {unknown}")
    return Stall(float(values["waited_s"]), pulses, tuple(map(str, values["suspended"])))


def merge_stalls(stalls: Collection[Stall]) -> Stall:
    """Return what the launchers of all hosts saw as one: who stands apart is seen from all ranks."""
    pulses = {name: pulse for stall in stalls for name, pulse in stall.pulses.items()}
    return Stall(max(s.waited_s for s in stalls), pulses, tuple(name for s in stalls for name in s.suspended))


def _names(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MOST_NAMES])} and {more} more"


@dataclass
class StallWatch:
    """Counts the seconds without a finished step, of ranks that should be stepping, and of processes that are suspended.

    Phases without steps (compiling, evaluating, saving) have a limit of their own. A process in the kernel's state T (SIGSTOP)
    is a stall in any phase. Time in which the pulses could not be read counts for nothing.
    """

    timeout_s: float | None  # None: never
    ranks: Collection[str]
    phase_timeout_s: float | None = None  # for a phase without steps; None: never
    _pulses: dict[str, Pulse] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)  # rank -> its last beat
    _suspended: dict[str, float] = field(default_factory=dict)  # process -> since when
    _moved_s: float = 0.0
    _looked_s: float = 0.0

    def on_start(self, at_s: float, process: str) -> None:
        """Note that a process was started: until its first pulse it starts Python."""
        if process in self.ranks:
            self.on_pulse(at_s, process, Pulse("starting", 0))

    def on_pulse(self, at_s: float, process: str, pulse: Pulse) -> None:
        """Note that a rank moved."""
        self._pulses[process] = pulse
        self._since[process] = self._moved_s = self._looked_s = at_s

    def on_look(self, at_s: float) -> None:
        """Note that all pulses were read."""
        if at_s - self._looked_s > FRESH_S:
            self._count_anew(at_s)
        self._looked_s = at_s

    def _count_anew(self, at_s: float) -> None:
        self._moved_s = at_s
        self._since = dict.fromkeys(self._since, at_s)

    def on_suspended(self, at_s: float, process: str, *, is_suspended: bool) -> None:
        """Note that a process was suspended, or goes on."""
        if is_suspended:
            self._suspended.setdefault(process, at_s)
        elif self._suspended.pop(process, None) is not None:
            self._moved_s = max(self._moved_s, at_s)

    def on_exit(self, process: str) -> None:
        """Forget a process that ended; ranks that are done with their work need no steps any more."""
        self._suspended.pop(process, None)
        self._pulses.pop(process, None)
        self.ranks = [rank for rank in self.ranks if rank != process]

    @property
    def deadline_s(self) -> float | None:
        """When the job will count as hanging if nothing more is heard; None: not at all."""
        return min((since_s + limit_s for since_s, limit_s in self._waits()), default=None)

    def _waits(self) -> Iterator[tuple[float, float]]:
        """Yield since when something has not moved, and how long it may."""
        if self.timeout_s is not None:
            yield from ((since_s, self.timeout_s) for since_s in self._suspended.values())
            if self._is_stepping:
                yield self._moved_s, self.timeout_s
        if self.phase_timeout_s is not None:
            for name, pulse in self._pulses.items():
                if pulse.phase in UNTIMED:
                    yield self._since[name], self.phase_timeout_s

    @property
    def _is_stepping(self) -> bool:
        pulses = self._pulses.values()
        return bool(pulses) and len(pulses) == len(self.ranks) and not any(p.phase in UNTIMED for p in pulses)

    def verdict(self, now_s: float) -> Stall | None:
        """Return the stall, if there is one by now."""
        since_s, limit_s = min(self._waits(), key=sum, default=(now_s, 1.0))
        if now_s < since_s + limit_s:
            return None
        if not self._suspended and now_s - self._looked_s > FRESH_S:  # ranks may move unseen
            self._count_anew(now_s)
            return None
        return self.picture(now_s, since_s)

    def picture(self, now_s: float, since_s: float | None = None) -> Stall:
        """Return where the ranks are now, for a job that hangs; `since_s`: without a move."""
        waited_s = now_s - (self._moved_s if since_s is None else since_s)
        return Stall(waited_s, dict(self._pulses), tuple(sorted(self._suspended)))
