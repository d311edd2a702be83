"""The real command as a side: random clips as a data set, `fcn4dist launch` on them, and what its ranks recorded of each step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.steppers import ROOT

GLOBAL_BATCH = 16
WRITE_SHARDS = """
import sys
from pathlib import Path
import numpy as np
from fcn4dist.data.shards import Row, RowFormat, write_shard
folder, frames, num_train, num_val = Path(sys.argv[1]), *map(int, sys.argv[2:])
rng = np.random.default_rng(0)
form = RowFormat((1, 96, frames), "float32", 50)
for part, size in (("train", num_train), ("val", num_val)):
    names = [f"{part}.mindrecord{i}" for i in range(2)] if size else []
    for first, name in enumerate(names):
        rows = [
            Row(i, rng.normal(-30, 10, form.feature_shape).astype("f"), (rng.random(50) < 0.1).astype("i"))
            for i in range(first, size, 2)
        ]
        write_shard(folder / name, rows, len(rows), form, names)
"""


@dataclass(frozen=True)
class LaunchedSteps:
    """What the records of a launched job's ranks say of its steps but the first, which compiles."""

    step_s: list[float]  # rank 0's, as all below but the next
    data_wait_s: list[float]  # of the rank that waited longest
    checkpoint_wait_s: list[float]

    @property
    def data_shares(self) -> list[float]:
        """The share of each step that waits for data, in percent."""
        return [100 * wait_s / step_s for wait_s, step_s in zip(self.data_wait_s, self.step_s, strict=True)]


def write_shards(folder: Path, num_clips: int, frames: int = 1366, *, num_val: int = 0) -> Path:
    """Write random clips as a data set without a manifest, which `launch` takes as ModelZoo's.

    Without val clips a job does not score at its end.
    """
    folder.mkdir()
    command = [sys.executable, "-c", WRITE_SHARDS, str(folder), str(frames), str(num_clips), str(num_val)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "GLOG_v": "3"})
    return folder


def settings_of(num_steps: int, *settings: str) -> list[str]:
    """Return the `--set` values of a job of `num_steps` full-size steps; `settings` come last and so count."""
    limits = [f"train.global_batch={GLOBAL_BATCH}", "train.epochs=1000", f"train.max_steps={num_steps}"]
    return ["mel.clip_s=29.12", *limits, *settings]


def launch(data: Path, run: Path, num_steps: int, *settings: str, devices: int = 2) -> LaunchedSteps:
    """Train `num_steps` steps with the real command and return what its ranks recorded."""
    command = [sys.executable, "-m", "fcn4dist", "launch", "-q", "--devices", str(devices), "--device-target", "CPU"]
    command += ["--data", str(data), "--run-dir", str(run)]
    for setting in settings_of(num_steps, *settings):
        command += ["--set", setting]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return read_steps(run / "metrics", devices)


def read_steps(metrics: Path, num_ranks: int) -> LaunchedSteps:
    """Return what the ranks of a run recorded in rank-R.jsonl."""
    ranks = [
        [json.loads(line) for line in (metrics / f"rank-{rank}.jsonl").read_text().splitlines()][1:]
        for rank in range(num_ranks)
    ]
    chief = ranks[0]
    return LaunchedSteps(
        [record["step_s"] for record in chief],
        [max(record["data_wait_s"] for record in step) for step in zip(*ranks, strict=True)],
        [record["checkpoint_wait_s"] for record in chief],
    )
