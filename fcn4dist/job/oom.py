"""The memory of the job's processes: their peak, and whether the kernel's out-of-memory killer took one."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

OOM_LINE = re.compile(r"[Oo]ut of memory: Killed process (?P<pid>\d+)")  # also "Memory cgroup out of memory: ..."
DMESG_LIMIT_S = 2.0
BY_CGROUP = (
    "the kernel's out-of-memory killer: this cgroup's memory limit was reached (memory.events counts an oom_kill)"
)
BY_KERNEL = "the kernel's out-of-memory killer took it (`dmesg` names it)"
NOT_BY_KERNEL = (
    "not the kernel's out-of-memory killer (`dmesg` and the cgroup's memory.events were read): a person or a program"
)


@dataclass(frozen=True)
class MemoryUse:
    """What is known of a process's memory after its end."""

    peak_bytes: int | None = None  # of its resident set, up to the last look
    oom: str | None = (
        None  # who killed it with SIGKILL, as far as the kernel tells; None: the kernel's word cannot be read
    )


class OomRecord:
    """The kernel's count of out-of-memory kills in this cgroup, from now on, and its log."""

    def __init__(self, cgroup: Path | None = None) -> None:
        self._events = (own_cgroup() if cgroup is None else cgroup) / "memory.events"
        self._before = read_oom_kills(self._events)

    def judge(self, pid: int) -> str | None:
        """Say who killed process `pid` with SIGKILL; None where neither the log nor the count can be read."""
        log = read_kernel_log()
        if log is not None and str(pid) in {match["pid"] for match in OOM_LINE.finditer(log)}:
            return BY_KERNEL
        now = read_oom_kills(self._events)
        if now is not None and self._before is not None and now > self._before:
            return BY_CGROUP
        return None if log is None or now is None else NOT_BY_KERNEL


def own_cgroup() -> Path:
    """Return the folder of this process's cgroup (version 2; of version 1, the memory controller's)."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return root
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            return root / path.lstrip("/")
        if "memory" in controllers.split(","):
            return root / "memory" / path.lstrip("/")
    return root


def read_oom_kills(events: Path) -> int | None:
    """Return the number after `oom_kill` in a cgroup's memory.events; None where there is none."""
    try:
        words = dict(line.split() for line in events.read_text().splitlines())
        return int(words["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None


def read_kernel_log() -> str | None:
    """Return what `dmesg` prints; None where it is not allowed or not there."""
    try:
        done = subprocess.run(["dmesg"], capture_output=True, timeout=DMESG_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def read_status(pid: int, proc: Path = Path("/proc")) -> tuple[str, int] | None:
    """Return a process's state letter (T: suspended) and its peak resident set in bytes; None when it has ended."""
    try:
        lines = (proc / str(pid) / "status").read_text().splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    peak = values.get("VmHWM", "0 kB").split()[0]
    return values["State"].split()[0], int(peak) * 1024
