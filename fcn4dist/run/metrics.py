"""metrics/*.jsonl: what a run writes down of every step and every evaluation."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fcn4dist.errors import JobError
from fcn4dist.files import save_text
from fcn4dist.run.folder import RunDir

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepRecord:
    """One step of one rank."""

    step: int  # 1-based, over the whole run
    epoch: int  # 1-based
    loss: float | None  # mean over the global batch; none where it was not finite
    lr: float
    loss_scale: float
    overflow: bool
    samples_per_s: float  # of the whole job
    data_wait_s: float
    checkpoint_wait_s: float  # for a checkpoint before this step, outside step_s
    step_s: float  # wall time of the step, the wait for data included
    num_steps: int  # of the whole run
    num_overflows: int  # so far
    time_left_s: float | None  # at the pace of this session's steps; evaluations come on top
    clip_ids: list[int]  # this rank's clips


class Pace:
    """The mean time of a step in this session, without the first, which compiles."""

    def __init__(self) -> None:
        self._num_steps, self._total_s = -1, 0.0

    def time_left_s(self, step_s: float, steps_left: int) -> float | None:
        """Count a step and return the seconds that `steps_left` will take; none after the first."""
        self._num_steps += 1
        if self._num_steps == 0:
            return None
        self._total_s += step_s
        return round(self._total_s / self._num_steps * steps_left, 1)


class JsonLines:
    """A file of one JSON object a line, each line whole for whoever reads along."""

    def __init__(self, path: Path, last_step: int, *, is_patient: bool = False) -> None:
        """Open for appending; lines of steps after `last_step` are of a future that a resumed run takes anew.

        One that is patient leaves lines out, with one warning, while the disk refuses them; else JobError is raised.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_lines(path, last_step)
        self._path, self._is_patient, self._has_warned = path, is_patient, False
        self._file = path.open("ab", buffering=0)

    def add(self, document: dict[str, Any]) -> None:
        """Append one line, whole or not at all."""
        line = (json.dumps(document, allow_nan=False) + "\n").encode()
        end = os.fstat(self._file.fileno()).st_size
        try:
            if (written := self._file.write(line)) != len(line):
                raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes written")
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            if not self._is_patient:
                raise JobError(f"{self._path}: cannot be written: {error.strerror}") from error
            if not self._has_warned:
                logger.warning("%s: %s; steps are left out here until there is room", self._path, error.strerror)
            self._has_warned = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cut_lines(path: Path, last_step: int) -> None:
    """Remove the lines of steps after `last_step`, and one that a crash cut short; nothing without such a file."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    kept = [line for line in lines if _step_of(line) <= last_step]
    if len(kept) != len(lines) or not text.endswith("\n"):
        save_text(path, "".join(line + "\n" for line in kept))


def cut_left_over_ranks(run: RunDir, world_size: int, last_step: int) -> None:
    """Remove the future from the records of ranks that a job with fewer ranks no longer has."""
    for path in run.metrics(0).parent.glob("rank-*.jsonl"):
        number = path.stem.removeprefix("rank-")
        if number.isdecimal() and int(number) >= world_size:
            cut_lines(path, last_step)


class StepRecords:
    """metrics/rank-R.jsonl."""

    def __init__(self, path: Path, last_step: int, *, is_patient: bool = False) -> None:
        self._lines = JsonLines(path, last_step, is_patient=is_patient)

    def add(self, record: StepRecord) -> None:
        """Append one step."""
        self._lines.add(asdict(record))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


class EvaluationRecords:
    """metrics/evaluations.jsonl: the validation figures over the run."""

    def __init__(self, run: RunDir, last_step: int, *, is_patient: bool = False) -> None:
        self._path, self._last_step, self._is_patient = run.evaluations, last_step, is_patient
        self._lines: JsonLines | None = None

    def add(self, step: int, epoch: int, figures: Mapping[str, Any]) -> None:
        """Append the figures after `step`; only the chief calls this, so only the chief has the file."""
        if self._lines is None:
            self._lines = JsonLines(self._path, self._last_step, is_patient=self._is_patient)
        self._lines.add({"step": step, "epoch": epoch, "time": time.time(), **figures})


def _step_of(line: str) -> float:
    """Return the step of a line; one cut short by a crash counts as the future."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
