"""Starts the processes of a job, hears about them through one queue, and ends them: the loop around `JobState`."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from fcn4dist.errors import JobError
from fcn4dist.job.events import (
    Clock,
    Event,
    EventLog,
    Exited,
    Inbox,
    Stalled,
    Started,
    Suspended,
    WallClock,
    signals_into,
)
from fcn4dist.job.process import ExitStatus, Process, ProcessSpec
from fcn4dist.job.state import JobState, Outcome, Send

Listener = Callable[[Event], None]


class Peers(Protocol):
    """The launchers of other hosts, which the supervisor treats as processes of this one."""

    peers: tuple[str, ...]  # their names

    def hear(self, event: Event) -> None:
        """Take note of an event of this host, before it is decided upon."""

    def send(self, action: Send) -> None:
        """Pass a signal on."""


class Supervisor:
    """Runs one attempt of a job to its end; afterwards no process of it is left.

    `inbox` may be fed by others too (see RunWatcher); `listener` is told every event, after the decision about it.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        environment: Mapping[str, str],
        *,
        grace_s: float,
        stall_timeout_s: float | None = None,
        phase_timeout_s: float | None = None,
        event_log: EventLog,
        inbox: Inbox | None = None,
        clock: Clock | None = None,
        listener: Listener | None = None,
        peers: Peers | None = None,
    ) -> None:
        self._specs = specs
        self._environment = environment
        self._event_log = event_log
        self._clock: Clock = clock or WallClock()
        self._inbox: Inbox = inbox or queue.SimpleQueue()
        self._listener = listener
        self._peers = peers
        others = () if peers is None else peers.peers
        self._state = JobState([*(spec.name for spec in specs), *others], grace_s, stall_timeout_s, phase_timeout_s)
        self._group = ProcessGroup()

    def run(self) -> Outcome:
        """Start everything, watch it, end it, and say how it went; main thread only.

        Raises JobError when a process cannot be started; what was started until then is ended.
        """
        with signals_into(self._inbox, self._clock), self._group:
            for spec in self._specs:
                self._start(spec)
            while not self._state.is_over:
                self._turn()
        return self._state.outcome()

    def _start(self, spec: ProcessSpec) -> None:
        try:
            process = self._group.start(spec, self._environment)
        except OSError as error:
            raise JobError(f"{spec.name}: cannot be started: {error}") from None
        self._take(Started(self._clock(), spec.name, process.pid))
        process.watch(self._heard_exit, self._heard_suspension)

    def _heard_exit(self, name: str, status: ExitStatus) -> None:
        self._inbox.put(Exited(self._clock(), name, status))

    def _heard_suspension(self, name: str, is_suspended: bool) -> None:
        self._inbox.put(Suspended(self._clock(), name, is_suspended))

    def _turn(self) -> None:
        """Wait for one event or the next deadline, and act."""
        deadline_s, was_stalled = self._state.deadline_s, self._state.stall
        try:
            wait_s = None if deadline_s is None else max(0.0, deadline_s - self._clock())
            self._take(self._inbox.get(timeout=wait_s))
        except queue.Empty:
            pass
        self._send(self._state.on_time(self._clock()))
        if self._state.stall is not None and was_stalled is None:
            stalled = Stalled(self._clock(), self._state.stall)
            if self._peers is not None:
                self._peers.hear(stalled)
            self._tell(stalled)

    def _take(self, event: Event) -> None:
        if isinstance(event, Exited):
            event = replace(event, peak_bytes=self._group.reap(event.process))
        if self._peers is not None:
            self._peers.hear(event)
        self._send(self._state.on_event(event))
        self._tell(event)

    def _tell(self, event: Event) -> None:
        self._event_log.append(event)
        if self._listener is not None:
            self._listener(event)

    def _send(self, actions: Sequence[Send]) -> None:
        for action in actions:
            if self._peers is not None and action.process in self._peers.peers:
                self._peers.send(action)
            else:
                self._group.send(action)


class ProcessGroup:
    """The processes of a job; leaving the `with` block, by whatever way, leaves none behind."""

    def __init__(self) -> None:
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name in list(self._processes):
            self.reap(name)

    def start(self, spec: ProcessSpec, environment: Mapping[str, str]) -> Process:
        """Start one process, its log's folder included. Raises OSError."""
        Path(spec.log).parent.mkdir(parents=True, exist_ok=True)
        process = Process(spec, environment)
        self._processes[spec.name] = process
        return process

    def send(self, action: Send) -> None:
        """Send a signal to a process that may have ended meanwhile."""
        if action.process in self._processes:
            self._processes[action.process].send(action.signal, whole_group=action.whole_group)

    def reap(self, name: str) -> int | None:
        """Remove an ended process, kill what it left in its group, and return its peak memory; None: it is not of this host."""
        return self._processes.pop(name).reap() if name in self._processes else None
