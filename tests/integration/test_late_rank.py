"""Real starts of two ranks, one of which comes late."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from jobs import TINY, environment, processes_of, wait_for

LOST = "Failed to register and try to reconnect"  # MindSpore's warning for each connection that it gives up
ONE_STEP = ["--set", "train.max_steps=1", "--set", "evaluate.num_resamples=0"]


def events(run: Path, kind: str) -> list[dict[str, object]]:
    file = run / "events.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if line["event"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("late_s", [5, 20])
def test_a_rank_that_is_late_is_waited_for_by_name(late_s: int, tiny_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--devices", "2", "--device-target", "CPU", "--data", str(tiny_shards), "--run-dir", str(run)]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "fcn4dist", "launch", *options, *TINY, *ONE_STEP],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment(), "GLOG_v": "2"},  # with warnings
    )
    try:
        wait_for(lambda: len(events(run, "started")) == 3, 60, "the start of the processes")
        pids = {str(event["process"]): int(str(event["pid"])) for event in events(run, "started")}
        late = psutil.Process(pids["rank-1"])
        late.send_signal(signal.SIGSTOP)
        end_s = time.monotonic() + late_s
        wait_for(lambda: time.monotonic() > end_s, late_s + 1, "the rank to be late")
        if late_s > 15:
            wait_for(lambda: events(run, "startwaits"), 60, "a line on who waits for whom")
        late.send_signal(signal.SIGCONT)
        output = launcher.communicate(timeout=120)[0]
    finally:
        for process in processes_of(run):
            process.kill()
        launcher.wait()
    assert launcher.returncode == 0, output
    assert "done: 1 steps" in output
    logs = [(run / "logs" / "attempt-1" / f"rank-{rank}.log").read_text() for rank in range(2)]
    assert sum(log.count(LOST) for log in logs) <= 2, "connections were given up"
    if late_s > 15:
        assert "s for rank 1, which has not joined yet (rank 1 is " in output
    assert processes_of(run) == []
