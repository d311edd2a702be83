from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fcn4dist.ascend.tools import parse_npu_usage
from fcn4dist.job.events import Beat, Event, Exited, Inbox, Looked, Reported, Scored, Started, Stepped, WallClock
from fcn4dist.job.process import ExitStatus
from fcn4dist.job.sampler import RunWatcher, Sampler, UsageRecorder, WatchedFiles
from fcn4dist.run.pulse import Pulse

# as printed by npu-smi 24.1 on a host of 910B, and by one of A3 with its Phy-ID column
TABLE = """+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc2                 Version: 24.1.rc2                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 93.4        47                0    / 0             |
| 0                         | 0000:C1:00.0  | 12          0    / 0          3350 / 65536         |
+===========================+===============+====================================================+
| 7     910B3               | Alarm         | -           NA                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          NA   / 65536         |
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 0       0                 | 40113         | python                   | 3300                    |
"""


def test_the_table_of_npu_smi() -> None:
    first, second = parse_npu_usage(TABLE)
    assert first == {
        "npu": 0,
        "chip": 0,
        "power_w": 93.4,
        "temperature_c": 47.0,
        "load_percent": 12.0,
        "memory_bytes": 3350 * 2**20,
        "total_bytes": 65536 * 2**20,
    }
    assert second == {"npu": 7, "chip": 0, "load_percent": 0.0, "total_bytes": 65536 * 2**20}
    assert parse_npu_usage("") == []
    assert parse_npu_usage("npu-smi: dcmi model initialized failed, ret is -8005") == []


def drain(inbox: Inbox) -> list[Event]:
    return [inbox.get() for _ in range(inbox.qsize())]


def wait_until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def usage(tmp_path: Path) -> UsageRecorder:
    return UsageRecorder(tmp_path / "metrics" / "usage.jsonl", WallClock(), 1)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the next look."""
    monkeypatch.setattr("fcn4dist.job.sampler.LOOK_S", 0.01)
    monkeypatch.setattr("fcn4dist.job.sampler.FIRST_LOOKS_S", 0.0)


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
        watch.look()
        assert drain(inbox) == [Stepped(7.0, 0, {"step": 2})]
        file.write('ep": 3}\n')
        file.flush()
        watch.look()
        watch.look()
    assert drain(inbox) == [Stepped(7.0, 0, {"step": 3})]


def test_a_file_that_comes_later_is_read_from_its_start(tmp_path: Path, inbox: Inbox) -> None:
    metrics = tmp_path / "rank-0.jsonl"
    watch = watcher(tmp_path, inbox)
    watch.look()
    metrics.write_text('{"step": 1}\n{"step": 2}\n')
    watch.look()
    assert [e.record["step"] for e in drain(inbox) if isinstance(e, Stepped)] == [1, 2]


def test_a_file_that_a_resumed_rank_has_cut_is_read_on_from_there(tmp_path: Path, inbox: Inbox) -> None:
    metrics = tmp_path / "rank-0.jsonl"
    metrics.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    watch = watcher(tmp_path, inbox)
    (tmp_path / "new").write_text('{"step": 1}\n{"step": 2}\n')
    (tmp_path / "new").replace(metrics)
    watch.look()
    assert drain(inbox) == []
    with metrics.open("a") as file:
        file.write('{"step": 3}\n')
    watch.look()
    assert [e.record["step"] for e in drain(inbox) if isinstance(e, Stepped)] == [3]


def test_a_damaged_line_is_passed_over(tmp_path: Path, inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    watch = watcher(tmp_path, inbox)
    (tmp_path / "rank-0.jsonl").write_text('nonsense\n{"step": 1}\n')
    watch.look()
    assert drain(inbox) == [Stepped(7.0, 0, {"step": 1})]
    assert "not JSON" in caplog.text


def test_an_evaluation_is_heard_when_it_changes(tmp_path: Path, inbox: Inbox) -> None:
    (tmp_path / "evaluation.json").write_text('{"roc_auc_macro": 0.1}')
    watch = watcher(tmp_path, inbox)
    watch.look()
    assert drain(inbox) == []
    (tmp_path / "new").write_text('{"roc_auc_macro": 0.9}')
    (tmp_path / "new").replace(tmp_path / "evaluation.json")
    watch.look()
    watch.look()
    assert drain(inbox) == [Scored(7.0, {"roc_auc_macro": 0.9})]


def test_an_exception_is_heard_once(tmp_path: Path, inbox: Inbox) -> None:
    watch = watcher(tmp_path, inbox)
    (tmp_path / "rank-1.error.json").write_text("{}")
    watch.look()
    watch.look()
    assert drain(inbox) == [Reported(7.0, "rank-1")]


def test_what_was_written_last_is_heard_at_the_end(tmp_path: Path, inbox: Inbox, usage: UsageRecorder) -> None:
    with Sampler(usage, watcher(tmp_path, inbox)):
        (tmp_path / "rank-0.jsonl").write_text('{"step": 1}\n')
    assert drain(inbox) == [Stepped(7.0, 0, {"step": 1})]


@pytest.mark.usefixtures("at_once")
def test_a_look_that_fails_does_not_end_the_watching(
    tmp_path: Path,
    inbox: Inbox,
    usage: UsageRecorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """NFS answers ESTALE for a while: no look, no news, and then both again; what can be read is read meanwhile."""
    pulse = tmp_path / "rank-0.pulse"
    pulse.write_text("step 1 1\n")
    files = WatchedFiles(tmp_path / "rank-0.jsonl", tmp_path / "evaluation.json", {}, {"rank-0": pulse})
    watch = RunWatcher(files, inbox, lambda: 7.0)
    real, num_failures = Path.read_bytes, iter(range(5))

    def read(path: Path) -> bytes:
        if path == pulse and next(num_failures, None) is not None:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    with Sampler(usage, watch):
        assert inbox.get(timeout=10) == Beat(7.0, "rank-0", Pulse("step", 1, 1))
        assert inbox.get(timeout=10) == Looked(7.0)
        assert (tmp_path / "metrics" / "usage.jsonl").read_text().count("\n") >= 5
    assert next(num_failures, None) is None
    assert caplog.text.count("Stale file handle") == 1


@pytest.mark.usefixtures("at_once")
def test_usage_that_cannot_be_written_leaves_a_gap_and_nothing_more(
    tmp_path: Path, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    with Sampler(UsageRecorder(Path("/dev/full"), WallClock(), 1), watcher(tmp_path, inbox)):
        wait_until(lambda: "No space left on device" in caplog.text)
        (tmp_path / "rank-0.jsonl").write_text('{"step": 1}\n')
        assert inbox.get(timeout=10) == Stepped(7.0, 0, {"step": 1})
    assert caplog.text.count("No space left on device") == 1


@pytest.mark.usefixtures("at_once")
def test_a_look_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, inbox: Inbox, usage: UsageRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a pipe that nobody writes to hangs as a frozen folder does."""
    monkeypatch.setattr("fcn4dist.job.sampler.JOIN_S", 0.1)
    os.mkfifo(tmp_path / "rank-0.pulse")
    files = WatchedFiles(tmp_path / "none", tmp_path / "none", {}, {"rank-0": tmp_path / "rank-0.pulse"})
    with Sampler(usage, RunWatcher(files, inbox, lambda: 7.0)):
        pipe: list[int] = []

        def open_pipe() -> bool:
            with contextlib.suppress(OSError):  # ENXIO: only a reader that hangs in it lets a writer in
                pipe.append(os.open(tmp_path / "rank-0.pulse", os.O_WRONLY | os.O_NONBLOCK))
            return bool(pipe)

        wait_until(open_pipe)
    assert inbox.empty()
    (tmp_path / "rank-0.pulse").unlink()
    os.close(pipe[0])  # the folder comes back


