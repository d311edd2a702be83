"""How far a job is, and what follows from each event: the supervisor's decisions, without any process."""

from __future__ import annotations

import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from fcn4dist.job.events import (
    Beat,
    Event,
    Exited,
    Looked,
    PeerEnds,
    PeerStalls,
    Reported,
    Signalled,
    Started,
    Suspended,
)
from fcn4dist.job.stall import Stall, StallWatch
from fcn4dist.run.pulse import STACK_SIGNAL

SCHEDULER = "scheduler"
RANK = "rank-"  # what the names of ranks begin with
FAILURE_GRACE_S = 0.5  # between SIGTERM and SIGKILL once a process failed: the others only wait for it
SCHEDULER_GRACE_S = 20.0  # how long workers may outlive a scheduler that ended with 0; they give up by then themselves
BROKEN_STOP_GRACE_S = 5.0  # for the others once a rank fails while the user ends the job: they cannot finish a step
STACK_GRACE_S = 2.0  # for a job that hangs to write its stacks
SECOND_SIGNAL_S = 1.0  # a terminal that closes sends SIGHUP twice at once: a person who insists takes longer


@dataclass(frozen=True)
class Send:
    """Send a signal to a process and its group."""

    process: str
    signal: int
    whole_group: bool = True


@dataclass(frozen=True)
class Outcome:
    """How the job ended."""

    kind: Literal["success", "failure", "signal"]
    signal: int | None = None  # of kind "signal"
    failures: tuple[Exited, ...] = ()  # processes that failed before they were told to stop, earliest first
    consequences: tuple[Exited, ...] = ()  # processes that failed after it
    stall: Stall | None = None  # the job failed because it hung
    killers: Mapping[str, str] = field(default_factory=dict)  # process -> who sent its SIGKILL, where that is known


