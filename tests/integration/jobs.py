"""What the integration tests share: the command, a network that is quick to train, and a look at processes and weights."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

TINY = [
    *("--set", "model.channels=[4, 4, 6, 8]", "--set", "model.pools=[[2, 2], [2, 2], [2, 2]]"),
    *("--set", "mel.n_mels=24", "--set", "train.global_batch=8", "--set", "evaluate.batch=4"),
]
NUM_TAGS = 3
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment() -> dict[str, str]:
    """Return an environment in which the command is found from any folder."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": root, "COLUMNS": "200"}


def processes_of(run_dir: Path) -> list[psutil.Process]:
    """Return the living processes whose command line names the run directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if str(run_dir) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_for(condition: Callable[[], object], limit_s: float, what: str) -> None:
    """Poll until `condition` holds; fail after `limit_s`."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        time.sleep(0.02)


def load_weights(run_dir: Path) -> dict[str, np.ndarray]:
    """Return the weights of a run's latest checkpoint."""
    from fcn4dist.train.checkpoint import named, read_parameters

    folder = named(run_dir / "checkpoints", "latest")
    assert folder is not None
    file = next(path for path in folder.iterdir() if path.name.startswith("weights"))
    return {name: parameter.asnumpy() for name, parameter in read_parameters(file).items()}
