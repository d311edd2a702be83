"""Row 11: what a checkpoint every 20 steps costs: full-size steps (96 x 1366, global batch 16, two ranks), checkpoints of 208 MB.

Two runs differ by more than a checkpoint costs even where neither writes one, so the cost is taken within a run, the launched one
of benchmarks/training.py: how much longer than the run's other steps those take during which a checkpoint is copied and written,
the wait before them included. That is set against 20 of the other steps. The checkpoint at a run's end is in neither: a run
without any on its way writes that one too.
"""

from __future__ import annotations

import statistics

from benchmarks.launching import LaunchedSteps
from benchmarks.side_by_side import Row, number

EVERY = 20  # of the row; the run saves more often, to be short
SAVE_EVERY, WRITING, NUM_SAVES = 4, 3, 2  # each save is watched for three steps, and a write takes one or two
NUM_STEPS = NUM_SAVES * SAVE_EVERY + WRITING
SAVING = (
    f"checkpoint.every_steps={SAVE_EVERY}",
    "checkpoint.keep=1",
)  # keep=1: taking old ones away is part of the cost


def steps_after_saves(steps: LaunchedSteps) -> tuple[list[list[float]], list[float]]:
    """Return the seconds of the WRITING steps after each save, the waits before them included, and of all other steps.

    `steps` begins with the run's second step.
    """
    after: list[list[float]] = []
    others: list[float] = []
    for step, (step_s, wait_s) in enumerate(zip(steps.step_s, steps.checkpoint_wait_s, strict=True), 2):
        num_saves, since_save = divmod(step - 1, SAVE_EVERY)  # saves before this step, and steps between
        if num_saves and since_save < WRITING:
            if since_save == 0:
                after.append([])
            after[-1].append(step_s + wait_s)
        else:
            others.append(step_s + wait_s)
    return after, others


def quiet_steps(steps: LaunchedSteps) -> list[float]:
    """Return the seconds of the steps that no checkpoint falls into."""
    return steps_after_saves(steps)[1]


def row_of(steps: LaunchedSteps) -> Row:
    """Return the row: a figure a checkpoint."""
    after, others = steps_after_saves(steps)
    quiet_s = statistics.median(others)
    costs = [sum(some) - len(some) * quiet_s for some in after]
    return Row("11", f"a checkpoint every {EVERY} steps: how much slower", [100 * cost_s / (EVERY * quiet_s) for cost_s in costs],
               3, is_at_most=True, unit="%", ours=f"{number(statistics.median(costs))} s a checkpoint",
               against=f"{EVERY} steps of {number(quiet_s)} s")  # fmt: skip
