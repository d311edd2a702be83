"""Row 11: what a checkpoint every 20 steps costs: full-size steps (96 x 1366, global batch 16, two ranks), checkpoints of 208 MB.

    python -m benchmarks.checkpoints

Two runs differ by more than a checkpoint costs even where neither writes one, so the cost is taken within a run: how much longer
than the run's other steps those take during which a checkpoint is copied and written, the wait before them included. That is set
against 20 of the other steps. The checkpoint at a run's end is in neither: a run without any on its way writes that one too.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.side_by_side import Row, number, report
from benchmarks.training import LaunchedSteps, launch, write_shards

EVERY = 20  # of the row; a try saves more often, to be short
SAVE_EVERY, WRITING = (
    5,
    3,
)  # saves after steps 5, 10 and 15; each is watched for three steps, and a write takes one or two
NUM_STEPS = 3 * SAVE_EVERY + WRITING


def cost_of_checkpoints(steps: LaunchedSteps) -> tuple[float, float]:
    """Return the seconds of a checkpoint (the mean, nothing is left out) and of a step without one (the median).

    `steps` begins with the run's second step.
    """
    writing: list[float] = []
    others: list[float] = []
    for step, (step_s, wait_s) in enumerate(zip(steps.step_s, steps.checkpoint_wait_s, strict=True), 2):
        since_save = (step - 1) % SAVE_EVERY  # steps between the save and this one
        is_writing = step > SAVE_EVERY and since_save < WRITING
        (writing if is_writing else others).append(step_s + wait_s)
    quiet = statistics.median(others)
    num_saves = len(writing) / WRITING
    return (sum(writing) - len(writing) * quiet) / num_saves, quiet


def measure(tries: int) -> list[Row]:
    """Return row 11."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        data = write_shards(Path(name) / "data", 32)
        # keep=1: taking old checkpoints away is part of the cost
        saving = (f"checkpoint.every_steps={SAVE_EVERY}", "checkpoint.keep=1")
        costs = [
            cost_of_checkpoints(launch(data, Path(name) / f"run-{attempt}", NUM_STEPS, *saving))
            for attempt in range(tries)
        ]
    return [row_of(costs)]


def row_of(costs: Sequence[tuple[float, float]]) -> Row:
    """Turn the (seconds of a checkpoint, of a step) of each try into the row."""
    slower = [100 * checkpoint_s / (EVERY * step_s) for checkpoint_s, step_s in costs]
    checkpoint_s, step_s = (statistics.median(side) for side in zip(*costs, strict=True))
    return Row("11", f"a checkpoint every {EVERY} steps: how much slower", slower, 3, is_at_most=True, unit="%",
               ours=f"{number(checkpoint_s)} s a checkpoint", against=f"{EVERY} steps of {number(step_s)} s")  # fmt: skip


@click.command()
@click.option("--tries", default=3)
def main(tries: int) -> None:
    """Measure what checkpoints cost."""
    report(measure(tries), " ".join(["python -m benchmarks.checkpoints", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
