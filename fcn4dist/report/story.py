"""The page's part about what happened: attempts, restarts, signals, failures; and what the run was made with."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from fcn4dist.config import RunConfig
from fcn4dist.report.chart import clean
from fcn4dist.report.run_files import Record, RunFiles, number
from fcn4dist.run.folder import list_traces
from fcn4dist.run.terminal import format_duration

MOST_EVENTS = 200
MOST_PROFILES = 64  # links: of the first ranks
MOST_TEXT = 20_000  # characters of a traceback or a log
KINDS = {
    "running": "running",
    "finished": "finished",
    "stopped": "stopped on request",
    "failed": "failed",
    "ended": "ended without a word",
}


@dataclass(frozen=True)
class Attempt:
    """One start of the job."""

    number: int
    start: str
    duration: str
    end: str


@dataclass(frozen=True)
class FailureText:
    """Why an attempt failed."""

    attempt: int
    title: str
    reason: str
    details: str  # its traceback, or the last lines of its log
    consequences: tuple[str, ...]
    next_steps: tuple[str, ...]


def format_time(seconds: float | None) -> str:
    """Return a time since the epoch as UTC, in words that sort."""
    try:
        return datetime.fromtimestamp(seconds or 0.0, timezone.utc).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""
    except (OverflowError, OSError, ValueError):
        return ""


def duration_of(files: RunFiles) -> float | None:
    """Return the seconds that the attempts took together, by their first and last events."""
    total = sum((ends[-1] - ends[0] for ends in _times(files).values()), 0.0)
    return total or None


def _times(files: RunFiles) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for event in files.events:
        attempt, at_s = number(event, "attempt"), number(event, "time")
        if attempt is not None and at_s is not None and event.get("event") != "restart":
            found.setdefault(int(attempt), []).append(at_s)
    return {attempt: sorted(times) for attempt, times in sorted(found.items())}


def list_attempts(files: RunFiles) -> tuple[Attempt, ...]:
    """Return every attempt, the first first."""
    found = []
    times = _times(files)
    for attempt, ends in times.items():
        if attempt in files.failures:
            end = f"failed: {_reason(files.failures[attempt])}"
        elif attempt == max(times):
            end = KINDS[files.state.kind]
        else:
            end = _signals(files, attempt) or "ended without a word"
        found.append(Attempt(attempt, format_time(ends[0]), format_duration(ends[-1] - ends[0]), clean(end, 300)))
    return tuple(found)


def _signals(files: RunFiles, attempt: int) -> str:
    names = [e.get("signal") for e in files.events if e.get("event") == "signalled" and number(e, "attempt") == attempt]
    return f"stopped by {clean(names[0], 30)}" if names else ""


def list_failures(files: RunFiles) -> tuple[FailureText, ...]:
    """Return the failures of all attempts."""
    return tuple(_failure(attempt, record) for attempt, record in sorted(files.failures.items()) if record)


def _failure(attempt: int, record: Record) -> FailureText:
    culprit = _object(record.get("culprit"))
    error = _object(culprit.get("error"))
    lines = culprit.get("last_lines")
    text = error.get("traceback") or "\n".join(map(str, lines if isinstance(lines, list) else []))
    others = record.get("consequences")
    steps = record.get("next_steps")
    return FailureText(
        attempt,
        clean(f"{_title(culprit)} on {culprit.get('host')}", 120),
        clean(_reason(record), 1000),
        clean(str(text)[-MOST_TEXT:], 10 * MOST_TEXT, keeps="\n\t"),
        tuple(
            clean(f"{_title(other)}: {_why(other)}", 300)
            for entry in (others if isinstance(others, list) else [])[:100]
            if (other := _object(entry))
        ),
        tuple(clean(step, 1000) for step in (steps if isinstance(steps, list) else [])[:20]),
    )


def _object(value: Any) -> Record:
    return value if isinstance(value, dict) else {}


def _title(process: Record) -> str:
    name = str(process.get("process", "a process"))
    return name.replace("rank-", "rank ") if name.startswith("rank-") else f"the {name}"


def _why(process: Record) -> str:
    error = _object(process.get("error"))
    if process.get("stall"):
        return f"the job hung: {process['stall']}"
    if error:
        return f"{error.get('type')}: {error.get('message')}"
    how = f"killed by {process['signal']}" if process.get("signal") else f"exit code {process.get('exit_code')}"
    return f"{how} ({process['hint']})" if process.get("hint") else how


def _reason(record: Record) -> str:
    culprit = _object(record.get("culprit"))
    return f"{_title(culprit)}: {_why(culprit)}"


def list_events(files: RunFiles) -> tuple[tuple[str, str], ...]:
    """Return (time, what happened) of the supervisor's events, beginning and end where there are very many."""
    events = files.events
    if len(events) > MOST_EVENTS:
        events = events[: MOST_EVENTS // 2] + events[-MOST_EVENTS // 2 :]
    told = {"time", "event", "attempt"}
    found = []
    for event in events:
        rest = ", ".join(f"{key} {value}" for key, value in event.items() if key not in told and value is not None)
        found.append((format_time(number(event, "time")), clean(f"{event.get('event')}: {rest}", 300)))
    return tuple(found)


def differing_config(files: RunFiles) -> tuple[tuple[str, str, str], ...]:
    """Return (section.key, the preset's value, the run's value) of the keys that are not the preset's."""
    preset = RunConfig().model_dump(mode="json")
    found = []
    for section, keys in files.config.items():
        for key, value in keys.items():
            expected = preset.get(section, {}).get(key, "no such key")
            if value != expected:
                found.append((clean(f"{section}.{key}"), show(expected), show(value)))
    return tuple(found)


def show(value: Any, most: int = 300) -> str:
    """Return a value of a config as text; a path that is not set is a dash."""
    return "–" if value is None else clean(value if isinstance(value, str) else json.dumps(value, default=str), most)


def list_environment(files: RunFiles) -> tuple[tuple[str, str], ...]:
    """Return (name, value) of environment.json and of the plan's devices."""
    found = files.environment
    rows = []
    for key, value in found.items():
        if key == "packages" and isinstance(value, dict):
            rows += [(clean(name, 60), clean(version, 60)) for name, version in value.items()]
        elif key == "time":
            rows.append(("started", f"{format_time(number(found, 'time'))} UTC"))
        elif key == "command" and isinstance(value, list):
            rows.append(("command", clean(" ".join(map(str, value)), 1000)))
        elif key.endswith("_bytes"):
            rows.append((clean(key.removesuffix("_bytes"), 60), f"{(number(found, key) or 0) / 2**30:.1f} GB"))
        elif value is not None:
            rows.append((clean(key.replace("_", " "), 60), clean(value, 300)))
    for key in ("target", "world_size"):
        if key in files.plan:
            rows.append((key.replace("_", " "), clean(files.plan[key], 60)))
    return tuple(rows)


def list_profiles(files: RunFiles) -> tuple[tuple[str, str, str], ...]:
    """Return (rank, size, link from the page) of each trace that MindSpore's profiler left, rank by rank."""
    found = []
    for folder in files.run.profiles.glob("rank-*"):
        if match := re.fullmatch(r"rank-(\d{1,6})", folder.name):
            found += [(int(match[1]), trace) for trace in list_traces(folder)]
    return tuple(
        (f"rank {rank}", f"{trace.stat().st_size / 1e6:.1f} MB", quote(os.path.relpath(trace, files.page_folder)))
        for rank, trace in sorted(found)[:MOST_PROFILES]
    )
