"""Row 6: reading shards in a random order through MindDataset, and what a step of eight ranks waits for it.

    python -m benchmarks.reading

Clips a second of one core beside the page cache's own speed; the share of a full-size step (96 x 1366, global batch 16, so two
clips a rank) of a real job of eight ranks that goes into waiting for data, by the rank that waits longest; and the memory of
eight processes that read the whole set once and four times.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.launching import GLOBAL_BATCH, launch, write_shards
from benchmarks.side_by_side import Row, alternate, both, report
from benchmarks.steppers import ROOT

NUM_CLIPS, NUM_RANKS, NUM_STEPS = 512, 8, 5
LONG = 4  # passes after which a rank may have no more memory than after one
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


def memory_of_eight(data: Path) -> list[tuple[float, float]]:
    """Read with eight processes at once; return the memory of each in MB after `LONG` passes and after one."""
    command = [sys.executable, "-m", "benchmarks.reading", "--data", str(data)]
    ranks = [
        subprocess.Popen([*command, "--rank", str(rank)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for rank in range(NUM_RANKS)
    ]
    answers = [rank.communicate()[0].split() for rank in ranks]
    return [(float(long_mb), float(one_mb)) for one_mb, long_mb in answers]


def print_memory(data: Path, rank: int) -> None:
    """Be one of eight: read once, then again and again; print the most memory so far in MB after both."""
    for passes in (1, LONG - 1):
        read_batches(data, rank, NUM_RANKS, passes)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(tries: int) -> list[Row]:
    """Return row 6."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        data = write_shards(Path(name) / "data", NUM_CLIPS)
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        read_raw(data, 1), read_batches(data, 0, 1, 1)
        alone = alternate(lambda: read_batches(data, 0, 1, PASSES), lambda: read_raw(data, PASSES), tries)
        os.sched_setaffinity(0, cores)
        memory = memory_of_eight(data)
        steps = launch(data, Path(name) / "run", NUM_STEPS, devices=NUM_RANKS)
    rates = [(1 / ours, 1 / raw) for ours, raw in alone]
    return [
        Row("6a", "clips/s a core, shuffled, in percent of the page cache's speed", [100 * a / b for a, b in rates], None,
            unit="%", **both(rates, "clips/s")),
        Row("6b", f"waiting for data, the rank that waits longest of eight, of a full-size step ({GLOBAL_BATCH} clips)",
            steps.data_shares, 2, is_at_most=True, unit="%"),
        Row("6c", f"memory of eight ranks after {LONG} passes, of that after one", [many / one for many, one in memory], 1.1,
            is_at_most=True, **both(memory, "MB")),
    ]  # fmt: skip


@click.command()
@click.option("--tries", default=3)
@click.option("--data", type=click.Path(path_type=Path), hidden=True)
@click.option("--rank", default=0, hidden=True)
def main(tries: int, data: Path | None, rank: int) -> None:
    """Measure reading."""
    if data is not None:
        print_memory(data, rank)
        return
    report(measure(tries), " ".join(["python -m benchmarks.reading", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
