"""What the processes of a job take of this host, over time: RUN/metrics/usage.jsonl, for the report.

One line a look: CPU and resident memory of each process, of the whole host, and of its NPUs where `npu-smi` is. A look costs the
launcher well under a millisecond a process, the ranks nothing. Looks get rarer as a job gets older, so that the file stays small.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from fcn4dist.job.events import Clock, Event, Exited, Started
from fcn4dist.job.poller import Poller

FIRST_LOOKS_S = 2.0  # between looks of a young job
LOOKS_AN_AGE = 500  # and later its age divided by this
SELDOM_S = 60.0  # but never rarer: `watch` on another host takes the file for a sign of life
NPU_LIMIT_S = 5.0  # for npu-smi
MEGABYTE = 1 << 20


class UsageRecorder(Poller):
    """Told of starts and ends through `on_event`; writes from a thread of its own until the `with` block ends."""

    def __init__(self, path: Path, clock: Clock, attempt: int, pids: Mapping[str, int] | None = None) -> None:
        """`pids`: processes that run already."""
        super().__init__("usage")
        self._path, self._clock, self._attempt = path, clock, attempt
        self._processes: dict[str, psutil.Process] = {}
        for name, pid in (pids or {}).items():
            self._add(name, pid)
        self._npu_smi = shutil.which("npu-smi")
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
        devices = [] if self._npu_smi is None else parse_npu_usage(ask_npu_smi(self._npu_smi))
        return {**line, "devices": devices} if devices else line


def ask_npu_smi(tool: str) -> str:
    """Return what `npu-smi info` prints; nothing where it fails or hangs."""
    try:
        done = subprocess.run(
            [tool, "info"], capture_output=True, timeout=NPU_LIMIT_S, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def parse_npu_usage(text: str) -> list[dict[str, Any]]:
    """Return an entry a device from the table of `npu-smi info`: its number there, power, temperature, load and memory.

    The first row of a device ends in `Power(W) Temp(C) Hugepages`, the second in `AICore(%) Memory-Usage(MB) HBM-Usage(MB)`. The
    memory is that of the last pair: HBM, or the DDR of chips without it. Cells that are no numbers are left out.
    """
    found: list[dict[str, Any]] = []
    npu, first = None, list[str]()
    for line in text.splitlines():
        cells = [cell.replace("/", " ").split() for cell in line.strip().strip("|").split("|")]
        if not line.lstrip().startswith("|") or len(cells) < 3 or not cells[0] or not cells[0][0].isdigit():
            continue
        if ":" in " ".join(cells[1]):  # the bus id: the second row of a device
            second = cells[2]
            pairs = [_number(word) for word in second[1:]]
            used, total = (pairs[-2], pairs[-1]) if len(pairs) >= 2 else (None, None)
            values = {
                "power_w": _number(first[0]) if first else None,
                "temperature_c": _number(first[1]) if len(first) > 1 else None,
                "load_percent": _number(second[0]) if second else None,
                "memory_bytes": None if used is None else used * MEGABYTE,
                "total_bytes": None if total is None else total * MEGABYTE,
            }
            known = {key: value for key, value in values.items() if value is not None}
            found.append({"npu": npu, "chip": int(cells[0][0]), **known})
        elif len(cells[0]) > 1:
            npu, first = int(cells[0][0]), cells[2]
    return found


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def own_processes() -> dict[str, int]:
    """Return this process under the name of the only rank, for a training without a launcher."""
    return {"rank-0": os.getpid()}
