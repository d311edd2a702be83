"""Rows 8 and 9: from the command to the first step, and from a rank's death to the end, against `msrun` with the same worker.

    python -m benchmarks.starting [--quick]

Both start the same training (`fcn4dist.train.loop.train`, two ranks, a small network). The first step's own time, which is the
compiler's, is taken off the start. Then rank 1 gets SIGKILL, and what counts is when the command has ended and said so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import psutil

from benchmarks.chaos_job import wait_for
from benchmarks.side_by_side import Row, both, report
from benchmarks.steppers import ROOT
from benchmarks.training import write_shards
from fcn4dist.job.devices import needs_avx512_guard
from fcn4dist.job.ports import choose_port

SETTINGS = {
    **{"model.channels": "[4, 4, 6, 8]", "mel.clip_s": "6.0", "evaluate.split": "test", "evaluate.num_resamples": "0"},
    **{
        "train.epochs": "100000",
        "train.global_batch": "4",
        "evaluate.every_epochs": "100000",
        "checkpoint.every_steps": "1000000",
    },
}
FRAMES = 282  # of 6 s
LIMIT_S = 240.0


def launch_command(data: Path, run: Path) -> list[str]:
    """Our way to start it."""
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    options = ["--devices", "2", "--device-target", "CPU", "--data", str(data), "--run-dir", str(run)]
    return [sys.executable, "-m", "fcn4dist", "launch", *options, *settings]


def msrun_command(data: Path, run: Path) -> list[str]:
    """MindSpore's way to start it."""
    port = choose_port()
    options = [
        "--worker_num=2",
        "--local_worker_num=2",
        f"--master_port={port}",
        "--join=True",
        f"--log_dir={run}/logs",
    ]
    worker = [str(ROOT / "benchmarks" / "msrun_worker.py"), str(data), str(run), json.dumps(SETTINGS)]
    return [str(Path(sys.executable).with_name("msrun")), *options, *worker]


def first_step(run: Path) -> dict[str, float] | None:
    """Return rank 0's record of its first step, once it is there."""
    try:
        line = (run / "metrics" / "rank-0.jsonl").read_text().splitlines()[0]
        return dict(json.loads(line))
    except (OSError, IndexError, ValueError):
        return None


def rank_one(parent: psutil.Process) -> psutil.Process:
    """Return the process of rank 1 among the command's children."""
    for process in parent.children(recursive=True):
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if (
            environment.get("MS_ROLE") == "MS_WORKER"
            and environment.get("RANK_ID") == "1"
            and "python" in process.name()
        ):
            return process
    raise click.ClickException("rank 1 is not among the processes of the command")


def start_and_kill(command: list[str], run: Path, *, sees_end: bool) -> tuple[float, float]:
    """Return the seconds to the first step without its compilation, and from SIGKILL of rank 1 to the command's end.

    Without `sees_end` all is killed at once, and the second figure means nothing.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    if needs_avx512_guard():
        environment.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    run.mkdir()
    begin = time.monotonic()
    with (run / "output.txt").open("w") as output:
        popen = psutil.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    started: list[psutil.Process] = []
    try:
        wait_for(lambda: first_step(run) is not None or popen.poll() is not None, "the first step", LIMIT_S)
        seen = time.monotonic()
        record = first_step(run)
        if record is None:
            raise click.ClickException(f"ended before the first step:\n{(run / 'output.txt').read_text()[-2000:]}")
        started = popen.children(recursive=True)
        killed = time.monotonic()
        if sees_end:
            rank_one(popen).send_signal(signal.SIGKILL)
            wait_for(lambda: popen.poll() is not None, "the end of the job", LIMIT_S)
        return seen - begin - record["step_s"], time.monotonic() - killed
    finally:
        for process in [*started, popen]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def measure(tries: int, *, sees_end: bool = True) -> list[Row]:
    """Return row 8, and row 9 too, for which msrun takes half a minute a try."""
    starts, ends = [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        data = write_shards(Path(name) / "data", 64, FRAMES)
        for attempt in range(tries):
            our_run, their_run = (Path(name) / f"{side}-{attempt}" for side in ("ours", "msrun"))
            ours = start_and_kill(launch_command(data, our_run), our_run, sees_end=sees_end)
            theirs = start_and_kill(msrun_command(data, their_run), their_run, sees_end=sees_end)
            starts.append((ours[0], theirs[0]))
            ends.append((ours[1], theirs[1]))
            click.echo(f"  start {starts[-1]}, end {ends[-1]}", err=True)
    start, end = ([our / their for our, their in pairs] for pairs in (starts, ends))
    row = Row("8", "from command to first step, without compiling", start, 0.8, is_at_most=True, **both(starts, "s"))
    if not sees_end:
        return [row]
    return [
        row,
        Row("9", "from a rank's SIGKILL to the end", end, 0.1, is_at_most=True, **both(ends, "s")),
    ]


@click.command()
@click.option("--quick", is_flag=True, help="Without row 9; exit 1 under 0.85 of a bar.")
@click.option("--tries", default=3)
def main(quick: bool, tries: int) -> None:
    """Measure the launcher."""
    report(measure(tries, sees_end=not quick), " ".join(["python -m benchmarks.starting", *sys.argv[1:]]), guard=quick)


if __name__ == "__main__":
    main()
