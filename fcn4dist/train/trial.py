"""The program of a rank of `doctor --npu`: `python -m fcn4dist.train.trial --run-dir DIR --attempt 1`.

Started as a worker is, with the same environment; it joins the job and tries its device. What it does now, and how long each
thing before took, stands in a file beside its log, so that the doctor knows where a rank failed or hangs.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcn4dist.files import save_json
from fcn4dist.job.worker_env import WorkerEnv
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import PulseFile
from fcn4dist.train.bring_up import pin_to_cores
from fcn4dist.train.worker import join_as_rank, run_process

TRIAL_MODULE = "fcn4dist.train.trial"


@dataclass(frozen=True)
class Laps:
    """How far a rank is."""

    doing: str = "starting"  # empty: all is done
    times_s: dict[str, float] = field(default_factory=dict)  # of what is done, in order


def laps_file(run: RunDir, attempt: int, process: str) -> Path:
    """Return where a rank says how far it is."""
    return run.logs(attempt) / f"{process}.laps.json"


def load_laps(path: Path) -> Laps:
    """Return how far a rank came; "starting" where it has not said anything."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Laps(str(values["doing"]), {str(name): float(time_s) for name, time_s in values["times_s"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Laps()


class LapFile:
    """A rank's side of `Laps`."""

    def __init__(self, path: Path) -> None:
        self._path, self._laps, self._since = path, Laps(), time.perf_counter()

    def begin(self, name: str) -> None:
        """Note that what was done until now is done, and that `name` begins; empty: nothing more."""
        now, times_s = time.perf_counter(), dict(self._laps.times_s)
        if self._laps.doing != "starting":
            times_s[self._laps.doing] = round(now - self._since, 4)
        self._laps = Laps(name, times_s)
        save_json(self._path, {"doing": name, "times_s": times_s})
        self._since = time.perf_counter()


def main(arguments: list[str] | None = None) -> None:
    """Run this process's part of the trial."""
    run_process(arguments, try_device)


def try_device(worker: WorkerEnv, run: RunDir, attempt: int) -> None:
    """Select the device, join the job, and do each operation of a training step once."""
    pin_to_cores(worker.share.cores)
    pulse, laps = PulseFile(run.pulse(attempt, worker.name)), LapFile(laps_file(run, attempt, worker.name))
    pulse.beat("importing")
    laps.begin("import")
    from fcn4dist.train.device import start_device
    from fcn4dist.train.device_trial import try_operations  # MindSpore loads here

    laps.begin("set_device")
    start_device(worker.target, worker.device)
    pulse.beat("joining")
    laps.begin("init")
    join_as_rank(worker, run, attempt)

    def note(name: str) -> None:
        pulse.beat("compiling")
        laps.begin(name)

    try_operations(worker.as_rank(), note)
    laps.begin("")


if __name__ == "__main__":
    main()
