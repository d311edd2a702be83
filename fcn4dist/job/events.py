"""What the supervisor hears about, as values; where it comes from; and the record of it in RUN/events.jsonl."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any, Protocol

from fcn4dist.job.poller import Poller
from fcn4dist.job.process import ExitStatus, signal_name
from fcn4dist.job.stall import Stall
from fcn4dist.job.start_watch import StartWatch
from fcn4dist.run.pulse import Pulse, parse_pulse

log = logging.getLogger(__name__)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # SIGUSR1: Slurm, before the time limit


@dataclass(frozen=True)
class Started:
    """A process of the job runs."""

    at_s: float  # all times are the supervisor's clock: wall seconds since the epoch that never go backwards
    process: str
    pid: int


@dataclass(frozen=True)
class Exited:
    """A process of the job ended."""

    at_s: float
    process: str
    status: ExitStatus


@dataclass(frozen=True)
class Signalled:
    """The launcher got a signal."""

    at_s: float
    signal: int


@dataclass(frozen=True)
class Progress:
    """A rank wrote a line into its metrics."""

    at_s: float
    rank: int
    record: dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """RUN/evaluation.json is new."""

    at_s: float
    evaluation: dict[str, Any]


@dataclass(frozen=True)
class Reported:
    """A process left the exception that ends it (`save_error`); it may yet take long to end, or hang."""

    at_s: float
    process: str


@dataclass(frozen=True)
class PeerEnds:
    """The launcher of another host ends the job."""

    at_s: float
    process: str  # "node-1": how the launcher calls the one of node 1
    signal: int | None = None  # that a user or a scheduler sent it; None: something failed
    at_once: bool = False  # no grace for what is still ending


@dataclass(frozen=True)
class Beat:
    """A rank's pulse moved."""

    at_s: float
    process: str
    pulse: Pulse


@dataclass(frozen=True)
class Looked:
    """The pulses of all ranks were read, whether they moved or not."""

    at_s: float


@dataclass(frozen=True)
class PeerStalls:
    """The launcher of another host found that the job hangs."""

    at_s: float
    process: str


@dataclass(frozen=True)
class Suspended:
    """The kernel holds a process (state T, SIGSTOP), or has let it go on."""

    at_s: float
    process: str
    is_suspended: bool = True


@dataclass(frozen=True)
class Stalled:
    """The job hangs; said by the watchdog."""

    at_s: float
    stall: Stall


@dataclass(frozen=True)
class StartWaits:
    """The job has not come to its first step, and nothing has moved for a while."""

    at_s: float
    line: str  # who waits for whom


Told = Started | Exited | Signalled | Reported | PeerEnds | PeerStalls | Suspended | Stalled | StartWaits
Event = Told | Progress | Evaluated | Beat | Looked
Inbox = SimpleQueue[Event]  # SimpleQueue.put may be called from a signal handler, Queue.put may not


class Clock(Protocol):
    """Where the supervisor reads the time."""

    def __call__(self) -> float:
        """Return seconds; differences are durations."""
        ...


@functools.cache
def _wall_offset_s() -> float:
    return time.time() - time.monotonic()


class WallClock:
    """Seconds since the epoch that neither jump nor go backwards: wall time once, the monotonic clock from there.

    All clocks of a process are the same. The monotonic clock is common to the processes of a host, so `at` compares what
    they say with each other, whatever became of the wall clock meanwhile.
    """

    def __call__(self) -> float:
        """Return the time in seconds since the epoch."""
        return self.at(time.monotonic())

    @staticmethod
    def at(monotonic_s: float) -> float:
        """Return the time at which the host's monotonic clock showed `monotonic_s`."""
        return _wall_offset_s() + monotonic_s


@contextmanager
def signals_into(inbox: Inbox, clock: Clock) -> Iterator[None]:
    """Turn STOP_SIGNALS to this process into events; main thread only.

    A signal that was ignored at the start (`nohup`) stays ignored.
    """

    def hear(number: int, _frame: FrameType | None) -> None:
        inbox.put(Signalled(clock(), number))

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


@dataclass(frozen=True)
class WatchedFiles:
    """Where the processes of the job write what the launcher wants to hear about."""

    metrics: Path  # of rank 0
    evaluation: Path
    errors: Mapping[str, Path]  # process -> the exception that ends it
    pulses: Mapping[str, Path] = field(default_factory=dict)  # rank -> what it is doing
    world_size: int = 1  # ranks of the job, those of other hosts included


