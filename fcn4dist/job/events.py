"""What the supervisor hears about, as values; the clock they are told by; and the record of them in RUN/events.jsonl."""

from __future__ import annotations

import functools
import json
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

from fcn4dist.job.process import ExitStatus, signal_name
from fcn4dist.job.stall import Stall
from fcn4dist.run.pulse import Pulse

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
    peak_bytes: int | None = None  # of its resident set; None: it is not reaped yet, or a launcher of another host


@dataclass(frozen=True)
class Signalled:
    """The launcher got a signal."""

    at_s: float
    signal: int


@dataclass(frozen=True)
class Stepped:
    """A rank wrote a line into its metrics."""

    at_s: float
    rank: int
    record: dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """An evaluation was written: RUN/evaluation.json is new."""

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
Event = Told | Stepped | Scored | Beat | Looked
Clock = Callable[[], float]  # returns seconds; differences are durations
Inbox = SimpleQueue[Event]  # SimpleQueue.put may be called from a signal handler, Queue.put may not


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


class EventLog:
    """RUN/events.jsonl: one object a line, appended, over all attempts."""

    def __init__(self, path: Path, attempt: int) -> None:
        self._path, self._attempt = path, attempt

    def append(self, event: Event | dict[str, Any]) -> None:
        """Add what happened; progress is not repeated here, since metrics/ has it, nor is every beat of a rank.

        A full disk must not end the supervision: it is logged and the job goes on.
        """
        if isinstance(event, Stepped | Scored | Beat | Looked):
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
        values["peak_memory_bytes"] = values.pop("peak_bytes")
        del values["status"]
    elif isinstance(event, Stalled):
        values["stall"] = event.stall.to_json()
    elif isinstance(event, Signalled | PeerEnds) and event.signal is not None:
        values["signal"] = signal_name(event.signal)
    return {"time": time_s, "event": type(event).__name__.lower(), **values}
