from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from fcn4dist.job.events import (
    Beat,
    Evaluated,
    Event,
    EventLog,
    Exited,
    Inbox,
    Looked,
    Progress,
    Reported,
    RunWatcher,
    Signalled,
    Started,
    WallClock,
    WatchedFiles,
    signals_into,
)
from fcn4dist.job.process import ExitStatus
from fcn4dist.run.pulse import Pulse


def drain(inbox: Inbox) -> list[Event]:
    return [inbox.get() for _ in range(inbox.qsize())]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def watcher(folder: Path, inbox: Inbox) -> RunWatcher:
    errors = {"rank-0": folder / "rank-0.error.json", "rank-1": folder / "rank-1.error.json"}
    return RunWatcher(WatchedFiles(folder / "rank-0.jsonl", folder / "evaluation.json", errors), inbox, lambda: 7.0)


def test_lines_written_after_the_start_are_heard_once_and_whole(tmp_path: Path, inbox: Inbox) -> None:
    metrics = tmp_path / "rank-0.jsonl"
    metrics.write_text('{"step": 1}\n')  # of an earlier attempt
    watch = watcher(tmp_path, inbox)
    with metrics.open("a") as file:
        file.write('{"step": 2}\n{"st')
        file.flush()
        watch.poll()
        assert drain(inbox) == [Progress(7.0, 0, {"step": 2})]
        file.write('ep": 3}\n')
        file.flush()
        watch.poll()
        watch.poll()
    assert drain(inbox) == [Progress(7.0, 0, {"step": 3})]


def test_a_file_that_comes_later_is_read_from_its_start(tmp_path: Path, inbox: Inbox) -> None:
    metrics = tmp_path / "rank-0.jsonl"
    watch = watcher(tmp_path, inbox)
    watch.poll()
    metrics.write_text('{"step": 1}\n{"step": 2}\n')
    watch.poll()
    assert [e.record["step"] for e in drain(inbox) if isinstance(e, Progress)] == [1, 2]


def test_a_file_that_a_resumed_rank_has_cut_is_read_on_from_there(tmp_path: Path, inbox: Inbox) -> None:
    metrics = tmp_path / "rank-0.jsonl"
    metrics.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    watch = watcher(tmp_path, inbox)
    (tmp_path / "new").write_text('{"step": 1}\n{"step": 2}\n')
    (tmp_path / "new").replace(metrics)
    watch.poll()
    assert drain(inbox) == []
    with metrics.open("a") as file:
        file.write('{"step": 3}\n')
    watch.poll()
    assert [e.record["step"] for e in drain(inbox) if isinstance(e, Progress)] == [3]


def test_a_damaged_line_is_passed_over(tmp_path: Path, inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    watch = watcher(tmp_path, inbox)
    (tmp_path / "rank-0.jsonl").write_text('nonsense\n{"step": 1}\n')
    watch.poll()
    assert drain(inbox) == [Progress(7.0, 0, {"step": 1})]
    assert "not JSON" in caplog.text


def test_an_evaluation_is_heard_when_it_changes(tmp_path: Path, inbox: Inbox) -> None:
    (tmp_path / "evaluation.json").write_text('{"roc_auc_macro": 0.1}')
    watch = watcher(tmp_path, inbox)
    watch.poll()
    assert drain(inbox) == []
    (tmp_path / "new").write_text('{"roc_auc_macro": 0.9}')
    (tmp_path / "new").replace(tmp_path / "evaluation.json")
    watch.poll()
    watch.poll()
    assert drain(inbox) == [Evaluated(7.0, {"roc_auc_macro": 0.9})]


def test_an_exception_is_heard_once(tmp_path: Path, inbox: Inbox) -> None:
    watch = watcher(tmp_path, inbox)
    (tmp_path / "rank-1.error.json").write_text("{}")
    watch.poll()
    watch.poll()
    assert drain(inbox) == [Reported(7.0, "rank-1")]


def test_the_watching_thread_ends_with_its_block(tmp_path: Path, inbox: Inbox) -> None:
    with watcher(tmp_path, inbox):
        (tmp_path / "rank-0.jsonl").write_text('{"step": 1}\n')
        assert inbox.get(timeout=10) == Progress(7.0, 0, {"step": 1})


def test_a_look_that_fails_does_not_end_the_watching(
    tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """NFS answers ESTALE for a while: no look, no news, and then both again."""
    pulse = tmp_path / "rank-0.pulse"
    pulse.write_text("step 1 1\n")
    files = WatchedFiles(tmp_path / "rank-0.jsonl", tmp_path / "evaluation.json", {}, {"rank-0": pulse})
    watch = RunWatcher(files, inbox, lambda: 7.0)
    monkeypatch.setattr(RunWatcher, "POLL_S", 0.01)
    real, num_failures = Path.read_bytes, iter(range(5))

    def read(path: Path) -> bytes:
        if next(num_failures, None) is not None:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    with watch:
        assert inbox.get(timeout=10) == Beat(7.0, "rank-0", Pulse("step", 1, 1))
        assert inbox.get(timeout=10) == Looked(7.0)
    assert next(num_failures, None) is None
    assert caplog.text.count("Stale file handle") == 1


def test_a_look_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """npu-smi takes 5 s to answer, a frozen folder for ever."""
    monkeypatch.setattr("fcn4dist.job.poller.JOIN_S", 0.1)
    monkeypatch.setattr(RunWatcher, "POLL_S", 0.0)
    looks, end = threading.Event(), threading.Event()

    def hang(_: RunWatcher) -> None:
        looks.set()
        assert end.wait(30)

    monkeypatch.setattr(RunWatcher, "poll", hang)
    with watcher(tmp_path, inbox):
        assert looks.wait(10)
        start_s = time.monotonic()
    assert time.monotonic() - start_s < 10
    end.set()


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
    first.append(Progress(100.5, 0, {"step": 1}))  # metrics/ has it
    first.append(Exited(101.25, "rank-0", ExitStatus(None, signal.SIGKILL)))
    EventLog(path, attempt=2).append(Signalled(102.0, signal.SIGTERM))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"attempt": 1, "time": 100.0, "event": "started", "process": "rank-0", "pid": 12},
        {"attempt": 1, "time": 101.25, "event": "exited", "process": "rank-0", "exit_code": None, "signal": "SIGKILL"},
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
