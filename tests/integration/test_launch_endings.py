"""How a real job ends when something goes wrong: in time, with a name, and with nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from jobs import TINY, environment, processes_of, wait_for

LONG = ["--set", "train.epochs=100000", "--set", "evaluate.every_epochs=100000"]


def test_a_terminal_that_is_closed_leaves_a_checkpoint(tiny_shards: Path, tmp_path: Path) -> None:
    """The shell and the kernel send SIGHUP, one right after the other, and what is printed then has no reader."""
    if not (shutil.which("bash") and shutil.which("setsid")):
        pytest.skip("needs bash and setsid, for a shell with a terminal of its own")
    run, script, code = tmp_path / "run", tmp_path / "script.sh", tmp_path / "code"
    command = [sys.executable, "-m", "fcn4dist", "launch", "--devices", "2", "--data", str(tiny_shards), *TINY]
    command += ["--run-dir", str(run), *LONG, "--set", "launch.grace_s=90"]
    script.write_text(f"trap : HUP\n{shlex.join(command)}\necho $? > {code}.new; mv {code}.new {code}\n")
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    shell = subprocess.Popen(
        ["setsid", "--ctty", "bash", "--norc", "--noprofile", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment(), "TERM": "xterm-256color"},
    )
    os.close(theirs)
    os.write(ours, f"sh {script}\n".encode())

    def is_stepping() -> bool:
        with contextlib.suppress(BlockingIOError):  # a terminal shows what it gets
            os.read(ours, 1 << 16)
        return all((run / "metrics" / f"rank-{rank}.jsonl").exists() for rank in range(2))

    try:
        wait_for(is_stepping, 120, "the first step")
        launcher = next(process for process in processes_of(run) if "launch" in process.cmdline())
        os.close(ours)
        wait_for(lambda: '"signalled"' in (run / "events.jsonl").read_text(), 10, "the first SIGHUP")
        launcher.send_signal(signal.SIGHUP)  # on a busy machine the kernel makes one of the two
        wait_for(code.exists, 100, "the end of the job")
    finally:
        shell.kill()
        shell.wait()
    assert code.read_text() == f"{128 + signal.SIGHUP}\n"
    last = json.loads((run / "metrics" / "rank-0.jsonl").read_text().splitlines()[-1])["step"]
    assert (run / "checkpoints" / "latest").read_text().strip() == f"step-{last:08d}"
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert {event["signal"] for event in events if event["event"] == "signalled"} == {"SIGHUP"}
    ends = {event["process"]: event["exit_code"] for event in events if event["event"] == "exited"}
    assert (ends["rank-0"], ends["rank-1"]) == (0, 0)
    wait_for(lambda: not processes_of(run), 10, "the end of all processes")


def test_a_job_listens_on_loopback_only_and_nothing_outlives_its_killed_launcher(
    tiny_shards: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "fcn4dist", "launch", "--devices", "2", "--data", str(tiny_shards)]
    with subprocess.Popen(
        [*command, "--run-dir", str(run), *TINY, *LONG],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    ) as launcher:
        try:
            metrics = [run / "metrics" / f"rank-{rank}.jsonl" for rank in range(2)]
            wait_for(lambda: all(m.exists() and m.stat().st_size for m in metrics), 120, "the first step")
            own = [process for process in processes_of(run) if process.pid != launcher.pid]
            assert len(own) == 3  # two ranks and the scheduler
            connections = [connection for process in own for connection in process.net_connections(kind="inet")]
            listening = {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
            assert listening == {"127.0.0.1"}  # a job of one host is nobody else's business
        finally:
            launcher.kill()
    wait_for(lambda: not processes_of(run), 10, "the end of all processes")