@pytest.fixture
def npu_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install an npu-smi that answers once the file `answer` is there."""
    tool, answer = tmp_path / "npu-smi", tmp_path / "answer"
    tool.write_text(f"#!/bin/sh\nwhile [ ! -e {answer} ]; do sleep 0.01; done\ncat <<'END'\n{TABLE}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    yield answer
    answer.touch()
    wait_until(lambda: not {"npu-usage", "sampler"} & {thread.name for thread in threading.enumerate()})


def test_an_npu_smi_that_is_slow_or_hangs_holds_up_no_look(
    npu_smi: Path, usage: UsageRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcn4dist.job.sampler.NPU_PATIENCE_S", 0.01)
    for _ in range(3):
        assert "devices" not in usage.usage()
    assert [thread.name for thread in threading.enumerate()].count("npu-usage") == 1
    npu_smi.touch()
    wait_until(lambda: "npu-usage" not in [thread.name for thread in threading.enumerate()])
    assert usage.usage()["devices"][0]["power_w"] == 93.4  # the late answer


def test_processes_are_looked_at_from_their_start_to_their_end(tmp_path: Path) -> None:
    code = "x = bytearray(100 << 20); print('there', flush=True)\nwhile True: pass"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        recorder = UsageRecorder(tmp_path / "usage.jsonl", WallClock(), 2)
        recorder.on_event(Started(0.0, "rank-3", child.pid))
        assert child.stdout is not None
        child.stdout.readline()
        line = recorder.usage()
        assert line["attempt"] == 2
        assert line["processes"]["rank-3"]["memory_bytes"] > 100 << 20
        end_s = time.monotonic() + 30
        while recorder.usage()["processes"]["rank-3"]["cpu_percent"] <= 0:
            assert time.monotonic() < end_s
        recorder.on_event(Exited(1.0, "rank-3", ExitStatus(0)))
        assert recorder.usage()["processes"] == {}
    finally:
        child.kill()
        child.communicate()


@pytest.mark.usefixtures("at_once")
def test_lines_are_written_and_npus_asked(tmp_path: Path, npu_smi: Path) -> None:
    npu_smi.touch()
    file = tmp_path / "metrics" / "usage.jsonl"
    with Sampler(UsageRecorder(file, WallClock(), 1, {"rank-0": os.getpid()})):
        wait_until(lambda: file.exists() and '"devices"' in file.read_text() and file.read_text().count("\n") > 1)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert next(line["devices"][0]["power_w"] for line in lines if "devices" in line) == 93.4
    assert lines[0]["processes"]["rank-0"]["memory_bytes"] > 1 << 20
    assert lines[1]["time"] > lines[0]["time"]


def test_a_process_that_is_gone_is_no_error(tmp_path: Path) -> None:
    recorder = UsageRecorder(tmp_path / "usage.jsonl", WallClock(), 1, {"rank-0": 2**22 + 1})
    assert recorder.usage()["processes"] == {}
