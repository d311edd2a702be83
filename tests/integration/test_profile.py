"""launch.profile_steps: what is refused and what is said; what two ranks leave is looked at in test_training.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jobs import TINY, Run, run_here


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("15-10", "launch.profile_steps: '15-10' is no range of steps; expected FIRST-LAST such as 10-15"),
        ("0-3", "launch.profile_steps: '0-3' is no range of steps"),
        ("some", "launch.profile_steps: 'some' is no range of steps"),
        ("1-101", "launch.profile_steps: 1-101 are 101 steps; a profile takes at most 100"),
        ("6-7", "launch.profile_steps: 6-7, but the run has 5 steps"),
    ],
)
def test_a_range_that_cannot_be_is_refused_before_anything_starts(
    steps: str, message: str, finite_shards: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = run_here(
        *("launch", "--devices", 2, "--data", finite_shards, "--run-dir", run, *TINY, "--set", "train.epochs=1"),
        *("--set", f"launch.profile_steps={steps}"),
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not (run / "logs").exists()


@pytest.mark.slow
def test_a_range_beyond_the_end_or_behind_a_resumed_run_is_said(
    fcn4dist: Run, finite_shards: Path, tmp_path: Path
) -> None:
    run, profile = tmp_path / "run", ("--set", "launch.profile_steps=4-9")
    first = fcn4dist(
        *("train", "--data", finite_shards, "--run-dir", run, *TINY, "--set", "train.epochs=1", *profile),
        *("--device-target", "CPU"),
        timeout_s=900,
    )
    assert first.returncode == 0, first.stderr
    assert "launch.profile_steps 4-9: steps 1 to 5 are left, so 4-5 are profiled" in first.stdout + first.stderr
    (trace,) = (run / "profile" / "rank-0").glob("*/ASCEND_PROFILER_OUTPUT/trace_view.json")
    convolutions = [
        e["name"] for e in json.loads(trace.read_text()) if e["ph"] == "X" and "conv4-Conv2d/Conv2D-op" in e["name"]
    ]
    assert len(convolutions) == 2  # and none of the evaluation that follows
    assert all("gradients-Gradients" in name for name in convolutions)
    second = fcn4dist(
        "train", "--resume", run, "--set", "train.epochs=2", "--set", "launch.profile_steps=2-3", timeout_s=900
    )
    assert second.returncode == 0, second.stderr
    assert "launch.profile_steps 2-3: steps 6 to 10 are left, so nothing is profiled" in second.stdout + second.stderr
    assert len(list((run / "profile" / "rank-0").iterdir())) == 1
