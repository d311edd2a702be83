"""A run with everything that a recipe switches on: exact over a resume, alike on one rank and two; and runs that end early."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from jobs import TINY, Run, load_weights, run_here

from fcn4dist.report.page import write_report
from fcn4dist.run.checkpoints import find_newest

RECIPE = [
    *("--set", "train.epochs=4", "--set", "train.optimizer=adamw", "--set", "train.weight_decay=0.1"),
    *(
        "--set",
        "train.clip_norm=1",
        "--set",
        "train.ema_decay=0.9",
        "--set",
        "train.device_batch=4",
        "--set",
        "train.lr=0.002",
    ),
    *("--set", "train.schedule=plateau", "--set", "train.plateau_patience=1", "--set", "train.warmup_steps=3"),
    *("--set", "augment.time_masks=1", "--set", "augment.time_mask_frames=8", "--set", "augment.mixup=0.4"),
    *("--set", "augment.frequency_masks=1", "--set", "augment.frequency_mask_bins=4", "--set", "model.dropout=0.5"),
    *("--set", "model.input_norm=batch", "--set", "evaluate.num_resamples=0", "--set", "mel.clip_s=0.67"),
]


def rates_of(run: Path, rank: int = 0) -> list[float]:
    return [json.loads(line)["lr"] for line in (run / "metrics" / f"rank-{rank}.jsonl").read_text().splitlines()]


def test_a_recipe_is_exact_over_a_resume(finite_shards: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    common = ["--devices", 2, "--data", finite_shards, *TINY, *RECIPE]
    for run, more in ((whole, []), (cut, ["--set", "train.max_steps=10"])):
        result = run_here("launch", "--run-dir", run, *common, *more)
        assert result.returncode == 0, result.stderr
    result = run_here("launch", "--devices", 2, "--resume", cut, "--set", "train.max_steps=20")
    assert result.returncode == 0, result.stderr
    newest, state, _ = find_newest(whole / "checkpoints")
    other, resumed, _ = find_newest(cut / "checkpoints")
    assert resumed.progress == state.progress
    assert rates_of(cut) == rates_of(whole) == rates_of(whole, 1)
    for name in ("weights.safetensors", "optimizer.safetensors"):  # the average; moments, trained weights and scale
        assert (newest / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
def test_a_recipe_is_alike_on_one_rank_and_two(fcn4dist: Run, finite_shards: Path, tmp_path: Path) -> None:
    runs = {devices: tmp_path / str(devices) for devices in (1, 2)}
    for devices, run in runs.items():
        result = fcn4dist("launch", "--devices", devices, "--data", finite_shards, "--run-dir", run, *TINY, *RECIPE)
        assert result.returncode == 0, result.stderr
    for name, value in load_weights(runs[1]).items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(load_weights(runs[2])[name], value, rtol=0, atol=1e-5 * scale, err_msg=name)


def test_a_run_without_progress_ends_early_and_well(tiny_shards: Path, tmp_path: Path) -> None:
    """At a rate of nothing the first score is not bettered."""
    run = tmp_path / "run"
    common = ["--set", "train.epochs=9", "--set", "train.lr=1e-30", "--set", "train.freeze_batch_norm=true"]
    result = run_here(
        *("launch", "--devices", 1, "--data", tiny_shards, "--run-dir", run, *TINY, *common),
        *("--set", "train.early_stop_epochs=2", "--set", "evaluate.num_resamples=30"),
    )
    assert result.returncode == 0, result.stderr
    log = (run / "logs" / "attempt-1" / "rank-0.log").read_text()
    said = r"stopped early after epoch 3: no better ROC-AUC for 2 epochs \(train.early_stop_epochs\); best (0\.\d{4}) at epoch 1"
    found = re.search(said, log)
    assert found is not None
    first = json.loads((run / "metrics" / "evaluations.jsonl").read_text().splitlines()[0])
    assert float(found[1]) == round(first["roc_auc_macro"], 4)
    (last_line,) = result.stdout.splitlines()
    assert f"; {found[0]}; " in last_line
    assert (run / "checkpoints" / "best").read_text().strip() == "step-00000015"  # the last of equal ones
    assert found[0] in run_here("watch", "--once", run).stdout
    assert f"S{found[0][1:]}." in write_report(run, tmp_path / "page.html").read_text()
    again = run_here("launch", "--resume", run)
    assert again.returncode == 2
    assert "finished: stopped early after epoch 3" in again.stderr
    assert json.loads((run / "evaluation.json").read_text())["roc_auc_ci95"] is not None  # as at any end


@pytest.mark.slow
def test_a_run_that_overflows_for_ever_fails_and_says_so(fcn4dist: Run, tiny_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = fcn4dist(
        *("launch", "--devices", 2, "--data", tiny_shards, "--run-dir", run, *TINY, "--set", "train.epochs=9"),
        *("--set", "train.loss_scale=3e38", "--set", "train.max_overflows=7"),
    )
    assert result.returncode == 1
    assert "step 7: the last 7 steps overflowed and changed nothing" in result.stderr + result.stdout
