"""The supervisor with real small children: every way to end, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil
import pytest

from fcn4dist.errors import JobError
from fcn4dist.job.events import EventLog
from fcn4dist.job.process import ExitStatus, Process, ProcessSpec
from fcn4dist.job.state import SECOND_SIGNAL_S
from fcn4dist.job.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = Path(__file__).with_name("run_children.py")
WAITS = "\ntime.sleep(600)"
IGNORES_TERM = "\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n(RUN / 'ready').touch()" + WAITS
LIMIT_S = 30.0  # a loaded machine starts Python slowly


def poll(condition: Callable[[], Any], what: str) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not happen within {LIMIT_S} s"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that init has not reaped yet runs no more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@dataclass
class Job:
    """A launcher with its children, in a process of its own."""

    run: Path
    popen: subprocess.Popen[str]

    def wait(self) -> tuple[int, str]:
        """Return the exit code and all output."""
        output, _ = self.popen.communicate(timeout=LIMIT_S)
        return self.popen.returncode, output

    def pids(self, *names: str) -> list[int]:
        """Wait until the named children run; return their ids."""
        files = [self.run / f"{name}.pid" for name in names]
        poll(lambda: all(f.exists() and f.read_text() for f in files), f"the start of {names}")
        return [int(f.read_text()) for f in files]

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / "events.jsonl").read_text().splitlines()]

    def seconds_to_end(self) -> float:
        """Return the seconds from the first end of a process to the last."""
        times = [event["time"] for event in self.events() if event["event"] == "exited"]
        return float(max(times) - min(times))

    def assert_nothing_left(self) -> None:
        started = [event["pid"] for event in self.events() if event["event"] == "started"]
        assert len(started) >= 2
        assert all(is_gone(pid) for pid in started)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def run(grace_s: float = 5.0, **programs: str) -> Job:
        named = {name.replace("_", "-"): program for name, program in programs.items()}
        popen = subprocess.Popen(
            [sys.executable, str(LAUNCHER), str(tmp_path), str(grace_s), json.dumps(named)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        jobs.append(Job(tmp_path, popen))
        return jobs[-1]

    yield run
    for job in jobs:
        job.popen.kill()
        job.popen.wait()


def test_all_ranks_end_well_one_of_them_early(start: Callable[..., Job]) -> None:
    late = "\nwhile not (RUN / 'early').exists(): time.sleep(0.01)\n"
    touch = "".join(f"\n(RUN / 'logs/attempt-1/rank-{rank}.stack').touch()" for rank in (1, 2))
    job = start(rank_0=f"{late}print('finished')", rank_1=f"print('hello from 1'){touch}\n(RUN / 'early').touch()")
    code, output = job.wait()
    assert code == 0, output
    assert "done: " in output
    logs = job.run / "logs/attempt-1"
    assert not (logs / "rank-1.stack").exists()
    assert (logs / "rank-2.stack").exists()  # another host's in a shared folder, which removes it itself
    assert (logs / "rank-0.log").read_text() == "finished\n"
    assert (logs / "rank-1.log").read_text() == "hello from 1\n"
    assert not (job.run / "failure.json").exists()
    job.assert_nothing_left()


def test_exit_3_ends_the_job_quickly_and_is_named(start: Callable[..., Job]) -> None:
    job = start(rank_0=WAITS, rank_1="print('the reason')\nsys.exit(3)")
    code, output = job.wait()
    assert code == 1
    assert "rank 1 on " in output
    assert "failed first: exit code 3" in output
    assert "the reason" in output
    assert "rank-1.log" in output
    failure = json.loads((job.run / "failure.json").read_text())
    assert (failure["culprit"]["rank"], failure["culprit"]["exit_code"]) == (1, 3)
    assert job.seconds_to_end() < 2.0
    job.assert_nothing_left()


def test_ranks_that_ignore_term_are_killed_within_two_seconds(start: Callable[..., Job]) -> None:
    fails = "\nwhile not (RUN / 'ready').exists(): time.sleep(0.01)\nsys.exit(1)"
    job = start(rank_0=IGNORES_TERM, rank_1=fails)
    code, _ = job.wait()
    assert code == 1
    assert job.seconds_to_end() < 2.0
    ends = {e["process"]: e["signal"] for e in job.events() if e["event"] == "exited"}
    assert ends == {"rank-1": None, "scheduler": "SIGTERM", "rank-0": "SIGKILL"}
    job.assert_nothing_left()


def test_an_exception_is_shown_with_the_end_of_its_traceback(start: Callable[..., Job]) -> None:
    worker = """
