"""`fcn4dist launch --seeds`: one run a seed, an end by one of them, going on, and what is said of all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from jobs import TINY, environment, processes_of, run_here, wait_for

from fcn4dist.report.comparison import write_comparison
from fcn4dist.run.groups import find_runs

COMMON = [*TINY, "--set", "train.epochs=1", "--set", "evaluate.num_resamples=0", "--set", "train.lr=0.01"]


def test_seeds_run_one_after_the_other_and_a_second_call_goes_on(finite_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "seed-5").touch()  # no folder can be made there
    result = run_here("launch", "--data", finite_shards, "--run-dir", folder, "--seeds", "4,5", *COMMON)
    assert result.returncode == 2
    assert [line[:14] for line in result.stdout.splitlines()] == ["seed 4: done: "]
    again = f"fcn4dist launch --seeds 4,5 --resume {folder}"
    assert f"seed 5 is not done; done: 4; go on with: {again}" in result.stderr
    refused = run_here("launch", "--data", finite_shards, "--run-dir", folder, "--seeds", "4,5", *COMMON)
    assert (refused.returncode, f"already holds seed 4; go on with {again}" in refused.stderr) == (2, True)
    hint = run_here("launch", "--resume", folder)
    assert (hint.returncode, "a folder of seeds: add --seeds 4" in hint.stderr) == (2, True)

    (folder / "seed-5").unlink()
    result = run_here("launch", "--seeds", "4,5", "--resume", folder)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("seed 4: done before; ")
    assert lines[1].startswith("seed 5: done: ")
    kept = [json.loads((folder / f"seed-{seed}" / "evaluation-best.json").read_text()) for seed in (4, 5)]
    figures = [document["roc_auc_macro"] for document in kept]
    assert figures[0] != figures[1]
    said = f"ROC-AUC {np.mean(figures):.4f} ± {np.std(figures, ddof=1):.4f}, PR-AUC "
    assert lines[2].startswith(f"done: seeds 4, 5; {said}")
    assert "(mean ± sample standard deviation of the best checkpoints, n = 2)" in lines[2]
    page = write_comparison(find_runs(folder), tmp_path / "page.html").read_text()
    assert f"{np.mean(figures):.4f} ± {np.std(figures, ddof=1):.4f}" in page
    # nothing but the seed differs, and the clips of the first step do
    first = [json.loads((folder / f"seed-{s}/metrics/rank-0.jsonl").read_text().splitlines()[0]) for s in (4, 5)]
    assert first[0]["clip_ids"] != first[1]["clip_ids"]


def test_a_signal_ends_all_seeds(finite_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    arguments = [
        "launch",
        "--data",
        finite_shards,
        "--run-dir",
        folder,
        "--seeds",
        "1,2",
        *COMMON,
        "--set",
        "train.epochs=500",
    ]
    command = [sys.executable, "-m", "fcn4dist", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        steps = folder / "seed-1" / "metrics" / "rank-0.jsonl"
        wait_for(lambda: process.poll() is not None or (steps.is_file() and steps.read_text()), 180, "a first step")
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert "checkpoint saved" in said
    assert (
        f"seed 1 is not done; done: none; not begun: 2; go on with: fcn4dist launch --seeds 1,2 --resume {folder}"
        in said
    )
    assert not (folder / "seed-2").exists()
    assert processes_of(folder / "seed-1") == []
