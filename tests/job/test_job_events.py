from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from fcn4dist.job.events import (
    EventLog,
    Exited,
    Inbox,
    Signalled,
    Started,
    Stepped,
    WallClock,
    signals_into,
)
from fcn4dist.job.process import ExitStatus


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def test_signals_become_events_and_handlers_come_back(inbox: Inbox) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals_into(inbox, lambda: 3.0):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
            assert inbox.get(timeout=10) == Signalled(3.0, number)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_nohup_ignores_stays_ignored(inbox: Inbox) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_into(inbox, lambda: 3.0):
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert inbox.empty()


def test_the_record_names_signals_and_grows_over_attempts(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = EventLog(path, attempt=1)
    first.append(Started(100.0, "rank-0", 12))
    first.append(Stepped(100.5, 0, {"step": 1}))  # metrics/ has it
    first.append(Exited(101.25, "rank-0", ExitStatus(None, signal.SIGKILL), 4096))
    EventLog(path, attempt=2).append(Signalled(102.0, signal.SIGTERM))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"attempt": 1, "time": 100.0, "event": "started", "process": "rank-0", "pid": 12},
        {
            "attempt": 1,
            "time": 101.25,
            "event": "exited",
            "process": "rank-0",
            "exit_code": None,
            "signal": "SIGKILL",
            "peak_memory_bytes": 4096,
        },
        {"attempt": 2, "time": 102.0, "event": "signalled", "signal": "SIGTERM"},
    ]


def test_a_full_disk_does_not_end_the_supervision(caplog: pytest.LogCaptureFixture) -> None:
    EventLog(Path("/dev/full"), attempt=1).append(Started(1.0, "rank-0", 12))
    assert "No space left on device" in caplog.text


def test_the_clock_is_wall_time_that_never_goes_back() -> None:
    clock = WallClock()
    assert abs(clock() - time.time()) < 1.0
    times = [clock() for _ in range(1000)]
    assert times == sorted(times)