from fcn4dist.job.failure import save_error
from fcn4dist.run.folder import RunDir
try:
    {}["weights"]
except KeyError as error:
    save_error(RunDir(RUN).error(1, "rank-0"), error)
    sys.exit(1)
"""
    job = start(
        rank_0=f"\nwhile not (RUN / 'early').exists(): time.sleep(0.01)\n{worker}", rank_1="(RUN / 'early').touch()"
    )
    code, output = job.wait()  # the other rank was done
    assert code == 1
    assert "failed first: KeyError: 'weights'" in output
    assert "Traceback (most recent call last)" in output


def test_a_rank_that_raised_and_then_hangs_is_ended(start: Callable[..., Job]) -> None:
    worker = """
from fcn4dist.job.failure import save_error
from fcn4dist.run.folder import RunDir
signal.signal(signal.SIGTERM, signal.SIG_IGN)
save_error(RunDir(RUN).error(1, "rank-1"), ValueError("bad loss"))
time.sleep(600)  # as a finaliser that waits for other ranks
"""
    job = start(rank_0=WAITS, rank_1=worker)
    code, output = job.wait()
    assert code == 1
    assert "rank 1 on " in output
    assert "failed first: ValueError: bad loss" in output
    assert job.seconds_to_end() < 2.0
    job.assert_nothing_left()


def test_a_users_mistake_in_every_rank_is_one_message_and_exit_2(start: Callable[..., Job]) -> None:
    worker = """
from fcn4dist.job.failure import save_error
from fcn4dist.errors import CheckpointError
from fcn4dist.run.folder import RunDir
error = CheckpointError("weights.ckpt: 50 tags, the data has 10")
save_error(RunDir(RUN).error(1, NAME), error)
sys.exit(error.exit_code)
"""
    job = start(rank_0=worker.replace("NAME", "'rank-0'"), rank_1=worker.replace("NAME", "'rank-1'"))
    code, output = job.wait()
    assert code == 2
    assert output.count("weights.ckpt: 50 tags, the data has 10") == 1
    assert "Traceback" not in output


def test_a_rank_killed_by_sigkill_is_named_by_signal(start: Callable[..., Job]) -> None:
    job = start(rank_0=WAITS, rank_1=WAITS)
    _, victim = job.pids("rank-0", "rank-1")
    os.kill(victim, signal.SIGKILL)
    code, output = job.wait()
    assert code == 1
    assert "rank 1" in output
    assert "killed by SIGKILL" in output
    assert "out-of-memory" in output
    assert job.seconds_to_end() < 2.0
    job.assert_nothing_left()


def test_a_killed_scheduler_ends_the_job(start: Callable[..., Job]) -> None:
    job = start(rank_0=WAITS, rank_1=WAITS)
    (victim, *_) = job.pids("scheduler", "rank-0", "rank-1")
    os.kill(victim, signal.SIGKILL)
    code, output = job.wait()
    assert code == 1
    assert "the scheduler on " in output
    job.assert_nothing_left()


def test_a_flood_of_output_goes_to_the_log_and_blocks_nothing(start: Callable[..., Job]) -> None:
    flood = "\nblock = b'x' * 99 + b'\\n'\nfor _ in range(1000): sys.stdout.buffer.write(block * 1000)"
    job = start(rank_0=flood)
    code, output = job.wait()
    assert code == 0, output
    log = job.run / "logs/attempt-1/rank-0.log"
    assert log.stat().st_size == 100_000_000
    log.unlink()
    assert len(output) < 1000


@pytest.mark.parametrize("ending", ["sys.exit(0)", "os.kill(os.getpid(), 9)"])
def test_grandchildren_go_with_their_parent(start: Callable[..., Job], ending: str) -> None:
    forks = f"""
