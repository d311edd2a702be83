"""The memory of the job's processes: their peak, and whether the kernel's out-of-memory killer took one."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.job.cgroup import own_groups

OOM_LINE = re.compile(r"[Oo]ut of memory: Killed process (?P<pid>\d+)")  # also "Memory cgroup out of memory: ..."
DMESG_LIMIT_S = 2.0
FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of linux/proc_ns.h; process ids in the log are those of it
BY_CGROUP = "the kernel's out-of-memory killer: the memory limit of this job's cgroup was reached (its memory.events)"
BY_COUNT = (
    "the kernel's out-of-memory killer took a process of this job's cgroup; whether for its limit or for all of the "
    "machine's memory is not known"
)
BY_KERNEL = "the kernel's out-of-memory killer took it (`dmesg` names it)"
NOT_BY_KERNEL = (
    "not the kernel's out-of-memory killer (`dmesg` and the cgroup's count were read): a person or a program"
)


@dataclass(frozen=True)
class MemoryUse:
    """What is known of a process's memory after its end."""

    peak_bytes: int | None = None  # of its resident set, up to the last look
    oom: str | None = (
        None  # who killed it with SIGKILL, as far as the kernel tells; None: the kernel's word cannot be read
    )


@dataclass(frozen=True)
class Counts:
    """What the kernel counts in a cgroup."""

    kills: int  # by its out-of-memory killer, also those for the memory of the whole machine
    limit: int | None  # how often the group's own limit was reached and nothing could be freed; version 1 does not say


class OomRecord:
    """The kernel's count of out-of-memory kills in this cgroup, from now on, and its log."""

    def __init__(self, cgroup: Path | None = None) -> None:
        """Note what was there before; `cgroup` None: the group that this process is in."""
        folders = own_groups("memory") if cgroup is None else [cgroup]
        self._folder = folders[0] if folders else None
        self._before = self._counts()
        self._old_lines = frozenset((read_kernel_log() or "").splitlines())  # process ids come again

    def judge(self, pid: int) -> str | None:
        """Say who killed process `pid` with SIGKILL; None where neither the log nor the count can be read."""
        log, now, before = read_kernel_log(), self._counts(), self._before
        lines = [] if log is None else [line for line in log.splitlines() if line not in self._old_lines]
        if pid in {int(match["pid"]) for line in lines if (match := OOM_LINE.search(line))}:
            return BY_KERNEL
        if now is not None and before is not None and now.kills > before.kills:
            return BY_CGROUP if (now.limit or 0) > (before.limit or 0) else BY_COUNT
        return None if log is None or now is None else NOT_BY_KERNEL

    def _counts(self) -> Counts | None:
        return None if self._folder is None else read_counts(self._folder)


def read_counts(folder: Path) -> Counts | None:
    """Return the counts of a cgroup, from memory.events (version 2) or memory.oom_control (version 1); None where neither is."""
    for name in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            words = dict(line.split() for line in (folder / name).read_text().splitlines())
            return Counts(int(words["oom_kill"]), int(words["oom"]) if "oom" in words else None)
    return None


def read_kernel_log() -> str | None:
    """Return what `dmesg` prints; None where it is not allowed, not there, or names processes by other numbers (a container)."""
    try:
        if os.readlink("/proc/self/ns/pid") != FIRST_NAMESPACE:
            return None
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
