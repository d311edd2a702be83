"""What the processes of a job take of this host, over time: RUN/metrics/usage.jsonl, for the report.

One line a look: CPU and resident memory of each process, of the whole host, and of its NPUs where `npu-smi` is. A look costs the
launcher well under a millisecond a process, the ranks nothing. Looks get rarer as a job gets older, so that the file stays small.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from fcn4dist.ascend.tools import Tools, parse_npu_usage
from fcn4dist.job.events import Clock, Event, Exited, Started
from fcn4dist.job.poller import Poller

FIRST_LOOKS_S = 2.0  # between looks of a young job
LOOKS_AN_AGE = 500  # and later its age divided by this
SELDOM_S = 60.0  # but never rarer: `watch` on another host takes the file for a sign of life
NPU_LIMIT_S = 5.0  # for npu-smi


class UsageRecorder(Poller):
    """Told of starts and ends through `on_event`; writes from a thread of its own until the `with` block ends."""

    def __init__(self, path: Path, clock: Clock, attempt: int, pids: Mapping[str, int] | None = None) -> None:
        """`pids`: processes that run already."""
        super().__init__("usage")
        self._path, self._clock, self._attempt = path, clock, attempt
        self._processes: dict[str, psutil.Process] = {}
        for name, pid in (pids or {}).items():
            self._add(name, pid)
        self._tools = Tools(os.environ, limit_s=NPU_LIMIT_S)
        self._start_s = clock()

    def __enter__(self) -> UsageRecorder:
        psutil.cpu_percent()  # from here on it counts
        self._start_s = self._clock()
        return super().__enter__()

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

    def pause_s(self) -> float:
        """Return the seconds until the next look: the older the job, the more."""
        return min(max(FIRST_LOOKS_S, (self._clock() - self._start_s) / LOOKS_AN_AGE), SELDOM_S)

    def poll(self) -> None:
        """Look once and write the line."""
        line = (json.dumps(self.look()) + "\n").encode()
        with contextlib.suppress(OSError):  # a full disk leaves gaps, nothing more
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                file.write(line)

    def look(self) -> dict[str, Any]:
        """Return one line: percent of one core, resident bytes; percent of all cores and free bytes of the host."""
        found: dict[str, dict[str, Any]] = {}
        for name, process in list(self._processes.items()):
            with contextlib.suppress(psutil.Error), process.oneshot():
                memory = process.memory_info().rss
                found[name] = {"cpu_percent": process.cpu_percent(), "memory_bytes": memory}
        host = {"cpu_percent": psutil.cpu_percent(), "free_bytes": psutil.virtual_memory().available}
        line = {"time": round(self._clock(), 3), "attempt": self._attempt, "processes": found, "host": host}
        devices = parse_npu_usage(self._tools.ask_npu_smi())
        return {**line, "devices": devices} if devices else line


def own_processes() -> dict[str, int]:
    """Return this process under the name of the only rank, for a training without a launcher."""
    return {"rank-0": os.getpid()}