stays = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stays])
(RUN / "grandchild.pid").write_text(str(child.pid))
{ending}
"""
    job = start(rank_0=forks)
    code, _ = job.wait()
    assert code == (0 if ending == "sys.exit(0)" else 1)
    (grandchild,) = job.pids("grandchild")
    poll(lambda: is_gone(grandchild), "the end of the grandchild")
    job.assert_nothing_left()


def test_a_signal_ends_the_job_with_128_plus_n(start: Callable[..., Job]) -> None:
    stops = (
        "\nsignal.signal(signal.SIGTERM, lambda *_: (print('stopping'), sys.exit(0)))\n(RUN / 'ready').touch()" + WAITS
    )
    job = start(rank_0=stops, rank_1=WAITS)
    job.pids("rank-0", "rank-1")
    poll((job.run / "ready").exists, "the handler of rank 0")
    job.popen.send_signal(signal.SIGTERM)
    code, output = job.wait()
    assert code == 143
    assert f"ended by SIGTERM; nothing was saved yet: fcn4dist launch --resume {job.run} begins anew" in output
    assert (job.run / "logs/attempt-1/rank-0.log").read_text() == "stopping\n"
    assert not (job.run / "failure.json").exists()
    job.assert_nothing_left()


def test_grace_ends_in_sigkill(start: Callable[..., Job]) -> None:
    job = start(grace_s=0.3, rank_0=IGNORES_TERM)
    poll((job.run / "ready").exists, "the handler of rank 0")
    job.popen.send_signal(signal.SIGTERM)
    assert job.wait()[0] == 143
    job.assert_nothing_left()


def test_a_second_ctrl_c_does_not_wait_for_the_grace_time(start: Callable[..., Job]) -> None:
    job = start(grace_s=600, rank_0=IGNORES_TERM)
    poll((job.run / "ready").exists, "the handler of rank 0")
    job.popen.send_signal(signal.SIGINT)
    poll(lambda: any(e["event"] == "signalled" for e in job.events()), "the first signal")
    heard_s = time.monotonic()
    poll(lambda: time.monotonic() > heard_s + SECOND_SIGNAL_S, "a second signal that counts")
    job.popen.send_signal(signal.SIGINT)
    assert job.wait()[0] == 130
    job.assert_nothing_left()


def test_a_killed_launcher_leaves_nothing(start: Callable[..., Job]) -> None:
    job = start(rank_0=IGNORES_TERM, rank_1=WAITS)
    pids = job.pids("scheduler", "rank-0", "rank-1")
    job.popen.kill()
    job.popen.wait()
    poll(lambda: all(is_gone(pid) for pid in pids), "the end of the children")


def test_a_reader_that_goes_away_does_not_end_the_job(start: Callable[..., Job]) -> None:
    late = "\nwhile not (RUN / 'deaf').exists(): time.sleep(0.01)\n"
    metrics = "(RUN / 'metrics').mkdir()\n(RUN / 'metrics/rank-0.jsonl').write_text('{\"step\": 1, \"loss\": 2.0}\\n')"
    job = start(rank_0=late + metrics)
    job.pids("rank-0")
    assert job.popen.stdout is not None
    job.popen.stdout.close()  # `fcn4dist launch | head`, or a terminal that was closed
    (job.run / "deaf").touch()
    assert job.popen.wait(LIMIT_S) == 0
    job.assert_nothing_left()


def test_a_worker_whose_launcher_is_gone_already_ends_at_once() -> None:
    code = "from fcn4dist.train.bring_up import leave_if_orphaned\nleave_if_orphaned(1 << 22)\nprint('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=LIMIT_S)
    assert (done.returncode, done.stdout) == (137, "")


def test_a_child_that_was_suspended_before_it_could_tie_itself_dies_with_its_launcher(tmp_path: Path) -> None:
    """`sleep` never calls anything of ours: it is as a worker that is still starting Python."""
    code = (
        "import sys, time; from pathlib import Path; from fcn4dist.job.process import Process, ProcessSpec\n"
        "child = Process(ProcessSpec('rank-0', ('sleep', '600')), {'PATH': '/usr/bin:/bin'})\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as launcher:
        assert launcher.stdout is not None
        pid = int(launcher.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        poll(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "the stop")
        launcher.kill()
    poll(lambda: is_gone(pid), "the end of the child")


def test_a_child_that_is_stopped_and_goes_on_is_heard_in_turn_and_its_end_once() -> None:
    """Stopped before anybody listens, then again and again: no stop may hide the next, none may take the exit."""
    child = Process(ProcessSpec("rank-0", ("sleep", "600")), os.environ)
    heard: SimpleQueue[object] = SimpleQueue()
    child.send(signal.SIGSTOP)
    poll(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED, "the stop")
    child.watch(lambda _, status: heard.put(status), lambda _, is_suspended: heard.put(is_suspended))
    assert heard.get(timeout=LIMIT_S) is True
    for _ in range(20):
        for number, is_suspended in ((signal.SIGCONT, False), (signal.SIGSTOP, True)):
            child.send(number)
            assert heard.get(timeout=LIMIT_S) is is_suspended
    child.send(signal.SIGKILL)  # reaches a suspended process
    assert heard.get(timeout=LIMIT_S) == ExitStatus(None, signal.SIGKILL)
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    child.reap()
    assert not psutil.pid_exists(child.pid)
    assert heard.empty()


def test_a_child_that_flickers_is_heard_as_it_is_at_last() -> None:
    child = Process(ProcessSpec("rank-0", ("sleep", "600")), os.environ)
    heard: SimpleQueue[object] = SimpleQueue()
    child.watch(lambda _, status: heard.put(status), lambda _, is_suspended: heard.put(is_suspended))
    for _ in range(500):
        child.send(signal.SIGSTOP)
        child.send(signal.SIGCONT)
    child.send(signal.SIGSTOP)
    poll(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED, "the last stop")
    last: list[object] = []
    poll(lambda: last.extend(heard.get() for _ in range(heard.qsize())) or last[-1:] == [True], "the news of it")
    child.send(signal.SIGKILL)
    assert heard.get(timeout=LIMIT_S) == ExitStatus(None, signal.SIGKILL)
    child.reap()


def test_a_suspended_rank_and_the_peak_memory_of_each_stand_in_the_record(start: Callable[..., Job]) -> None:
    big = "\nx = bytearray(300 << 20); x[::4096] = x[::4096]; del x; (RUN / 'big').touch()" + WAITS
    job = start(rank_0=big, rank_1=WAITS)
    small, _ = job.pids("rank-1", "rank-0")
    poll((job.run / "big").exists, "the memory of rank 0")

    def suspensions() -> list[tuple[str, bool]]:
        return [(e["process"], e["is_suspended"]) for e in job.events() if e["event"] == "suspended"]

    for number, expected in ((signal.SIGSTOP, True), (signal.SIGCONT, False)):
        os.kill(small, number)
        poll(lambda expected=expected: suspensions()[-1:] == [("rank-1", expected)], "the news")  # type: ignore[misc]
    os.kill(job.pids("rank-0")[0], signal.SIGKILL)
    code, output = job.wait()
    assert code == 1
    assert "its peak memory: 0.3" in output
    peaks = {e["process"]: e["peak_memory_bytes"] for e in job.events() if e["event"] == "exited"}
    assert 300 << 20 < peaks["rank-0"] < 450 << 20
    assert 0 < peaks["rank-1"] < 200 << 20


def supervise(tmp_path: Path, *specs: ProcessSpec) -> Supervisor:
    return Supervisor(specs, os.environ, grace_s=1.0, event_log=EventLog(tmp_path / "events.jsonl", 1))


def test_no_zombie_is_left_in_the_launcher(tmp_path: Path) -> None:
    ends = (sys.executable, "-c", "raise SystemExit(0)")
    specs = [ProcessSpec(f"rank-{n}", ends, {}, tmp_path / f"rank-{n}.log") for n in range(3)]
    outcome = supervise(tmp_path, *specs).run()
    assert outcome.kind == "success"
    started = [json.loads(line)["pid"] for line in (tmp_path / "events.jsonl").read_text().splitlines()[:3]]
    assert not any(psutil.pid_exists(pid) for pid in started)


def test_a_program_that_cannot_be_started_ends_what_was_started(tmp_path: Path) -> None:
    waits = (sys.executable, "-c", "import time; time.sleep(600)")
    first = ProcessSpec("scheduler", waits, {}, tmp_path / "scheduler.log")
    second = ProcessSpec("rank-0", (str(tmp_path / "no-such-program"),), {}, tmp_path / "rank-0.log")
    with pytest.raises(JobError, match=r"rank-0: cannot be started: .*No such file"):
        supervise(tmp_path, first, second).run()
    (started,) = [json.loads(line)["pid"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert not psutil.pid_exists(started)


def test_a_log_is_never_overwritten(tmp_path: Path) -> None:
    log = tmp_path / "rank-0.log"
    log.write_text("of an earlier attempt\n")
    with pytest.raises(JobError, match=r"rank-0: cannot be started: .*File exists"):
        supervise(tmp_path, ProcessSpec("rank-0", (sys.executable, "-V"), {}, log)).run()
    assert log.read_text() == "of an earlier attempt\n"