class RunWatcher(Poller):
    """Reads what the ranks write into the run directory, from now on, and puts it into the inbox."""

    POLL_S = 0.25

    def __init__(self, files: WatchedFiles, inbox: Inbox, clock: Clock) -> None:
        super().__init__("watch-run")
        self._metrics, self._evaluation = files.metrics, files.evaluation
        self._errors = dict(files.errors)
        self._pulses: dict[str, Pulse | None] = dict.fromkeys(files.pulses)
        self._pulse_files = files.pulses
        self._inbox, self._clock = inbox, clock
        self._start = StartWatch.begin(clock(), files.pulses, files.world_size)
        self._inode, self._offset = self._place()
        self._partial = b""
        self._evaluated = self._stamp(files.evaluation)

    def pause_s(self) -> float:
        """Return the seconds until the next look."""
        return self.POLL_S

    def poll(self) -> None:
        """Put an event for every beat, whole line, evaluation and exception written since the last call.

        Raises OSError where the folder cannot be read; the next call goes on from there.
        """
        self._poll_pulses()
        for line in self._new_lines():
            try:
                record = json.loads(line)
            except ValueError:
                log.warning("%s: not JSON: %.80r", self._metrics, line)
                continue
            self._inbox.put(Progress(self._clock(), 0, record))
        if (stamp := self._stamp(self._evaluation)) != self._evaluated:
            self._evaluated = stamp
            try:
                self._inbox.put(Evaluated(self._clock(), json.loads(self._evaluation.read_text())))
            except (OSError, ValueError) as error:
                log.warning("%s: %s", self._evaluation, error)
        for process in [name for name, path in self._errors.items() if path.exists()]:
            del self._errors[process]
            self._inbox.put(Reported(self._clock(), process))

    def _poll_pulses(self) -> None:
        for process, last in self._pulses.items():
            try:
                pulse = parse_pulse(self._pulse_files[process].read_bytes())
            except FileNotFoundError:  # its process starts Python
                continue
            if pulse is not None and pulse != last:
                self._pulses[process] = pulse
                self._start.on_pulse(self._clock(), process, pulse)
                self._inbox.put(Beat(self._clock(), process, pulse))
        if self._pulses:
            self._inbox.put(Looked(self._clock()))
        if (wait := self._start.line(self._clock())) is not None:
            self._inbox.put(StartWaits(self._clock(), wait))

    def _new_lines(self) -> list[bytes]:
        inode, size = self._place()
        if inode != self._inode or size < self._offset:
            # a resumed worker has cut off the steps that it does again: what is left was told already
            start = size if size <= self._offset else 0
            self._inode, self._offset, self._partial = inode, start, b""
        if size <= self._offset:
            return []
        with self._metrics.open("rb") as file:
            file.seek(self._offset)
            block = file.read()
        self._offset += len(block)
        *lines, self._partial = (self._partial + block).split(b"\n")
        return [line for line in lines if line.strip()]

    def _place(self) -> tuple[int, int]:
        try:
            found = os.stat(self._metrics)
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_size

    @staticmethod
    def _stamp(path: Path) -> tuple[int, int]:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns


class EventLog:
    """RUN/events.jsonl: one object a line, appended, over all attempts."""

    def __init__(self, path: Path, attempt: int) -> None:
        self._path, self._attempt = path, attempt

    def append(self, event: Event | dict[str, Any]) -> None:
        """Add what happened; progress is not repeated here, since metrics/ has it, nor is every beat of a rank.

        A full disk must not end the supervision: it is logged and the job goes on.
        """
        if isinstance(event, Progress | Evaluated | Beat | Looked):
            return
        line = json.dumps({"attempt": self._attempt, **(event if isinstance(event, dict) else _as_json(event))})
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            log.warning("%s: %s", self._path, error.strerror)


def _as_json(event: Told) -> dict[str, Any]:
    values = asdict(event)
    time_s = round(values.pop("at_s"), 3)
    if isinstance(event, Exited):
        values["exit_code"], number = event.status.code, event.status.signal
        values["signal"] = None if number is None else signal_name(number)
        del values["status"]
    elif isinstance(event, Stalled):
        values["stall"] = event.stall.to_json()
    elif isinstance(event, Signalled | PeerEnds) and event.signal is not None:
        values["signal"] = signal_name(event.signal)
    return {"time": time_s, "event": type(event).__name__.lower(), **values}
