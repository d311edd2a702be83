"""Rows 1 to 5: the training step of full-width FCN-4 on two cores, 96 x 1366, float32, global batch 16.

    python -m benchmarks.training [--quick]

Ours is the real command, `fcn4dist launch --devices 2`; its own records say how long steps took. The others are processes that
make a step when told to (benchmarks/steppers.py), so that both sides can take turns in one run.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.side_by_side import Row, number, report
from benchmarks.steppers import ROOT, Stepper
from fcn4dist.job.ports import choose_port

GLOBAL_BATCH, RANK_BATCH = 16, 8
GFLOP_PER_CLIP = 59.8  # 2 x multiplications of the convolutions, three passes; the first convolution has two
TORCH_KINDS = [
    *("torch-nchw", "torch-nhwc", "torch-nchw-compiled", "torch-nhwc-compiled"),
    *("torch-nchw-ddp", "torch-nhwc-ddp", "torch-nchw-compiled-ddp", "torch-nhwc-compiled-ddp"),
]
WRITE_SHARDS = """
import sys
from pathlib import Path
import numpy as np
from fcn4dist.data.shards import Row, RowFormat, write_shard
folder, num_clips, frames = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
form = RowFormat((1, 96, frames), "float32", 50)
for part, size in (("train", num_clips), ("val", 2)):
    names = [f"{part}.mindrecord{i}" for i in range(2)]
    for first, name in enumerate(names):
        rows = [
            Row(i, rng.normal(-30, 10, form.feature_shape).astype("f"), (rng.random(50) < 0.1).astype("i"))
            for i in range(first, size, 2)
        ]
        write_shard(folder / name, rows, len(rows), form, names)
"""
MATMUL = """
import os, sys, time
import numpy as np
a = np.random.rand(4096, 4096).astype("f")
best = min(-time.perf_counter() + (a @ a, time.perf_counter())[1] for _ in range(4))
print(2 * 4096**3 / best / 1e9)
"""


@dataclass(frozen=True)
class LaunchedSteps:
    """What the records of a launched job's rank 0 say; the first step, which compiles, is left out."""

    step_s: list[float]
    data_wait_s: list[float]
    checkpoint_wait_s: list[float]


def write_shards(folder: Path, num_clips: int, frames: int = 1366) -> Path:
    """Write random clips as a data set without a manifest, which `launch` takes as ModelZoo's."""
    folder.mkdir()
    command = [sys.executable, "-c", WRITE_SHARDS, str(folder), str(num_clips), str(frames)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "GLOG_v": "3"})
    return folder


def launch(data: Path, run: Path, num_steps: int, *settings: str, devices: int = 2) -> LaunchedSteps:
    """Train `num_steps` steps with the real command and return what rank 0 recorded."""
    command = [sys.executable, "-m", "fcn4dist", "launch", "-q", "--devices", str(devices), "--device-target", "CPU"]
    command += ["--data", str(data), "--run-dir", str(run)]
    chosen = [
        "mel.clip_s=29.12",
        f"train.global_batch={GLOBAL_BATCH}",
        "train.epochs=1000",
        f"train.max_steps={num_steps}",
        *settings,
    ]
    chosen += ["evaluate.every_epochs=1000000", "evaluate.num_resamples=0", "evaluate.split=test"]
    for setting in chosen:
        command += ["--set", setting]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    records = read_records(run / "metrics" / "rank-0.jsonl")
    step_s, data_wait_s, checkpoint_wait_s = (
        [record[name] for record in records] for name in ("step_s", "data_wait_s", "checkpoint_wait_s")
    )
    return LaunchedSteps(step_s, data_wait_s, checkpoint_wait_s)


def read_records(file: Path) -> list[dict[str, float]]:
    """Return the records of a rank but the first."""
    return [json.loads(line) for line in file.read_text().splitlines()][1:]


def share_of_step(parts: list[float], steps: list[float]) -> float:
    """Return the median share of a step that a part of it takes, in percent."""
    return 100 * statistics.median(part / step for part, step in zip(parts, steps, strict=True))


