"""The watchdog: when does a job that has not failed count as hanging, and which rank holds it up? Decided without a process."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from fcn4dist.run.pulse import UNTIMED, Pulse


@dataclass(frozen=True)
class Stall:
    """A job that hangs."""

    waited_s: float  # since the last sign of life
    suspects: tuple[str, ...]  # processes that hold the others up; empty where nothing tells them apart
    doing: Mapping[str, str]  # process -> what it was doing, in words

    def __str__(self) -> str:
        where = "; ".join(f"{name} {doing}" for name, doing in self.doing.items())
        return f"no step was finished for {self.waited_s:.0f} s: {where}"


@dataclass
class StallWatch:
    """Counts the seconds without a finished step, of ranks that should be stepping, and of processes that are suspended.

    Compiling the first step and evaluating are no stalls; a process in the kernel's state T (SIGSTOP) is one in any phase.
    """

    timeout_s: float | None  # None: never
    ranks: Collection[str]
    _pulses: dict[str, Pulse] = field(default_factory=dict)
    _suspended: dict[str, float] = field(default_factory=dict)  # process -> since when
    _moved_s: float = 0.0

    def on_pulse(self, at_s: float, process: str, pulse: Pulse) -> None:
        """Note that a rank moved."""
        self._pulses[process] = pulse
        self._moved_s = at_s

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
        since = list(self._suspended.values())
        if self._is_stepping:
            since.append(self._moved_s)
        return min(since) + self.timeout_s if since and self.timeout_s is not None else None

    @property
    def _is_stepping(self) -> bool:
        pulses = self._pulses.values()
        return bool(pulses) and len(pulses) == len(self.ranks) and not any(p.phase in UNTIMED for p in pulses)

    def verdict(self, now_s: float) -> Stall | None:
        """Return the stall, if there is one by now."""
        deadline_s = self.deadline_s
        if deadline_s is None or self.timeout_s is None or now_s < deadline_s:
            return None
        doing = {name: str(pulse) for name, pulse in sorted(self._pulses.items())}
        doing |= {name: f"suspended (SIGSTOP), {doing.get(name, 'no rank')}" for name in sorted(self._suspended)}
        return Stall(now_s - deadline_s + self.timeout_s, self._suspects(), doing)

    def _suspects(self) -> tuple[str, ...]:
        """Return the suspended processes, or else the ranks that are not in the collective of the latest step."""
        if self._suspended:
            return tuple(sorted(self._suspended))
        latest = max(pulse.step for pulse in self._pulses.values())
        late = [n for n, pulse in self._pulses.items() if pulse.phase != "step" or pulse.step != latest]
        return tuple(sorted(late))
