"""What the integration tests share: the command, a network that is quick to train, and a look at processes and weights."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil

from fcn4dist.cli.main import main

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


def run_here(*arguments: object, **_: object) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which has MindSpore loaded; ranks that it launches are processes all the same.

    No report is written at a run's end, which would be one process more.
    """
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code, command = 0, [*map(str, arguments)]
    root, loop = logging.getLogger(), logging.getLogger("fcn4dist.train")
    loggers = [(logger, [*logger.handlers], logger.level, logger.propagate) for logger in (root, loop)]
    root.handlers = []  # pytest's: with them the command would set up none of its own
    with contextlib.ExitStack() as meanwhile:
        meanwhile.enter_context(patch.dict(os.environ, environment()))
        meanwhile.enter_context(patch("fcn4dist.launch.endings.leave_report", lambda _: ""))
        meanwhile.enter_context(contextlib.redirect_stdout(stdout))
        meanwhile.enter_context(contextlib.redirect_stderr(stderr))
        try:
            main(command)
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            for logger, handlers, level, propagate in loggers:
                logger.handlers, logger.propagate = handlers, propagate
                logger.setLevel(level)
    said = (stream.buffer.getvalue().decode() for stream in (stdout, stderr))
    return subprocess.CompletedProcess(command, code, *said)


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
