"""The chaos benchmark with few kills, `make chaos` has more, and the one moment that it seldom meets."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dying_worker import STEP
from fake_hosts import need
from jobs import TINY, environment, processes_of
from rich.console import Console

from benchmarks.chaos_plan import plan_kills, plan_kills_of_hosts
from fcn4dist.config import load_config
from fcn4dist.errors import JobError
from fcn4dist.job import plan
from fcn4dist.launch.host_job import LaunchRequest
from fcn4dist.launch.pipeline import launch
from fcn4dist.run.checkpoints import find_newest

ROOT = Path(__file__).resolve().parents[2]


def test_a_checkpoint_never_knows_a_step_that_a_rank_has_not_written_down(
    finite_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 dies when its step is done and not recorded; a checkpoint of that step would lose the record for ever."""
    monkeypatch.setattr(plan, "WORKER_MODULE", "dying_worker")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{Path(__file__).parent}")
    wanted = {"data.records_dir": finite_shards, "launch.devices": 2, "launch.device_target": "CPU"}
    wanted |= {"checkpoint.every_steps": 1, "train.max_steps": STEP + 1}
    config = load_config(overrides=[*TINY[1::2], *(f"{key}={value}" for key, value in wanted.items())])
    with pytest.raises(JobError, match=r"rank 1 on .* failed first: .*SIGKILL"):
        launch(config, LaunchRequest(tmp_path / "run"), Console(file=io.StringIO()))
    run = tmp_path / "run"
    assert processes_of(run) == []
    culprit = json.loads((run / "failure.json").read_text())["culprit"]
    assert (culprit["rank"], culprit["signal"]) == (1, "SIGKILL")
    newest, _, damaged = find_newest(run / "checkpoints")
    assert damaged == []
    assert newest.name == f"step-{STEP - 1:08d}"


@pytest.mark.slow
@pytest.mark.parametrize("options", ["--kills 5 --seed 58 --recipe adamw", "--hosts 2 --kills 3 --seed 1"])
def test_a_few_kills_change_nothing(tmp_path: Path, options: str) -> None:
    """With everything switched on that a checkpoint has to bring back; then two hosts, whose network is cut for 5 and 60 s."""
    if "--hosts" in options:
        need("ip", "unshare")
    command = [sys.executable, "-m", "benchmarks.chaos", *options.split(), "--keep", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "are those of the undisturbed run; no process is left" in done.stdout
    assert processes_of(tmp_path / "runs" / "disturbed") == []


def test_a_seed_names_its_kills() -> None:
    assert plan_kills(20, 1) == plan_kills(20, 1)
    kills, steps = plan_kills(200, 1)
    assert {kill.victim for kill in kills} == {"rank-0", "rank-1", "scheduler", "launcher", "group"}
    assert {kill.signal.name for kill in kills} == {"SIGKILL", "SIGSTOP", "SIGTERM"}
    targets = [kill.step for kill in kills if kill.step is not None]
    assert 0.6 < len(targets) / 200 < 0.9
    assert targets == sorted(targets)
    assert targets[-1] < steps
    blows = plan_kills_of_hosts(20, 1)
    assert blows == plan_kills_of_hosts(20, 1)
    cuts = [blow.cut_s for blow in blows if blow.victim == "network"]
    assert cuts == [5, 60, 5, 60, 5]
    assert all((blow.host is None) == (blow.victim.startswith("rank") or blow.victim == "scheduler") for blow in blows)
