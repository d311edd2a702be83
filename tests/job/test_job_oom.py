from __future__ import annotations

from pathlib import Path

import pytest

from fcn4dist.job import oom
from fcn4dist.job.oom import BY_CGROUP, BY_COUNT, BY_KERNEL, NOT_BY_KERNEL, OomRecord

# two lines as kernel 6.1 writes them
GLOBAL = "[ 812.1] Out of memory: Killed process 4711 (python) total-vm:9000000kB, anon-rss:8000000kB, UID:0"
OLD = GLOBAL.replace("812.1", "11.5")
GROUP = "[ 900.7] Memory cgroup out of memory: Killed process 4712 (python) total-vm:9000000kB, anon-rss:8000000kB"


def write_events(folder: Path, kills: int, limit: int | None) -> None:
    if limit is None:
        (folder / "memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")
    else:
        (folder / "memory.events").write_text(f"low 0\nhigh 0\nmax 31\noom {limit}\noom_kill {kills}\n")


@pytest.mark.parametrize(
    ("log", "kills", "limit", "expected"),
    [
        (f"{GLOBAL}\n{GROUP}", 5, 3, BY_KERNEL),  # its own process id
        (GLOBAL.replace("4711", "47110"), 5, 3, NOT_BY_KERNEL),  # another process
        (f"{OLD}\n", 5, 3, NOT_BY_KERNEL),  # a process of an earlier job had the same number
        ("", 6, 4, BY_CGROUP),
        (None, 6, 4, BY_CGROUP),
        (None, 6, 3, BY_COUNT),  # the machine's memory was full, or a limit above: version 2 counts those kills, too
        (None, 5, 3, None),  # the log may not be read, so nothing is known
        (None, 6, None, BY_COUNT),  # version 1 counts kills and nothing else
        ("", 5, None, NOT_BY_KERNEL),
    ],
)
def test_the_kernels_word_on_a_killed_process(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: str | None,
    kills: int,
    limit: int | None,
    expected: str | None,
) -> None:
    monkeypatch.setattr(oom, "read_kernel_log", lambda: OLD)
    write_events(tmp_path, 5, None if limit is None else 3)
    record = OomRecord(tmp_path)
    monkeypatch.setattr(oom, "read_kernel_log", lambda: log)
    write_events(tmp_path, kills, limit)
    assert record.judge(4711) == expected


def test_without_a_count_or_a_log_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "read_kernel_log", lambda: None)
    assert OomRecord(tmp_path).judge(4711) is None
