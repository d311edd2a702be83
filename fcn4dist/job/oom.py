"""Whether the kernel's out-of-memory killer took a process of the job."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from fcn4dist.job.cgroup import OomCounts, oom_counts, own_groups

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


class OomRecord:
    """The kernel's count of out-of-memory kills in this cgroup, from now on, and its log."""

    def __init__(self, cgroup: Path | None = None) -> None:
        """Note what was there before; `cgroup` None: the group that this process is in."""
        groups = own_groups("memory") if cgroup is None else [cgroup]
        self._group = groups[0] if groups else None
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

    def _counts(self) -> OomCounts | None:
        return None if self._group is None else oom_counts(self._group)


def read_kernel_log() -> str | None:
    """Return what `dmesg` prints; None where it is not allowed, not there, or names processes by other numbers (a container)."""
    try:
        if os.readlink("/proc/self/ns/pid") != FIRST_NAMESPACE:
            return None
        done = subprocess.run(["dmesg"], capture_output=True, timeout=DMESG_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
