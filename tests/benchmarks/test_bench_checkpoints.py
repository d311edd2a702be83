"""What a checkpoint costs, from the records of a run."""

from __future__ import annotations

import pytest

from benchmarks.checkpoints import NUM_STEPS, quiet_steps, row_of
from benchmarks.launching import LaunchedSteps


def steps_of(longer: dict[int, float], waited: dict[int, float]) -> LaunchedSteps:
    """Steps 2 to 11 of 6 s each, some of them longer, some after a wait."""
    steps = range(2, NUM_STEPS + 1)
    return LaunchedSteps(
        step_s=[6.0 + longer.get(step, 0.0) for step in steps],
        data_wait_s=[0.0] * len(steps),
        checkpoint_wait_s=[waited.get(step, 0.0) for step in steps],
    )


def test_the_waits_and_the_longer_steps_after_each_save_count() -> None:
    """Saves are made after steps 4 and 8; 1.5 s and 0.9 s are lost to them, 1.25 % and 0.75 % of twenty steps of 6 s."""
    steps = steps_of({5: 0.8, 6: 0.4, 7: 0.2, 9: 0.7}, {5: 0.1, 9: 0.2})
    assert quiet_steps(steps) == [6.0] * 4
    row = row_of(steps)
    assert row.figures == pytest.approx([1.25, 0.75])
    assert row.cells()[2:] == ["1.2 s a checkpoint", "20 steps of 6 s", "1% (0.75 to 1.25)", "at most 3%", "met"]


def test_slow_steps_away_from_saves_are_not_theirs() -> None:
    steps = steps_of({2: 5.0, 8: 3.0}, {})
    assert quiet_steps(steps) == [11.0, 6.0, 6.0, 9.0]
    assert sum(row_of(steps).figures) < 0  # the median of the others is 7.5 s