@dataclass
class JobState:
    """The state of one attempt; `on_event` and `on_time` return the signals to send."""

    processes: Collection[str]
    grace_s: float  # between SIGTERM and SIGKILL when the user ends the job
    stall_timeout_s: float | None = None  # None: no watchdog
    phase_timeout_s: float | None = None  # for phases without steps; None: no limit
    stall: Stall | None = None  # once the job was found to hang
    alive: set[str] = field(default_factory=set)
    _kind: Literal["success", "failure", "signal"] | None = None  # why the job stops; None while it runs
    _signal: int | None = None
    _stopped_at_s: float = 0.0
    _kill_at_s: float | None = None
    _scheduler_limit_s: float | None = None
    _stall_limit_s: float | None = None  # when a job that hangs has had its time to write stacks
    _exits: list[Exited] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.alive = set(self.processes)
        ranks = [name for name in self.processes if name.startswith(RANK)]
        self._watch = StallWatch(self.stall_timeout_s, ranks, self.phase_timeout_s)

    @property
    def deadline_s(self) -> float | None:
        """When `on_time` wants to be called, on the events' clock; None: only events matter."""
        stall_s = None if self.is_stopping or self.stall is not None else self._watch.deadline_s
        times = (self._kill_at_s, self._scheduler_limit_s, self._stall_limit_s, stall_s)
        return min((t for t in times if t is not None), default=None)

    @property
    def is_over(self) -> bool:
        """Whether no process is left."""
        return not self.alive

    @property
    def is_stopping(self) -> bool:
        """Whether the job is being ended, for whatever reason."""
        return self._kind is not None

    @property
    def _workers(self) -> set[str]:
        return self.alive - {SCHEDULER}

    def on_event(self, event: Event) -> list[Send]:
        """Take note of an event and return what to do about it."""
        if isinstance(event, Exited):
            return self._on_exit(event)
        if isinstance(event, Signalled):
            return self._on_signal(event)
        if isinstance(event, PeerEnds):
            return self._on_peer_ends(event)
        if isinstance(event, PeerStalls) and not self.is_stopping and self.stall is None:
            self.stall = self._watch.picture(event.at_s)
            return self._ask_for_stacks(event.at_s)
        if isinstance(event, Started):
            assert event.process in self.processes
            self._watch.on_start(event.at_s, event.process)
        if isinstance(event, Beat):
            self._watch.on_pulse(event.at_s, event.process, event.pulse)
        if isinstance(event, Looked):
            self._watch.on_look(event.at_s)
        if isinstance(event, Suspended):
            self._watch.on_suspended(event.at_s, event.process, is_suspended=event.is_suspended)
        if isinstance(event, Reported) and not self.is_stopping and event.process in self.alive:
            # its end may take long: MindSpore joins threads and talks to the scheduler first
            return self._stop("failure", event.at_s, FAILURE_GRACE_S, self.alive)
        return []

    def on_time(self, now_s: float) -> list[Send]:
        """Return what is due: the SIGKILLs, or the end of a job whose scheduler left too early."""
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._kill_at_s = None
            return [Send(name, signal.SIGKILL) for name in sorted(self.alive)]
        if self._scheduler_limit_s is not None and now_s >= self._scheduler_limit_s:
            return self._stop("failure", now_s, FAILURE_GRACE_S, self.alive)
        if self._stall_limit_s is not None and now_s >= self._stall_limit_s:
            return self._stop("failure", now_s, FAILURE_GRACE_S, self.alive)
        if not self.is_stopping and self.stall is None:
            self.stall = self._watch.verdict(now_s)
            if self.stall is not None:
                return self._ask_for_stacks(now_s)
        return []

    def _ask_for_stacks(self, now_s: float) -> list[Send]:
        """Let every rank say where it is; a suspended one has to run for it."""
        self._stall_limit_s = now_s + STACK_GRACE_S
        ranks = sorted(name for name in self.alive if name.startswith(RANK))
        asked = [Send(name, STACK_SIGNAL, whole_group=False) for name in ranks]
        return asked + [Send(name, signal.SIGCONT) for name in (*ranks, *sorted(self.alive & {SCHEDULER}))]

    def _on_exit(self, event: Exited) -> list[Send]:
        self.alive.discard(event.process)
        self._watch.on_exit(event.process)
        self._exits.append(event)
        is_own = event.process == SCHEDULER or event.process.startswith(RANK)
        if is_own and not event.status.is_success:  # another host that was told to stop has no part in it any more
            self._hurry_stop(event.at_s)
        if not self.is_stopping and not event.status.is_success:
            return self._stop("failure", event.at_s, FAILURE_GRACE_S, self.alive)
        if event.process == SCHEDULER and not self.is_stopping and self._workers:
            # at a job's natural end the scheduler may be gone a moment before the last worker
            self._scheduler_limit_s = event.at_s + SCHEDULER_GRACE_S
        if not self._workers and SCHEDULER in self.alive:
            return self._end_scheduler(event.at_s)
        if self.is_over and self._kind is None:
            self._kind = "success"
        return []

    def _end_scheduler(self, now_s: float) -> list[Send]:
        if self._kind is None:
            return self._stop("success", now_s, FAILURE_GRACE_S, {SCHEDULER})
        self._kill_at_s = min(self._kill_at_s or now_s, now_s) + FAILURE_GRACE_S
        return [Send(SCHEDULER, signal.SIGTERM)]

    def _on_signal(self, event: Signalled) -> list[Send]:
        if self._kind == "signal" and event.at_s < self._stopped_at_s + SECOND_SIGNAL_S:
            return []
        if self.is_stopping:  # the second signal, or one while a failed job ends: at once
            self._kill_at_s = None
            return [Send(name, signal.SIGKILL) for name in sorted(self.alive)]
        self._signal = event.signal
        # the workers first: what they still have to do together may need the scheduler
        return self._stop("signal", event.at_s, self.grace_s, self._workers or self.alive)

    def _on_peer_ends(self, event: PeerEnds) -> list[Send]:
        if event.at_once and self.is_stopping:
            self._kill_at_s = None
            return [Send(name, signal.SIGKILL) for name in sorted(self.alive)]
        if self.is_stopping:  # a cluster's scheduler signals all hosts: what peers pass on is no second signal
            if event.signal is None:
                self._hurry_stop(event.at_s)
            return []
        if event.signal is None:
            return self._stop("failure", event.at_s, FAILURE_GRACE_S, self.alive)
        self._signal = event.signal
        return self._stop("signal", event.at_s, self.grace_s, self._workers or self.alive)

    def _hurry_stop(self, now_s: float) -> None:
        """Leave the others little time in a stop on request that has met a failure."""
        if self._kind == "signal" and self._kill_at_s is not None:
            self._kill_at_s = min(self._kill_at_s, now_s + BROKEN_STOP_GRACE_S)

    def _stop(
        self, kind: Literal["success", "failure", "signal"], now_s: float, grace_s: float, whom: set[str]
    ) -> list[Send]:
        self._kind, self._stopped_at_s = kind, now_s
        self._scheduler_limit_s = self._stall_limit_s = None
        self._kill_at_s = now_s + grace_s
        return [Send(name, signal.SIGTERM) for name in sorted(whom)]

    def outcome(self) -> Outcome:
        """Return how the job ended; once `is_over`."""
        assert self._kind is not None, "the job still runs"
        failed = sorted((e for e in self._exits if self._counts_as_failure(e)), key=lambda e: e.at_s)
        if self._kind == "success":
            return Outcome("success")
        if self.stall is not None and self._kind == "failure":
            first = [e for e in self._exits if e.process in self.stall.suspects]  # even if they ended well at last
        else:
            first = [e for e in failed if e.at_s <= self._stopped_at_s]
        after = [e for e in failed if e not in first]
        return Outcome(self._kind, self._signal, tuple(first), tuple(after), self.stall)

    def _counts_as_failure(self, event: Exited) -> bool:
        left_too_early = event.process == SCHEDULER and self._kind == "failure" and event.at_s < self._stopped_at_s
        return not event.status.is_success or left_too_early
