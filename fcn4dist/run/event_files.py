"""RUN/tensorboard: TensorBoard's event files, written from RUN/metrics while the run goes on, or after it.

A resumed run takes steps back from its metrics; then everything is written anew into a file that begins with the event
by which TensorBoard forgets the steps it has seen. The package `tensorboard` is the extra `[tensorboard]`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fcn4dist.errors import ConfigError
from fcn4dist.run.folder import RunDir

logger = logging.getLogger(__name__)

POLL_S = 1.0
PREFIX = "events.out.tfevents"  # TensorBoard looks for files of this name
STEP_SCALARS = {
    "loss": "train/loss",
    "lr": "train/lr",
    "loss_scale": "train/loss_scale",
    "num_overflows": "train/overflows",
    "epoch": "train/epoch",
    "samples_per_s": "speed/samples_per_s",
    "step_s": "speed/step_s",
    "data_wait_s": "speed/data_wait_s",
}
EVALUATION_SCALARS = {"roc_auc_macro": "validation/roc_auc_macro", "pr_auc_macro": "validation/pr_auc_macro"}


def require_tensorboard() -> None:
    """Raise ConfigError where the package is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "launch.tensorboard: the package tensorboard is not installed; expected: pip install 'fcn4dist[tensorboard]'"
        )


class GrowingLines:
    """The JSON objects of a file that grows by whole lines, and may be replaced by a shorter one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._end = -1, 0

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the lines since the last call, and whether the file is another one, whose lines begin anew."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                is_other = self._end > 0 and (status.st_ino != self._inode or status.st_size < self._end)
                file.seek(0 if is_other else self._end)
                content = file.read()
                start = 0 if is_other else self._end
        except FileNotFoundError:
            return [], False
        whole = content[: content.rfind(b"\n") + 1]
        self._inode, self._end = status.st_ino, start + len(whole)
        return [json.loads(line) for line in whole.splitlines()], is_other


class EventFile:
    """One event file."""

    def __init__(self, folder: Path, number: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{PREFIX}.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{number}"
        self._file = self.path.open("wb")
        self._records = RecordWriter(self._file)
        self._event_type = Event
        now = time.time()
        self._records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        start = SessionLog(status=SessionLog.START)  # forget steps from 0 on
        self._records.write(Event(wall_time=now, step=0, session_log=start).SerializeToString())

    def add(self, step: int, wall_time: float, scalars: Mapping[str, float]) -> None:
        """Append the scalars of a step; `wall_time` in seconds since 1970."""
        event = self._event_type(wall_time=wall_time, step=step)
        for tag, value in scalars.items():
            event.summary.value.add(tag=tag, simple_value=value)
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        """Let readers see what was added."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class EventFiles:
    """RUN/tensorboard, brought up to date by every `poll`; only one at a time may write there."""

    def __init__(self, run: RunDir) -> None:
        self.folder = run.tensorboard
        self._steps_file, self._evaluations_file = run.metrics(0), run.evaluations
        self._number = 0
        self._start_over()

    def _start_over(self) -> None:
        self._steps, self._evaluations = GrowingLines(self._steps_file), GrowingLines(self._evaluations_file)
        self._file = EventFile(self.folder, self._number)
        self._number += 1

    def poll(self) -> int:
        """Write what is new and return how many steps and evaluations that are. Raises OSError."""
        steps, is_other = self._steps.read()
        evaluations, is_also_other = self._evaluations.read()
        if is_other or is_also_other:
            self._file.close()
            self._start_over()
            return self.poll()
        times = step_times(steps, time.time(), {line["step"]: line["time"] for line in evaluations})
        for line, wall_time in zip(steps, times, strict=True):
            self._file.add(line["step"], wall_time, _scalars(line, STEP_SCALARS))
        for line in evaluations:
            self._file.add(line["step"], line["time"], _scalars(line, EVALUATION_SCALARS))
        self._file.flush()
        for old in self.folder.glob(f"{PREFIX}.*"):
            if old != self._file.path and old.stat().st_size:
                os.truncate(
                    old, 0
                )  # all of it is in the new file; a TensorBoard that reads it would stop if it were gone
        return len(steps) + len(evaluations)

    def close(self) -> None:
        """Close the file that is being written."""
        self._file.close()


def step_times(steps: Sequence[Mapping[str, Any]], newest_s: float, evaluated_s: Mapping[int, float]) -> list[float]:
    """Return when each step ended, which its record does not say: backwards from `newest_s` by what the steps took.

    `evaluated_s`: step -> when its evaluation was done, which bounds it.
    """
    times, end_s = [], newest_s
    for line in reversed(steps):
        end_s = min(end_s, evaluated_s.get(line["step"], end_s))
        times.append(end_s)
        end_s -= line["step_s"] + (line["checkpoint_wait_s"] or 0.0)
    return times[::-1]


def _scalars(line: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """Return tag -> value; what is none (the loss of an overflow) has no point."""
    return {tag: float(line[key]) for key, tag in names.items() if line.get(key) is not None}


@contextlib.contextmanager
def event_files(run: RunDir, *, is_wanted: bool) -> Iterator[None]:
    """Keep RUN/tensorboard up to date for this block, if it is wanted; a disk that refuses costs a warning only."""
    if not is_wanted:
        yield
        return
    is_over = threading.Event()
    follower = threading.Thread(target=_follow, args=(run, is_over), name="tensorboard", daemon=True)
    follower.start()
    try:
        yield
    finally:
        is_over.set()
        follower.join()


def _follow(run: RunDir, is_over: threading.Event) -> None:
    try:
        with contextlib.closing(EventFiles(run)) as files:
            while not is_over.wait(POLL_S):
                files.poll()
            files.poll()
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s: cannot be written, the run goes on without it: %s", run.tensorboard, error)


def convert_run(run: RunDir) -> int:
    """Write RUN/tensorboard from RUN/metrics and return the number of steps and evaluations; nobody else may write there.

    Raises ConfigError where there are no metrics, or the folder cannot be written.
    """
    require_tensorboard()
    if not run.metrics(0).is_file():
        raise ConfigError(f"{run.path}: not a run that has trained: no metrics/{run.metrics(0).name}")
    try:
        with contextlib.closing(EventFiles(run)) as files:
            return files.poll()
    except OSError as error:
        raise ConfigError(f"{run.tensorboard}: cannot be written: {error.strerror or error}") from None
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{run.metrics(0).parent}: damaged: {error}") from None
