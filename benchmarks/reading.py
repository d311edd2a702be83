"""Row 6: reading shards in a random order, against reading the same files from end to end.

    python -m benchmarks.reading

Everything comes from the page cache on both sides: what is measured is the work a core has with a sample, not the disk.
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

from benchmarks.side_by_side import Row, alternate, both, report
from benchmarks.steppers import ROOT
from benchmarks.training import write_shards

NUM_CLIPS, NUM_RANKS = 512, 8
BYTES_A_CLIP = 4 * 96 * 1366


def read_batches(data: Path, rank: int, world_size: int, passes: int) -> float:
    """Read a rank's clips in batches of 8, as training does, and return the seconds a clip."""
    from fcn4dist.data.batches import open_split
    from fcn4dist.data.order import epoch_order

    split = open_split(data, "train")
    start, count = time.perf_counter(), 0
    for epoch in range(passes):
        for batch in split.iter_batches(epoch_order(split.num_clips, 1, epoch)[rank::world_size], 8):
            count += len(batch.clip_ids)
    return (time.perf_counter() - start) / count


def read_raw(data: Path) -> float:
    """Read the shards in pieces of 1 MB and return the seconds a clip."""
    start, total = time.perf_counter(), 0
    piece = bytearray(1 << 20)
    for file in sorted(data.glob("train.mindrecord?")):
        with file.open("rb", buffering=0) as stream:
            while num_read := stream.readinto(piece):
                total += num_read
    return (time.perf_counter() - start) / (total / BYTES_A_CLIP)


def eight_ranks(data: Path, passes: int) -> tuple[float, float]:
    """Read with eight processes at once; return the seconds a clip of the whole and the highest memory of one in MB."""
    command = [sys.executable, "-m", "benchmarks.reading", "--data", str(data), "--passes", str(passes)]
    ranks = [
        subprocess.Popen([*command, "--rank", str(rank)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for rank in range(NUM_RANKS)
    ]
    answers = [rank.communicate()[0].split() for rank in ranks]
    return max(float(seconds) for seconds, _ in answers) / NUM_RANKS, max(float(memory) for _, memory in answers)


def measure(tries: int) -> list[Row]:
    """Return row 6."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        data = write_shards(Path(name) / "data", NUM_CLIPS)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        read_raw(data), read_batches(data, 0, 1, 1)
        pairs = alternate(lambda: read_batches(data, 0, 1, 1), lambda: read_raw(data), tries)
        rates = [(1 / our, 1 / raw) for our, raw in pairs]
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        together = [eight_ranks(data, 1) for _ in range(tries)]
        long = [eight_ranks(data, 4)[1] for _ in range(1)]
    growth = [long[0] / memory for _, memory in together]
    raw_s = sorted(raw for _, raw in pairs)[len(pairs) // 2]
    return [
        Row("6a", "reading shards on one core, shuffled", [100 * our / raw for our, raw in rates], 50, unit="%",
            **both(rates, "clips/s")),
        Row("6b", "eight ranks at once on all cores, of raw on one", [100 * raw_s / seconds for seconds, _ in together], 50,
            unit="%",
            ours=f"{1 / together[0][0]:.0f} clips/s"),
        Row("6c", "memory of a rank after four passes, of that after one", growth, 1.1, is_at_most=True,
            ours=f"{long[0]:.0f} MB", against=f"{together[0][1]:.0f} MB"),
    ]  # fmt: skip


@click.command()
@click.option("--tries", default=3)
@click.option("--data", type=click.Path(path_type=Path), hidden=True)
@click.option("--rank", default=0, hidden=True)
@click.option("--passes", default=1, hidden=True)
def main(tries: int, data: Path | None, rank: int, passes: int) -> None:
    """Measure reading."""
    if data is not None:
        seconds = read_batches(data, rank, NUM_RANKS, passes)
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    report(measure(tries), " ".join(["python -m benchmarks.reading", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
