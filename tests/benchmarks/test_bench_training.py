"""Rows of training.py, scoring.py, starting.py and opening.py from figures worked out by hand; no benchmark runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import opening, scoring, starting
from benchmarks.launching import LaunchedSteps, read_steps, settings_of, write_shards
from benchmarks.training import Round, near_the_best, rows_beyond_the_guard, rows_of_launch, rows_of_rounds
from fcn4dist.config import load_config, override_config, plan_batches
from fcn4dist.launch.training_data import adopt_data, check_data

PRODUCT_GFLOP, STEP_GFLOP = 2 * 4096**3 / 1e9, 16 * 59.8


def test_each_round_is_a_figure() -> None:
    """Steps of 6 and 8 s; products that take as long as their rate says: 200 GFLOP/s before, 100 after, so 133 in all."""
    product_s = [PRODUCT_GFLOP / 200, PRODUCT_GFLOP / 100]
    rounds = [
        Round(ours=6, products=product_s, reduces=[0.9, 0.3, 0.2], torch=9, single=5.4, plain=12),
        Round(ours=8, products=[PRODUCT_GFLOP / 160] * 2, reduces=[0.4, 0.4, 0.1], torch=10, single=8),
    ]
    one, four, reduce = rows_of_rounds(rounds, "torch-nhwc-ddp")
    assert (one.number, one.figures) == ("1", [9 / 6, 10 / 8])
    assert one.against == f"PyTorch (nhwc-ddp) {16 / 9.5:.3g} clips/s"
    assert (four.number, four.figures) == ("4", pytest.approx([1.8, 2.0]))
    assert (reduce.number, reduce.figures) == ("5b", pytest.approx([5.0, 5.0]))
    plain, share = rows_beyond_the_guard(rounds)
    assert (plain.number, plain.figures, plain.against) == ("2a", [2.0], "plain recipe 1.33 clips/s")
    assert (share.number, share.figures) == (
        "3",
        pytest.approx([100 * STEP_GFLOP / 6 / (400 / 3), 100 * STEP_GFLOP / 8 / 160]),
    )
    launched = LaunchedSteps([6.3, 7.7], [0.063, 0.0], [0.0, 0.0])
    real, wait = rows_of_launch(launched, rounds)
    assert (real.number, real.figures) == ("1c", pytest.approx([0.9, 1.1]))
    assert (wait.number, wait.figures) == ("5a", pytest.approx([1.0, 0.0]))


def test_a_way_of_pytorch_near_the_best_one_is_not_given_up() -> None:
    assert near_the_best({"a": 1.14, "b": 1.0, "c": 1.16}) == ["b", "a"]


def test_the_rank_that_waits_longest_counts(tmp_path: Path) -> None:
    waits = {0: [9.0, 0.1, 0.2], 1: [9.0, 0.3, 0.0]}
    for rank, values in waits.items():
        lines = [json.dumps({"step_s": 2.0 + rank, "data_wait_s": wait, "checkpoint_wait_s": 0.5}) for wait in values]
        (tmp_path / f"rank-{rank}.jsonl").write_text("\n".join(lines))
    steps = read_steps(tmp_path, 2)
    assert steps == LaunchedSteps([2.0, 2.0], [0.3, 0.2], [0.5, 0.5])
    assert steps.data_shares == pytest.approx([15.0, 10.0])


def test_launch_takes_the_data_set_and_the_settings(tmp_path: Path) -> None:
    """It refused both when a part that the set does not have was to be evaluated."""
    data = write_shards(tmp_path / "data", 32, 40)
    for settings in (settings_of(3), [f"{key}={value}" for key, value in starting.SETTINGS.items()]):
        config = adopt_data(override_config(load_config(None, settings), data={"records_dir": data}))
        assert check_data(config, plan_batches(config.train, 2)).num_rows("train") == 32


def test_rates_of_scoring_and_the_largest_difference() -> None:
    ours = np.zeros((2, 3), np.float32)
    scores = {
        "ours": ours,
        "PyTorch": np.array([[0, 0, 4e-6], [0, 0, 0]], np.float32),
        "onnxruntime": np.array([[0, -2e-5, 0], [0, 0, 0]], np.float32),
    }
    a, b, c = scoring.rows_of({"ours": [8.0, 12.0], "PyTorch": [4.0, 4.0], "onnxruntime": [16.0, 8.0]}, scores)
    assert (a.figures, b.figures) == ([2.0, 3.0], [0.5, 1.5])
    assert c.figures == pytest.approx([2e-5])
    assert not c.holds()


def test_rows_of_starts_leave_out_what_was_not_measured() -> None:
    rows = starting.rows_of([(4.0, 8.0)], [], [])
    assert [(row.number, row.figures, row.bar) for row in rows] == [("8", [0.5], 0.8)]
    rows = starting.rows_of([(4.0, 8.0)], [(1.0, 32.0)], [(5.0, 4.0)])
    assert [(row.number, row.figures) for row in rows] == [("8", [0.5]), ("9", [1 / 32]), ("16", [1.25])]


def test_rows_of_opening_are_time_and_memory() -> None:
    seconds, memory = opening.rows_of([(1.0, 4.0), (3.0, 4.0)], [(50.0, 200.0), (60.0, 200.0)], 250_000)
    assert (seconds.number, seconds.figures, seconds.ours, seconds.against) == ("15a", [0.25, 0.75], "2 s", "4 s")
    assert (memory.number, memory.figures, memory.ours) == ("15b", [0.25, 0.3], "55 MB")
