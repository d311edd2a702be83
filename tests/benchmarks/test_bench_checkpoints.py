"""What a checkpoint costs, from the records of a run."""

from __future__ import annotations

import pytest

from benchmarks.checkpoints import NUM_STEPS, cost_of_checkpoints, row_of
from benchmarks.training import LaunchedSteps


def steps_of(longer: dict[int, float], waited: dict[int, float]) -> LaunchedSteps:
    """Steps 2 to 18 of 6 s each, some of them longer, some after a wait."""
    steps = range(2, NUM_STEPS + 1)
    return LaunchedSteps(
        step_s=[6.0 + longer.get(step, 0.0) for step in steps],
        data_wait_s=[0.0] * len(steps),
        checkpoint_wait_s=[waited.get(step, 0.0) for step in steps],
    )


def test_the_waits_and_the_longer_steps_after_each_save_count() -> None:
    """Saves are made after steps 5, 10 and 15; 1.5 s, 0.9 s and 0.6 s are lost to them."""
    steps = steps_of({6: 0.8, 7: 0.4, 8: 0.2, 11: 0.7, 16: 0.5}, {6: 0.1, 11: 0.2, 16: 0.1})
    assert cost_of_checkpoints(steps) == pytest.approx((1.0, 6.0))


def test_slow_steps_away_from_saves_are_not_theirs() -> None:
    cost_s, quiet_s = cost_of_checkpoints(steps_of({2: 5.0, 5: 3.0, 9: 4.0}, {}))
    assert (cost_s, quiet_s) == pytest.approx((0.0, 6.0))


def test_the_row_sets_a_checkpoint_against_twenty_steps() -> None:
    row = row_of([(1.0, 5.0), (6.0, 6.0), (3.0, 5.0)])
    assert row.figures == pytest.approx([1.0, 5.0, 3.0])  # per cent: 1 of 100 s, 6 of 120 s, 3 of 100 s
    assert row.cells()[2:] == ["3 s a checkpoint", "20 steps of 5 s", "3% (1 to 5)", "at most 3%", "met"]
