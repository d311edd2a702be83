"""Rows 8, 9 and 16: from the command to the first step, also of a resumed run, and from a rank's death to the end.

    python -m benchmarks.starting [--quick]

Rows 8 and 9 are against `msrun` with the same worker: both start the same training (`fcn4dist.train.loop.train`, two ranks, a
small network). The first step's own time, which is the compiler's, is taken off the start. Then rank 1 gets SIGKILL, and what
counts is when the command has ended and said so. Row 16 is what `launch --resume` takes more than a fresh start: it has the
checkpoint of a run of one step to find, to check and to load.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import psutil

from benchmarks.chaos_job import wait_for
from benchmarks.launching import write_shards
from benchmarks.side_by_side import Row, both, report
from benchmarks.steppers import ROOT
from fcn4dist.job.devices import needs_avx512_guard
from fcn4dist.job.ports import choose_port

SETTINGS = {
    "model.channels": "[4, 4, 6, 8]",
    "mel.clip_s": "6.0",
    "train.epochs": "100000",
    "train.global_batch": "4",
    "checkpoint.every_steps": "1000000",
}
FRAMES = 282  # of 6 s
LIMIT_S = 240.0
NUM_ENDS = 1  # tries that see the end, which msrun takes half a minute for


def launch_command(data: Path, run: Path, *more: str) -> list[str]:
    """Our way to start it; `more` are settings."""
    chosen = [*(f"{key}={value}" for key, value in SETTINGS.items()), *more]
    settings = [part for setting in chosen for part in ("--set", setting)]
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


def resume_command(run: Path) -> list[str]:
    """Go on with a run of one step."""
    return [sys.executable, "-m", "fcn4dist", "launch", "--resume", str(run), "--set", "train.max_steps=null"]


def make_run_of_one_step(data: Path, run: Path) -> Path:
    """Train one step, which leaves a checkpoint."""
    command = launch_command(data, run, "train.max_steps=1")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return run


def first_step(run: Path, number: int = 1) -> dict[str, float] | None:
    """Return rank 0's record of step `number`, the first of a start, once it is there."""
    try:
        record = json.loads((run / "metrics" / "rank-0.jsonl").read_text().splitlines()[number - 1])
        return dict(record) if record["step"] == number else None
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


def start_and_kill(command: list[str], run: Path, *, sees_end: bool, step: int = 1) -> tuple[float, float]:
    """Return the seconds to the first step without its compilation, and from SIGKILL of rank 1 to the command's end.

    Without `sees_end` all is killed at once, and the second figure means nothing. `step` is the first step's number.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    if needs_avx512_guard():
        environment.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    run.mkdir(exist_ok=True)
    begin = time.monotonic()
    with (run / "output.txt").open("w") as output:
        popen = psutil.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    started: list[psutil.Process] = []
    try:
        wait_for(lambda: first_step(run, step) is not None or popen.poll() is not None, "the first step", LIMIT_S)
        seen = time.monotonic()
        record = first_step(run, step)
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


def measure(tries: int, *, quick: bool) -> list[Row]:
    """Return row 8; and rows 9, for which msrun takes half a minute a try, and 16, unless it is to be `quick`."""
    starts, ends, resumed = [], [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        data = write_shards(folder / "data", 64, FRAMES)
        trained = None if quick else make_run_of_one_step(data, folder / "one-step")
        for attempt in range(tries):
            our_run, their_run, again = (folder / f"{side}-{attempt}" for side in ("ours", "msrun", "resumed"))
            sees_end = not quick and attempt < NUM_ENDS
            ours = start_and_kill(launch_command(data, our_run), our_run, sees_end=sees_end)
            theirs = start_and_kill(msrun_command(data, their_run), their_run, sees_end=sees_end)
            starts.append((ours[0], theirs[0]))
            if sees_end:
                ends.append((ours[1], theirs[1]))
            if trained is not None:
                shutil.copytree(trained, again)
                resumed.append((start_and_kill(resume_command(again), again, sees_end=False, step=2)[0], ours[0]))
            click.echo(f"  start {starts[-1]}, ends {ends}, resumed and fresh {resumed[-1:]}", err=True)
    return rows_of(starts, ends, resumed)


def rows_of(
    starts: list[tuple[float, float]], ends: list[tuple[float, float]], resumed: list[tuple[float, float]]
) -> list[Row]:
    """Turn the seconds of (ours, msrun's) starts and ends, and of (resumed, fresh) starts, into rows."""

    def row(number: str, what: str, pairs: list[tuple[float, float]], bar: float | None) -> list[Row]:
        figures = [ours / other for ours, other in pairs]
        return [Row(number, what, figures, bar, is_at_most=True, **both(pairs, "s"))] if pairs else []

    return [
        *row("8", "from command to first step, without compiling, against msrun", starts, 0.8),
        *row("9", "from a rank's SIGKILL to the end, against msrun", ends, 0.1),
        *row("16", "from `launch --resume` to its first step, without compiling, against a fresh start", resumed, None),
    ]


@click.command()
@click.option("--quick", is_flag=True, help="Row 8 only; exit 1 under 0.85 of a bar.")
@click.option("--tries", default=3)
def main(quick: bool, tries: int) -> None:
    """Measure the launcher."""
    report(measure(tries, quick=quick), " ".join(["python -m benchmarks.starting", *sys.argv[1:]]), guard=quick)


if __name__ == "__main__":
    main()
