"""Row 11: a checkpoint every 20 steps against none, full-width network, clips of 5 s, two ranks.

    python -m benchmarks.checkpoints

Short clips make the steps about six times as short as a real run's, so the 208 MB of a checkpoint weigh six times as much here.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from benchmarks.side_by_side import Row, alternate, both, report
from benchmarks.training import launch, write_shards

FRAMES, NUM_STEPS, EVERY = 235, 64, 20


def measure(tries: int) -> list[Row]:
    """Return row 11."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        data = write_shards(Path(name) / "data", 64, FRAMES)
        runs = iter(range(2 * tries))

        def seconds(every_steps: int) -> float:
            run = Path(name) / f"run-{next(runs)}"
            steps = launch(data, run, NUM_STEPS, f"checkpoint.every_steps={every_steps}", "checkpoint.keep=2")
            return sum(steps.step_s) + sum(steps.checkpoint_wait_s)

        pairs = alternate(lambda: seconds(EVERY), lambda: seconds(1_000_000), tries)
    slower = [100 * (with_ / without - 1) for with_, without in pairs]
    what = f"checkpoints every {EVERY} of {NUM_STEPS} short steps: how much slower"
    return [Row("11", what, slower, 3, is_at_most=True, unit="%", **both(pairs, "s"))]


@click.command()
@click.option("--tries", default=3)
def main(tries: int) -> None:
    """Measure what checkpoints cost."""
    report(measure(tries), " ".join(["python -m benchmarks.checkpoints", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
