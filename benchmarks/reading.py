"""Row 6: reading shards in a random order through MindDataset, and what a step of eight ranks waits for it.

    python -m benchmarks.reading

Clips a second of one core beside the page cache's own speed, the share of a full-size step of a real job of eight ranks that goes
into waiting for data, and the memory of eight processes that read the whole set once and four times.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.side_by_side import Row, alternate, both, report
from benchmarks.steppers import ROOT
from benchmarks.training import launch, share_of_step, write_shards

NUM_CLIPS, NUM_RANKS, NUM_STEPS = 512, 8, 5
PASSES = 16  # over all clips of a rank, so that a try is a good part of a second
BYTES_A_CLIP = 4 * 96 * 1366


def read_batches(data: Path, rank: int, world_size: int, passes: int) -> float:
    """Read a rank's clips in batches of 8, as training does, and return the seconds a clip."""
    from fcn4dist.data.dataset import open_dataset
    from fcn4dist.data.order import epoch_order

    split = open_dataset(data).split("train")
    start, count = time.perf_counter(), 0
    for epoch in range(passes):
        for batch in split.iter_batches(epoch_order(split.num_clips, 1, epoch)[rank::world_size], 8):
            count += len(batch.clip_ids)
    return (time.perf_counter() - start) / count


def read_raw(data: Path, passes: int) -> float:
    """Read the shards in pieces of 1 MB and return the seconds a clip."""
    start, total = time.perf_counter(), 0
    piece = bytearray(1 << 20)
    for _ in range(passes):
        for file in sorted(data.glob("train.mindrecord?")):
            with file.open("rb", buffering=0) as stream:
                while num_read := stream.readinto(piece):
                    total += num_read
    return (time.perf_counter() - start) / (total / BYTES_A_CLIP)


def eight_at_once(side: str, data: Path, passes: int) -> tuple[float, float]:
    """Read with eight processes that begin together; return the seconds a clip of all and the highest memory of one in MB."""
    command = [sys.executable, "-m", "benchmarks.reading", "--side", side, "--data", str(data), "--passes", str(passes)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    ranks = [subprocess.Popen([*command, "--rank", str(rank)], **pipes) for rank in range(NUM_RANKS)]
    for rank in ranks:
        assert rank.stdout is not None
        rank.stdout.readline()  # it is ready
    for rank in ranks:
        assert rank.stdin is not None
        rank.stdin.write("go\n")
        rank.stdin.flush()
    answers = [rank.communicate()[0].split() for rank in ranks]
    return max(float(seconds) for seconds, _ in answers) / NUM_RANKS, max(float(memory) for _, memory in answers)


def read_as_told(side: str, data: Path, rank: int, passes: int) -> None:
    """Be one of eight: say that it is ready, read when told to, and print the seconds a clip and the memory in MB."""
    import fcn4dist.data.dataset  # noqa: F401  # before the start

    print("ready", flush=True)
    sys.stdin.readline()
    seconds = read_raw(data, passes // NUM_RANKS) if side == "raw" else read_batches(data, rank, NUM_RANKS, passes)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def wait_for_data(data: Path, run: Path) -> float:
    """Train a few steps at full width with eight ranks; return the share of a step, in percent, that rank 0 waits for data."""
    steps = launch(data, run, NUM_STEPS, f"train.global_batch={NUM_RANKS}", devices=NUM_RANKS)
    return share_of_step(steps.data_wait_s, steps.step_s)


def measure(tries: int) -> list[Row]:
    """Return row 6."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        data = write_shards(Path(name) / "data", NUM_CLIPS)
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        read_raw(data, 1), read_batches(data, 0, 1, 1)
        alone = alternate(lambda: read_batches(data, 0, 1, PASSES), lambda: read_raw(data, PASSES), tries)
        os.sched_setaffinity(0, cores)
        memory = alternate(lambda: eight_at_once("ours", data, 4)[1], lambda: eight_at_once("ours", data, 1)[1], tries)
        shares = [wait_for_data(data, Path(name) / f"run-{number}") for number in range(tries)]
    rates = [(1 / ours, 1 / raw) for ours, raw in alone]
    return [
        Row("6a", "clips/s a core, shuffled, in percent of the page cache's speed", [100 * a / b for a, b in rates], None,
            unit="%", **both(rates, "clips/s")),
        Row("6b", "waiting for data, of a full-size step of eight ranks", shares, 2, is_at_most=True, unit="%"),
        Row("6c", "memory of a rank after four passes, of that after one", [four / one for four, one in memory], 1.1,
            is_at_most=True, **both(memory, "MB")),
    ]  # fmt: skip


@click.command()
@click.option("--tries", default=3)
@click.option("--side", type=click.Choice(["ours", "raw"]), hidden=True)
@click.option("--data", type=click.Path(path_type=Path), hidden=True)
@click.option("--rank", default=0, hidden=True)
@click.option("--passes", default=1, hidden=True)
def main(tries: int, side: str, data: Path | None, rank: int, passes: int) -> None:
    """Measure reading."""
    if data is not None:
        read_as_told(side, data, rank, passes)
        return
    report(measure(tries), " ".join(["python -m benchmarks.reading", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
