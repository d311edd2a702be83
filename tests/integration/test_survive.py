"""Real jobs that are interrupted: they go on by themselves or by --resume, and end as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from jobs import TINY, Run, environment, load_weights, processes_of, wait_for

from fcn4dist.job.events import STOP_SIGNALS

pytestmark = pytest.mark.slow  # many starts of MindSpore: `make test-slow`

NUM_STEPS = 400
LONG = [
    *TINY, *("--set", "train.epochs=1000", "--set", f"train.max_steps={NUM_STEPS}", "--set", "checkpoint.every_steps=9"),
    *("--set", "evaluate.every_epochs=30", "--set", "evaluate.num_resamples=0", "--set", "checkpoint.keep=3"),
    *("--set", "train.loss_scale=dynamic", "--set", "launch.stall_timeout_s=5"),
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    launch(["--devices", "2", "--data", str(tiny_shards), "--run-dir", str(run), *LONG], 0)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    for process in processes_of(tmp_path / "run"):
        process.kill()


def begin(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fcn4dist", "launch", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, text=True, env=environment(), start_new_session=True, preexec_fn=hear_signals, **pipes
    )


def hear_signals() -> None:
    for number in STOP_SIGNALS:  # a test run in the background may have left SIGINT ignored
        signal.signal(number, signal.SIG_DFL)


def launch(arguments: list[str], expected: int) -> str:
    """Run the command to its end and return what it printed."""
    launcher = begin(arguments)
    stdout, stderr = launcher.communicate(timeout=240)
    assert launcher.returncode == expected, stdout + stderr
    return stdout + stderr


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def last_step(run: Path) -> int:
    file = run / "metrics" / "rank-0.jsonl"
    return len(file.read_bytes().splitlines()) if file.exists() else 0


def wait_for_step(run: Path, step: int) -> None:
    wait_for(lambda: last_step(run) >= step, 150, f"step {step}")


def wait_for_steps_of(run: Path, attempt: int, num_steps: int) -> None:
    """Wait until this attempt itself has done steps: what an earlier one wrote says nothing about it."""
    log = run / "logs" / f"attempt-{attempt}" / "rank-0.log"
    wait_for(lambda: log.exists() and log.read_text().count("loss is") >= num_steps, 150, f"steps of attempt {attempt}")


def worker(run: Path, name: str) -> psutil.Process:
    pids = [e["pid"] for e in lines_of(run / "events.jsonl") if e["event"] == "started" and e["process"] == name]
    return psutil.Process(pids[-1])


def clips(run: Path) -> dict[int, list[int]]:
    """Return the clips of each step over all ranks, as often as they were used."""
    steps: dict[int, list[int]] = {}
    for file in sorted((run / "metrics").glob("rank-*.jsonl")):
        for line in lines_of(file):
            steps.setdefault(line["step"], []).extend(line["clip_ids"])
    return {step: sorted(ids) for step, ids in steps.items()}


def test_a_run_that_is_interrupted_in_every_way_equals_one_that_is_not(
    undisturbed: Path, tiny_shards: Path, run: Path
) -> None:
    first = ["--devices", "2", "--data", str(tiny_shards), "--run-dir", str(run), *LONG, "--max-restarts", "3"]
    launcher = begin(first)
    wait_for_step(run, 40)
    worker(run, "rank-1").kill()  # the launcher starts all again
    wait_for_steps_of(run, 2, 30)
    worker(run, "rank-0").send_signal(signal.SIGSTOP)  # the watchdog finds it, and the launcher starts all again
    wait_for_steps_of(run, 3, 30)
    launcher.send_signal(signal.SIGUSR1)  # as Slurm does before the time limit
    _, stderr = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + signal.SIGUSR1
    assert "restart 1 of 3 in 1 s, from step-" in stderr
    assert "killed by SIGKILL" in stderr
    assert "rank 0 on " in stderr
    assert "suspended (SIGSTOP)" in stderr
    stopped_at = last_step(run)
    assert f"stopped by SIGUSR1 after step {stopped_at} of {NUM_STEPS}, checkpoint saved; go on with: " in stderr
    assert (run / "checkpoints" / "latest").read_text().strip() == f"step-{stopped_at:08d}"
    assert "Thread" in (run / "logs" / "attempt-2" / "rank-0.stack").read_text()
    assert [e["after"] for e in lines_of(run / "events.jsonl") if e["event"] == "restart"] == [
        "rank 1: SIGKILL",
        "rank 0: hung",
    ]

    launcher = begin(["--resume", str(run)])
    wait_for_steps_of(run, 4, 30)
    worker(run, "rank-1").send_signal(signal.SIGTERM)  # a scheduler that signals every process, or a person
    _, stderr = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step" in stderr
    assert "done: " in launch(["--resume", str(run)], 0)

    expected = load_weights(undisturbed)
    for name, values in load_weights(run).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert clips(run) == clips(undisturbed)
    states = [
        json.loads((folder / f"checkpoints/step-{NUM_STEPS:08d}/state.json").read_text())
        for folder in (run, undisturbed)
    ]
    assert states[0]["progress"] == states[1]["progress"]
    assert states[0]["sha256"] == states[1]["sha256"]  # Adam's moments and the loss scale too
    evaluations = [lines_of(folder / "metrics" / "evaluations.jsonl") for folder in (run, undisturbed)]
    assert [{**e, "time": 0} for e in evaluations[0]] == [{**e, "time": 0} for e in evaluations[1]]
    assert processes_of(run) == []


def test_other_numbers_of_ranks_go_on_with_the_same_clips(undisturbed: Path, tiny_shards: Path, run: Path) -> None:
    first = ["--devices", "4", "--data", str(tiny_shards), "--run-dir", str(run), *LONG, "--set", "train.max_steps=7"]
    launch(first, 0)
    launch(["--resume", str(run), "--devices", "2", "--set", "train.max_steps=13"], 0)
    plan = json.loads((run / "plan.json").read_text())
    assert plan["batches"]["accumulation"] == 2  # what was four ranks' is two ranks' in two pieces
    launch(["--resume", str(run), "--devices", "1", "--set", "train.max_steps=18"], 0)
    assert json.loads((run / "plan.json").read_text())["batches"]["accumulation"] == 4
    expected = clips(undisturbed)
    assert clips(run) == {step: expected[step] for step in range(1, 19)}
    counts = [len(lines_of(run / "metrics" / f"rank-{rank}.jsonl")) for rank in range(4)]
    assert counts == [18, 13, 7, 7]


def test_a_finished_run_is_not_resumed(undisturbed: Path, fcn4dist: Run) -> None:
    result = fcn4dist("launch", "--resume", undisturbed)
    assert result.returncode == 2
    assert f"finished: {NUM_STEPS} of {NUM_STEPS} steps" in result.stderr
    assert "--set train.max_steps=N" in result.stderr


def test_train_in_one_process_stops_and_goes_on(tiny_shards: Path, run: Path) -> None:
    command = [sys.executable, "-m", "fcn4dist", "train"]
    options = ["--data", str(tiny_shards), "--run-dir", str(run), *LONG]
    trainer = subprocess.Popen(
        [*command, *options], text=True, env=environment(), preexec_fn=hear_signals, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for_step(run, 12)
    trainer.send_signal(signal.SIGINT)
    _, stderr = trainer.communicate(timeout=60)
    heard = signal.Signals(trainer.returncode - 128)
    assert heard in (signal.SIGINT, signal.SIGTERM)  # MindSpore's data pipeline may pass the one on as the other
    step = last_step(run)
    assert f"stopped by {heard.name} after step {step} of {NUM_STEPS}, checkpoint saved" in stderr
    limit = f"train.max_steps={step + 5}"
    done = subprocess.run(
        [*command, "--resume", str(run), "--set", limit], text=True, env=environment(), capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert last_step(run) == step + 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 300 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300M", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_costs_no_checkpoint_and_the_run_goes_on_where_there_is_room(
    tiny_shards: Path, small_disk: Path
) -> None:
    from fcn4dist.run.checkpoints import list_checkpoints, load_state

    run = small_disk / "run"
    # a checkpoint of 50 MB: five or six fit, according to what else is written
    wide = [
        *LONG,
        "--set",
        "model.channels=[64, 192, 384, 1024]",
        "--set",
        "checkpoint.every_steps=1",
        "--set",
        "checkpoint.keep=9",
    ]
    arguments = ["--devices", "2", "--data", str(tiny_shards), "--run-dir", str(run), *wide]
    output = launch([*arguments, "--set", "train.max_steps=9"], 1)
    assert "the checkpoint could not be written, the ones before are as they were" in output
    assert "No space left on device" in output
    kept = list_checkpoints(run / "checkpoints")
    assert len(kept) in (5, 6)
    assert [load_state(path).progress.step for path in kept] == list(range(1, len(kept) + 1))
    assert (run / "checkpoints" / "latest").read_text().strip() == kept[-1].name
    subprocess.run(["mount", "-o", "remount,size=900M", str(small_disk)], check=True)
    launch(["--resume", str(run)], 0)
    assert last_step(run) == 9
