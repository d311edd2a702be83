"""Row 14: the scores of a validation part by full-width FCN-4, with two ranks, against PyTorch and onnxruntime on both cores.

    python -m benchmarks.scoring

Ours are two ranks of a job, which read the shards, score and gather as at the end of an epoch. The others have the same clips in
memory: onnxruntime with the file that `fcn4dist export` wrote, PyTorch with the same weights in channels_last and inference mode,
each one process with a thread a core. Both take the batch that is the fastest here. All scores must agree.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.launching import launch, write_shards
from benchmarks.side_by_side import Row, both, report
from benchmarks.steppers import CHANNELS, NUM_TAGS, POOLS, ROOT, join_job_if_any, ranks_of_job, step_together
from benchmarks.training import steppers

NUM_CLIPS = 32  # a forward pass of each of our ranks
BATCHES = (1, 4, 16)  # of which the others choose
TOLERANCE = 1e-5  # of a score; `export` asks for the same
OTHERS = {"a": "PyTorch", "b": "onnxruntime"}
Scorer = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def make_files(folder: Path) -> None:
    """Write data/, run/ with a checkpoint after one step, model.onnx, weights.npz and clips.npy into `folder`."""
    data = write_shards(folder / "data", 16, num_val=NUM_CLIPS)
    launch(data, folder / "run", 1, "evaluate.split=train", "evaluate.num_resamples=0")
    command = [sys.executable, "-m", "fcn4dist", "export", str(folder / "run"), "--output", str(folder / "model.onnx")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(save_arrays, folder).result()


def save_arrays(folder: Path) -> None:
    """Write the validation clips by ascending id, as scores are, and the weights; in a process of its own: it loads MindSpore."""
    from fcn4dist.config import RunConfig
    from fcn4dist.data.dataset import open_dataset
    from fcn4dist.export.weights import read_weights
    from fcn4dist.model.trained import open_model
    from fcn4dist.train.device import start_device

    start_device("CPU", 0)
    split = open_dataset(folder / "data").split("val")
    np.save(folder / "clips.npy", split.read(np.argsort(split.clip_ids)))
    np.savez(folder / "weights.npz", **read_weights(open_model(folder / "run", RunConfig()).build_network()))


def build_ours(folder: str, _batch: int) -> Callable[[], object]:
    """A rank that scores its part of the clips and gathers the others' scores."""
    rank = join_job_if_any()
    from fcn4dist.config import RunConfig
    from fcn4dist.data.dataset import open_dataset
    from fcn4dist.evaluate.score import score_split
    from fcn4dist.model.trained import open_model
    from fcn4dist.train.collectives import gather_rows

    config = RunConfig()
    split = open_dataset(Path(folder) / "data").split("val")
    network = open_model(Path(folder) / "run", config).build_network()

    def score() -> None:
        scores = score_split(network, split, config.evaluate.batch, rank, gather_rows)
        if rank.is_chief:
            np.save(Path(folder) / "ours.npy", scores.scores)

    return score


def build_torch(folder: str, _batch: int) -> Callable[[], object]:
    """PyTorch's side."""
    import torch
    from torch import nn

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    layers: list[tuple[str, nn.Module]] = []
    for i, (source, channels, pool) in enumerate(zip((1, *CHANNELS), CHANNELS, (*POOLS, None), strict=False), 1):
        layers += [(f"conv{i}", nn.Conv2d(source, channels, 3, padding=1, bias=False))]
        layers += [(f"bn{i}", nn.BatchNorm2d(channels)), (f"relu{i}", nn.ReLU(inplace=True))]
        layers += [(f"pool{i}", nn.MaxPool2d(pool) if pool else nn.AdaptiveMaxPool2d(1))]
    layers += [("flat", nn.Flatten()), ("dense", nn.Linear(CHANNELS[-1], NUM_TAGS)), ("sigmoid", nn.Sigmoid())]
    network = nn.Sequential()
    for name, layer in layers:
        network.add_module(name, layer)
    with np.load(Path(folder) / "weights.npz") as weights:  # all but the batch norms' counters of steps
        network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights}, strict=False)
    network = network.eval().to(memory_format=torch.channels_last)

    def score(mel_db: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            scores: NDArray[np.float32] = network(
                torch.from_numpy(mel_db).to(memory_format=torch.channels_last)
            ).numpy()
        return scores

    return in_best_batches(score, Path(folder), "PyTorch")


def build_onnx(folder: str, _batch: int) -> Callable[[], object]:
    """The side of onnxruntime, with its defaults."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(Path(folder) / "model.onnx"), providers=["CPUExecutionProvider"])
    return in_best_batches(lambda mel_db: session.run(["scores"], {"mel_db": mel_db})[0], Path(folder), "onnxruntime")


def in_best_batches(score: Scorer, folder: Path, name: str) -> Callable[[], object]:
    """Return what scores all clips in the batch that is the fastest on the first 16 of them, and keeps the scores."""
    clips = np.load(folder / "clips.npy")

    def score_all(batch: int, of: NDArray[np.float32] = clips) -> NDArray[np.float32]:
        return np.concatenate([score(of[first : first + batch]) for first in range(0, len(of), batch)])

    def seconds(batch: int) -> float:
        score(clips[:batch])  # what a first pass does once
        start = time.perf_counter()
        score_all(batch, clips[: max(BATCHES)])
        return time.perf_counter() - start

    best = min(BATCHES, key=seconds)
    click.echo(f"  {name}: batches of {best}", err=True)
    return lambda: np.save(folder / f"{name}.npy", score_all(best))


def measure(tries: int) -> list[Row]:
    """Return row 14."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    rates: dict[str, list[float]] = {"ours": [], **{name: [] for name in OTHERS.values()}}
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        make_files(folder)
        here = "benchmarks.scoring:{}:" + temporary
        planned = {
            "ours": ranks_of_job(here.format("build_ours"), 1, cores),
            "PyTorch": steppers((here.format("build_torch"), cores, 1)),
            "onnxruntime": steppers((here.format("build_onnx"), cores, 1)),
        }
        with contextlib.ExitStack() as started:
            sides = {}
            for name, side in planned.items():
                sides[name] = started.enter_context(side)
                for stepper in sides[name]:
                    stepper.wait_ready()  # the next one looks for its best batch undisturbed
            for attempt in range(tries):
                for name in list(sides)[:: -1 if attempt % 2 else 1]:
                    rates[name].append(NUM_CLIPS / step_together(sides[name]))
        scores = {name: np.load(folder / f"{name}.npy") for name in rates}
    return rows_of(rates, scores)


def rows_of(rates: dict[str, list[float]], scores: dict[str, NDArray[Any]]) -> list[Row]:
    """Turn clips/s and scores (clips, tags) of each side into rows."""
    rows = []
    for letter, name in OTHERS.items():
        pairs = list(zip(rates["ours"], rates[name], strict=True))
        figures = [our / their for our, their in pairs]
        what = f"scoring {len(scores['ours'])} validation clips, 2 ranks, against {name}"
        rows.append(Row(f"14{letter}", what, figures, None, **both(pairs, "clips/s")))
    apart = max(float(np.abs(scores["ours"] - scores[name]).max()) for name in OTHERS.values())
    return [
        *rows,
        Row("14c", "largest difference of a score from theirs", [apart], TOLERANCE, is_at_most=True, unit=""),
    ]


@click.command()
@click.option("--tries", default=3)
def main(tries: int) -> None:
    """Measure the scoring of a validation part."""
    report(measure(tries), " ".join(["python -m benchmarks.scoring", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
