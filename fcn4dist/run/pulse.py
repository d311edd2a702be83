"""What a rank is doing, in a small file that the launcher reads: the watchdog's evidence.

One line of fixed length is overwritten in place, so that a beat costs microseconds and no disk space.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Phase = Literal[
    "starting", "importing", "joining", "opening", "compiling", "data", "step", "evaluating", "saving"
]  # fmt: skip
PHASES: tuple[str, ...] = get_args(Phase)
UNTIMED = frozenset(PHASES) - {"data", "step"}  # may take long without a step
LINE_BYTES = 64
STACK_SIGNAL = signal.SIGUSR2  # makes a worker write the stacks of its threads


@dataclass(frozen=True)
class Pulse:
    """Where a rank is."""

    phase: Phase
    step: int  # that is being done, 1-based; 0 before the first
    beat: int = 0  # counts the beats: a change means that the rank moved

    def __str__(self) -> str:
        names = {"importing": "importing MindSpore", "joining": "joining the job", "opening": "opening the data"}
        names |= {"data": f"waiting for the data of step {self.step}", "step": f"in step {self.step}"}
        return names.get(self.phase, self.phase)


class PulseFile:
    """A rank's side: says where it is."""

    def __init__(self, path: Path) -> None:
        """Take the file's space now: an overwrite later needs none. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._num_beats = 0
        self.beat("starting")

    def beat(self, phase: Phase, step: int = 0) -> None:
        """Note the phase; never raises, training does not depend on it."""
        self._num_beats += 1
        line = f"{phase} {step} {self._num_beats}".ljust(LINE_BYTES - 1) + "\n"
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, line.encode(), 0)


def read_pulse(path: Path) -> Pulse | None:
    """Return what a rank last said; None before that, or where the line is half-written."""
    try:
        return parse_pulse(path.read_bytes())
    except OSError:
        return None


def parse_pulse(line: bytes) -> Pulse | None:
    """Return what the line says; None where it is half-written."""
    try:
        phase, step, beat = line.decode("ascii").split()
        return Pulse(phase, int(step), int(beat)) if phase in PHASES else None  # type: ignore[arg-type]
    except ValueError:
        return None
