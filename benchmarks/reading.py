"""Row 6: reading shards in a random order, against reading the same files from end to end.

    python -m benchmarks.reading

Everything comes from the page cache on both sides: what is measured is the work a core has with a sample, not the disk. Eight
ranks at once are set against eight processes that each read the same files from end to end at once, on the same cores.
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
from benchmarks.training import write_shards

NUM_CLIPS, NUM_RANKS = 512, 8
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


def row_of(number: str, what: str, seconds: list[tuple[float, float]]) -> Row:
    """Return the row of tries that took `seconds` a clip: ours and raw reading's."""
    rates = [(1 / ours, 1 / raw) for ours, raw in seconds]
    return Row(number, what, [100 * ours / raw for ours, raw in rates], 50, unit="%", **both(rates, "clips/s"))


def measure(tries: int) -> list[Row]:
    """Return row 6."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        data = write_shards(Path(name) / "data", NUM_CLIPS)
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        read_raw(data, 1), read_batches(data, 0, 1, 1)
        alone = alternate(lambda: read_batches(data, 0, 1, PASSES), lambda: read_raw(data, PASSES), tries)
        os.sched_setaffinity(0, cores)
        together = alternate(
            lambda: eight_at_once("ours", data, PASSES)[0], lambda: eight_at_once("raw", data, PASSES)[0], tries
        )
        memory = alternate(lambda: eight_at_once("ours", data, 4)[1], lambda: eight_at_once("ours", data, 1)[1], tries)
    return [
        row_of("6a", "reading shards on one core, shuffled", alone),
        row_of("6b", "eight ranks at once on all cores, of eight raw readers at once on them", together),
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
