"""The control groups that this process is in, of version 1 and 2: what the kernel limits and counts by them.

Nothing else in the package reads them. `root`: of the machine whose /proc and /sys are looked at.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
NO_LIMIT = 1 << 60  # version 1 has a number above this one instead of "max"


@dataclass(frozen=True)
class OomCounts:
    """What the kernel counts in a group."""

    kills: int  # by its out-of-memory killer, also those for the memory of the whole machine
    limit: int | None  # how often the group's own limit was reached and nothing could be freed; version 1 does not say


def own_groups(controller: str, root: Path = ROOT) -> list[Path]:
    """Return the folder of this process's group for `controller` ("memory", "cpu"), then those above it up to the mount.

    Slurm, systemd and containers put a job far below the mount, or mount a part of the tree. Empty where there is no group.
    """
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (root / "proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return []
    paths = {name: path for _, names, path in groups for name in names.split(",")}  # version 2 has the name ""
    wanted = controller if controller in paths else ""
    for words in mounts:
        top, folder = words[3], root / words[4].lstrip("/")
        kind, _, options = words[words.index("-") + 1 :][:3]
        if wanted in paths and (
            kind == "cgroup2" if wanted == "" else kind == "cgroup" and wanted in options.split(",")
        ):
            path = PurePosixPath(paths[wanted])
            below = path.relative_to(top).parts if path.is_relative_to(top) and ".." not in path.parts else ()
            return [folder.joinpath(*below[:depth]) for depth in range(len(below), -1, -1)]
    return []


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return how many cores' worth of time this process is granted, the least of its group and those above; None: no limit."""
    return min((quota for group in own_groups("cpu", root) if (quota := _quota_of(group)) is not None), default=None)


def _quota_of(group: Path) -> float | None:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            quota, period = map(int, " ".join((group / name).read_text() for name in names).split())
            return quota / period if quota > 0 and period > 0 else None
    return None


def memory_left(root: Path = ROOT) -> int | None:
    """Return the bytes that the groups still grant, the cache that the kernel can drop included; None: no limit."""
    return min((left for group in own_groups("memory", root) if (left := _left_in(group)) is not None), default=None)


def _left_in(group: Path) -> int | None:
    for limit_name, used_name in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            limit, used = (int((group / name).read_text()) for name in (limit_name, used_name))
            return None if limit >= NO_LIMIT else max(0, limit - used + _cache_of(group))
    return None


def _cache_of(group: Path) -> int:
    try:
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    # version 1 counts the groups below in the total
    return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))


def oom_counts(group: Path) -> OomCounts | None:
    """Return the counts in memory.events (version 2) or memory.oom_control (version 1); None where neither is."""
    for name in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            words = dict(line.split() for line in (group / name).read_text().splitlines())
            return OomCounts(int(words["oom_kill"]), int(words["oom"]) if "oom" in words else None)
    return None
