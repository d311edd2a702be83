"""How a run stands, from its folder alone: does it run, and if not, how did it end? For `watch` and the report."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fcn4dist.run.folder import RunDir

Kind = Literal["running", "finished", "stopped", "failed", "ended"]
SIGN_OF_LIFE_S = 150.0  # a job on another host writes its usage at least every minute
LOCKS = Path("/proc/locks")


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended well, as the rank itself wrote it."""

    step: int  # finished steps
    num_steps: int  # of the whole run
    stopped_by: int | None = None  # the signal that asked for it (0: another rank was asked); None: the run is finished
    early: str | None = None  # why it finished before its last step, as the chief alone can say


def load_end(path: Path) -> RankEnd | None:
    """Return what a rank noted at its end, or None when it is not there or not whole."""
    try:
        return RankEnd(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@dataclass(frozen=True)
class RunState:
    """How a run stands."""

    kind: Kind  # "ended": without a word, as after `kill -9` of the launcher
    attempt: int  # the newest; 0: none was started by a launcher
    end: RankEnd | None = None  # how the ranks of that attempt ended by themselves
    failure: dict[str, Any] | None = None  # failure.json of a run that failed for good


def read_json(path: Path) -> Any:
    """Return the document in `path`; None where it is missing or half-written. NaN and infinity become None."""
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="replace"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return None


def value_of(record: Any, key: str) -> float | None:
    """Return a finite number under `key`, else None."""
    value = record.get(key) if isinstance(record, dict) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e300 and math.isfinite(value) else None  # type: ignore[arg-type]


def newest_attempt(run: RunDir) -> int:
    """Return the highest number that has a folder of logs; 0 where there is none."""
    found = (re.fullmatch(r"attempt-(\d+)", folder.name) for folder in run.logs(1).parent.glob("attempt-*"))
    return max((int(match[1]) for match in found if match), default=0)


def read_state(run: RunDir, *, is_over: bool = False) -> RunState:
    """Say how the run in `run` stands; `is_over`: its launcher asks, so that it does not count as running."""
    attempt = newest_attempt(run)
    end = _worst_end(run, attempt)
    failure = read_json(run.failure)
    failure = failure if isinstance(failure, dict) else None
    if failure is not None:
        return RunState("failed", attempt, end, failure)
    if not is_over and is_alive(run, attempt):
        return RunState("running", attempt, end)
    if end is not None:
        return RunState("finished" if end.stopped_by is None else "stopped", attempt, end)
    last = read_last_record(run.metrics(0))
    step, num_steps = (last.get("step"), last.get("num_steps")) if last else (None, None)
    is_finished = isinstance(step, int) and isinstance(num_steps, int) and step >= num_steps
    if is_finished and attempt == 0:  # `train` leaves no word of its own
        return RunState("finished", attempt)
    return RunState("ended", attempt)


def _worst_end(run: RunDir, attempt: int) -> RankEnd | None:
    found = [load_end(path) for path in run.logs(attempt).glob("rank-*.end.json")]
    return worst_end(end for end in found if end is not None)


def worst_end(ends: Iterable[RankEnd]) -> RankEnd | None:
    """Return the end that speaks for all ranks: the rank that was asked to stop, else the one that says why it came early."""
    return max(ends, key=lambda end: (-1 if end.stopped_by is None else end.stopped_by, bool(end.early)), default=None)


def is_alive(run: RunDir, attempt: int) -> bool:
    """Whether a launcher works on the run: it holds the lock here, or its files are fresh (another host)."""
    if is_locked(run.lock):
        return True
    environment = read_json(run.environment)
    if isinstance(environment, dict) and environment.get("host") == socket.gethostname():
        return False
    recent = [run.usage, *run.metrics(0).parent.glob("rank-*.jsonl"), *run.logs(attempt).glob("*.pulse")]
    return any(time.time() - _modified_s(path) < SIGN_OF_LIFE_S for path in recent)


def is_locked(lock: Path) -> bool:
    """Whether a process of this host holds `lock`; seen in /proc/locks, since trying would disturb a launcher."""
    try:
        inode = str(lock.stat().st_ino)
        table = LOCKS.read_text()
    except OSError:
        return False
    return any(words[1] == "FLOCK" and words[5].rsplit(":", 1)[-1] == inode for words in _rows(table))


def _rows(table: str) -> Iterator[list[str]]:
    return (words for line in table.splitlines() if len(words := line.replace(" -> ", " ").split()) >= 6)


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def read_last_record(path: Path, tail_bytes: int = 1 << 20) -> dict[str, Any] | None:
    """Return the last whole line of a file of JSON lines; None where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - tail_bytes))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    for line in reversed(lines[:-1]):  # what follows the last newline is being written
        try:
            record = json.loads(line, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            return record
    return None