@contextlib.contextmanager
def steppers(*planned: tuple[str, list[int], int]) -> Iterator[list[Stepper]]:
    """Start processes of (kind, cores, batch), ready to step; end them."""
    started = [Stepper.start(kind, batch, cores) for kind, cores, batch in planned]
    try:
        yield [stepper.wait_ready() for stepper in started]
    finally:
        for stepper in started:
            stepper.end()


@contextlib.contextmanager
def torch_job(kind: str, cores: list[int]) -> Iterator[list[Stepper]]:
    """Start PyTorch's side, one process on both cores or a DDP rank on each, ready to step; end it."""
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(choose_port()), "WORLD_SIZE": "2"}
    if "ddp" in kind:
        ranks = [Stepper.start(kind, RANK_BATCH, [core], {**job, "RANK": str(i)}) for i, core in enumerate(cores)]
    else:
        ranks = [Stepper.start(kind, GLOBAL_BATCH, cores)]
    try:
        yield [rank.wait_ready() for rank in ranks]
    finally:
        for rank in ranks:
            rank.end()


@contextlib.contextmanager
def reduce_job(cores: list[int]) -> Iterator[list[Stepper]]:
    """Start a rank on each of `cores` that makes the AllReduce of a step, and nothing else, when told to; end them."""
    job = {"MS_WORKER_NUM": str(len(cores)), "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(choose_port())}
    scheduler = Stepper.start("reduce", RANK_BATCH, cores, {**job, "MS_ROLE": "MS_SCHED"})
    ranks = [
        Stepper.start("reduce", RANK_BATCH, [core], {**job, "MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(i)})
        for i, core in enumerate(cores)
    ]
    try:
        yield [rank.wait_ready() for rank in ranks]
    finally:
        for process in (*ranks, scheduler):  # at their own end they would wait for each other
            process.kill()


def step_together(side: list[Stepper]) -> float:
    """Make one step with all processes of a side and return the longest."""
    for stepper in side:
        stepper.ask()
    return max(stepper.answer() for stepper in side)


def best_torch(cores: list[int], kinds: list[str]) -> tuple[str, dict[str, float]]:
    """Return PyTorch's fastest way here and the seconds of a step of each."""
    seconds = {}
    for kind in kinds:
        with torch_job(kind, cores) as side:
            seconds[kind] = min(step_together(side) for _ in range(2))
        click.echo(f"  {kind}: {GLOBAL_BATCH / seconds[kind]:.2f} clips/s", err=True)
    return min(seconds, key=lambda kind: seconds[kind]), seconds


def measure_matmul(cores: list[int]) -> float:
    """Return GFLOP/s of NumPy's float32 matrix product on `cores`."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(len(cores)), "OMP_NUM_THREADS": str(len(cores))}
    command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-c", MATMUL]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@dataclass(frozen=True)
class Try:
    """The seconds of a step of each side, measured one after the other."""

    ours: float
    data_share: float  # percent of a step
    reduce_s: float  # the AllReduce alone
    torch: float
    plain: float
    single: float  # one rank, one core, batch 8
    matmul: float  # GFLOP/s


def measure(tries: int, kinds: list[str], *, quick: bool) -> list[Row]:
    """Return rows 1 to 5."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    rounds: list[Try] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as waiting:
        data = write_shards(Path(name) / "data", 32)
        best, _ = (kinds[0], {}) if len(kinds) == 1 else best_torch(cores, kinds)
        torch_side = waiting.enter_context(torch_job(best, cores))
        reduce_side = waiting.enter_context(reduce_job(cores))
        planned = [("ours", cores[:1], RANK_BATCH)]
        if not quick:
            planned.append(("plain", cores, GLOBAL_BATCH))
        with steppers(*planned) as (one, *plain):
            for attempt in range(tries):
                ours = launch(data, Path(name) / f"run-{attempt}", 2 if quick else 6)
                rounds.append(
                    Try(
                        ours=statistics.median(ours.step_s),
                        data_share=share_of_step(ours.data_wait_s, ours.step_s),
                        reduce_s=statistics.median(step_together(reduce_side) for _ in range(5)),
                        torch=step_together(torch_side),
                        plain=plain[0].step() if plain else float("nan"),
                        single=one.step(),
                        matmul=float("nan") if quick else measure_matmul(cores),
                    )
                )
                click.echo(f"  {rounds[-1]}", err=True)
    return rows_of(rounds, best, quick=quick)


def rows_of(rounds: list[Try], best: str, *, quick: bool) -> list[Row]:
    """Turn the tries into rows."""

    def rate(seconds: list[float], batch: int = GLOBAL_BATCH) -> str:
        return f"{number(batch / statistics.median(seconds))} clips/s"

    mine = rate([r.ours for r in rounds])
    rows = [
        Row("1", "training, 2 ranks", [r.torch / r.ours for r in rounds], 1.2, False, "x", mine,
            f"PyTorch ({best.removeprefix('torch-')}) {rate([r.torch for r in rounds])}"),
        Row("4", "2 ranks against 1, batch 8 a rank", [2 * r.single / r.ours for r in rounds], 1.8, False, "x", mine,
            f"1 rank on 1 core {rate([r.single for r in rounds], RANK_BATCH)}"),
        Row("5a", "share of a step that waits for data", [r.data_share for r in rounds], 2, True, "%"),
        Row("5b", "the allreduce of a step, 69.5 MB, alone; of a step of batch 8 a rank",
            [100 * r.reduce_s / r.ours for r in rounds], 6, True, "%",
            f"{number(statistics.median(r.reduce_s for r in rounds))} s",
            f"a step of {number(statistics.median(r.ours for r in rounds))} s"),
    ]  # fmt: skip
    if not quick:
        shares = [100 * GLOBAL_BATCH * GFLOP_PER_CLIP / r.ours / r.matmul for r in rounds]
        rows += [
            Row("2a", "training, 2 ranks", [r.plain / r.ours for r in rounds], 1.25, False, "x", mine,
                f"plain recipe {rate([r.plain for r in rounds])}"),
            Row("3", "share of the best float32 matrix product", shares, 72, False, "%",
                f"{number(statistics.median(GLOBAL_BATCH * GFLOP_PER_CLIP / r.ours for r in rounds))} GFLOP/s",
                f"{number(statistics.median(r.matmul for r in rounds))} GFLOP/s"),
        ]  # fmt: skip
    return rows


def measure_memory() -> Row:
    """Return row 2b: what one more clip of a batch costs in peak memory."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    a_clip = {}
    for kind in ("ours", "plain"):
        peaks = {}
        for batch in (4, 8):
            with steppers((kind, cores, batch)) as (stepper,):
                stepper.step()
                peaks[batch] = stepper.peak_mb
        a_clip[kind] = (peaks[8] - peaks[4]) / 4
    ours, plain = a_clip["ours"], a_clip["plain"]
    return Row("2b", "memory a clip", [ours / plain], 0.75, True, "x", f"{ours:.0f} MB", f"plain recipe {plain:.0f} MB")


def measure_bf16() -> Row:
    """Return the row without a bar: PyTorch in bfloat16, which MindSpore's convolutions do not have on CPU."""
    kind = "torch-nhwc-bf16"
    _, seconds = best_torch(sorted(os.sched_getaffinity(0))[:2], [kind, "torch-nhwc-bf16-compiled"])
    rate = GLOBAL_BATCH / min(seconds.values())
    return Row("1b", "PyTorch in bfloat16, for reference", [rate], None, unit=" clips/s")


@click.command()
@click.option(
    "--quick",
    is_flag=True,
    help="Rows 1, 4 and 5 only, PyTorch in the form that won before; exit 1 under 0.85 of a bar.",
)
@click.option("--tries", default=3)
@click.option("--memory-only", is_flag=True, help="Row 2b only.")
@click.option("--against", multiple=True, help="Only this way of PyTorch, without rows 1b and 2b; may be given again.")
def main(quick: bool, tries: int, memory_only: bool, against: tuple[str, ...]) -> None:
    """Measure the training step."""
    command = " ".join(["python -m benchmarks.training", *sys.argv[1:]])
    if memory_only:
        rows = [measure_memory()]
    elif quick:
        rows = measure(tries, ["torch-nhwc-ddp"], quick=True)
    elif against:
        rows = measure(tries, list(against), quick=False)
    else:
        rows = [*measure(tries, TORCH_KINDS, quick=False), measure_memory(), measure_bf16()]
    report(rows, command, guard=quick)


if __name__ == "__main__":
    main()
