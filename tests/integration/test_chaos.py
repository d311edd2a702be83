"""The chaos benchmark with few kills; `make chaos` has more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from jobs import environment, processes_of

from benchmarks.chaos_plan import plan_kills

ROOT = Path(__file__).resolve().parents[2]


def test_five_kills_change_nothing(tmp_path: Path) -> None:
    """With everything switched on that a checkpoint has to bring back; `--recipe plain` and `sgd` are for `make chaos`."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.chaos",
        "--kills",
        "5",
        "--seed",
        "58",
        "--recipe",
        "adamw",
        "--keep",
        str(tmp_path / "runs"),
    ]
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
