"""The one thread that looks: at what the ranks write into the run directory, and at what they take of this host."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil

from fcn4dist.ascend.tools import Tools, parse_npu_usage
from fcn4dist.job.events import (
    Beat,
    Clock,
    Event,
    Exited,
    Inbox,
    Looked,
    Reported,
    Scored,
    Started,
    StartWaits,
    Stepped,
)
from fcn4dist.job.start_watch import StartWatch
from fcn4dist.run.figures import Figures
from fcn4dist.run.pulse import Pulse, parse_pulse

log = logging.getLogger(__name__)
LOOK_S = 0.25  # between looks
JOIN_S = 1.0  # for the last look; one that takes longer (a frozen folder) must not hold up the end of the job
FIRST_LOOKS_S = 2.0  # between the lines on usage of a young job
LOOKS_AN_AGE = 500  # and later its age divided by this
SELDOM_S = 60.0  # but never rarer: `watch` on another host takes the file for a sign of life
NPU_LIMIT_S = 5.0  # for npu-smi
NPU_PATIENCE_S = 0.5  # until its answer has to wait for the next line; below JOIN_S and FRESH_S of job/stall


class Sampler:
    """Looks again and again until its `with` block ends, and once more then; a look that fails is logged, and the next follows.

    A folder that freezes, as NFS does, holds up this thread and nothing else: without looks nothing is known about the ranks,
    and the watchdog counts anew (job/stall). Usage waits with the rest, since its file lies in the same folder.
    """

    def __init__(self, usage: UsageRecorder, watcher: RunWatcher | None = None) -> None:
        """`watcher` None: there is nobody who wants to hear of the run's files."""
        self._looks = [usage.look] if watcher is None else [watcher.look, usage.look]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        said: set[str] = set()
        is_last = False
        while not is_last:
            is_last = self._end.wait(LOOK_S)  # the last look finds what rank 0 wrote at its end
            for look in self._looks:
                try:
                    look()
                except OSError as error:  # ESTALE, EIO: a network's folder may come back
                    if str(error) not in said:
                        said.add(str(error))
                        log.warning("%s; trying again", error)


@dataclass(frozen=True)
class WatchedFiles:
    """Where the processes of the job write what the launcher wants to hear about."""

    metrics: Path  # of rank 0
    evaluation: Path
    errors: Mapping[str, Path]  # process -> the exception that ends it
    pulses: Mapping[str, Path] = field(default_factory=dict)  # rank -> what it is doing
    world_size: int = 1  # ranks of the job, those of other hosts included


class RunWatcher:
    """Reads what the ranks write into the run directory, from now on, and puts it into the inbox."""

    def __init__(self, files: WatchedFiles, inbox: Inbox, clock: Clock) -> None:
        self._metrics, self._evaluation = files.metrics, files.evaluation
        self._errors = dict(files.errors)
        self._pulses: dict[str, Pulse | None] = dict.fromkeys(files.pulses)
        self._pulse_files = files.pulses
        self._inbox, self._clock = inbox, clock
        self._start = StartWatch.begin(clock(), files.pulses, files.world_size)
        self._inode, self._offset = self._place()
        self._partial = b""
        self._evaluated = self._stamp(files.evaluation)

    def look(self) -> None:
        """Put an event for every beat, whole line, evaluation and exception written since the last call.

        Raises OSError where the folder cannot be read; the next call goes on from there.
        """
        self._look_at_pulses()
        for line in self._new_lines():
            try:
                record = json.loads(line)
            except ValueError:
                log.warning("%s: not JSON: %.80r", self._metrics, line)
                continue
            self._inbox.put(Stepped(self._clock(), 0, record))
        if (stamp := self._stamp(self._evaluation)) != self._evaluated:
            self._evaluated = stamp
            if figures := Figures.load(self._evaluation):
                self._inbox.put(Scored(self._clock(), figures.document))
        for process in [name for name, path in self._errors.items() if path.exists()]:
            del self._errors[process]
            self._inbox.put(Reported(self._clock(), process))

    def _look_at_pulses(self) -> None:
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


class UsageRecorder:
    """Notes what the processes of a job take of this host, over time: RUN/metrics/usage.jsonl, for the report.

    One line a look: CPU and resident memory of each process, of the whole host, and of its NPUs where `npu-smi` is. A look costs
    the launcher well under a millisecond a process, the ranks nothing. Looks get rarer as a job gets older, so that the file
    stays small. Told of starts and ends through `on_event`.
    """

    def __init__(self, path: Path, clock: Clock, attempt: int, pids: Mapping[str, int] | None = None) -> None:
        """`pids`: processes that run already."""
        self._path, self._clock, self._attempt = path, clock, attempt
        self._processes: dict[str, psutil.Process] = {}
        for name, pid in (pids or {}).items():
            self._add(name, pid)
        self._tools = Tools(os.environ, limit_s=NPU_LIMIT_S)
        self._answers: SimpleQueue[str] = SimpleQueue()  # of npu-smi
        self._asking = threading.Thread()
        psutil.cpu_percent()  # from here on it counts
        self._start_s = clock()
        self._next_s = self._start_s + FIRST_LOOKS_S

    def on_event(self, event: Event) -> None:
        """Note who runs."""
        if isinstance(event, Started):
            self._add(event.process, event.pid)
        elif isinstance(event, Exited):
            self._processes.pop(event.process, None)

    def _add(self, name: str, pid: int) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            process.cpu_percent()  # from here on it counts
            self._processes[name] = process

    def look(self) -> None:
        """Write a line when one is due: the older the job, the more seldom. A full disk, an OSError, leaves a gap."""
        now_s = self._clock()
        if now_s < self._next_s:
            return
        self._next_s = now_s + min(max(FIRST_LOOKS_S, (now_s - self._start_s) / LOOKS_AN_AGE), SELDOM_S)
        line = (json.dumps(self.usage()) + "\n").encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            file.write(line)

    def usage(self) -> dict[str, Any]:
        """Return one line: percent of one core, resident bytes; percent of all cores and free bytes of the host."""
        found: dict[str, dict[str, Any]] = {}
        for name, process in list(self._processes.items()):
            with contextlib.suppress(psutil.Error), process.oneshot():
                memory = process.memory_info().rss
                found[name] = {"cpu_percent": process.cpu_percent(), "memory_bytes": memory}
        host = {"cpu_percent": psutil.cpu_percent(), "free_bytes": psutil.virtual_memory().available}
        line = {"time": round(self._clock(), 3), "attempt": self._attempt, "processes": found, "host": host}
        devices = self._ask_npus()
        return {**line, "devices": devices} if devices else line

    def _ask_npus(self) -> list[dict[str, Any]]:
        """Return what npu-smi says; an answer that comes late stands in the next line.

        It is waited for in a thread of its own: it takes up to NPU_LIMIT_S, or for ever in a driver that hangs, and what is not
        known of the ranks for FRESH_S (job/stall) counts as unknown.
        """
        if not self._asking.is_alive():
            self._asking = threading.Thread(target=self._hear_npu_smi, name="npu-usage", daemon=True)
            self._asking.start()
        try:
            return parse_npu_usage(self._answers.get(timeout=NPU_PATIENCE_S))
        except queue.Empty:
            return []

    def _hear_npu_smi(self) -> None:
        self._answers.put(self._tools.ask_npu_smi())


def own_processes() -> dict[str, int]:
    """Return this process under the name of the only rank, for a training without a launcher."""
    return {"rank-0": os.getpid()}
