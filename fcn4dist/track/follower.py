"""The one follower of a run: reads RUN/metrics as it grows and tells a tracker, each step and each evaluation once.

How far it came stands in RUN/track/NAME.json with the tracker's own id of the run, so that a run that is resumed, or sent
once more, goes on as the same run there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fcn4dist.errors import ConfigError, Fcn4distError, JobError, shorten_name
from fcn4dist.files import save_json
from fcn4dist.run.best import choose_evaluation
from fcn4dist.run.checkpoints import STEP_FOLDER
from fcn4dist.run.figures import MACRO_NAMES, Figures
from fcn4dist.run.folder import RunDir
from fcn4dist.run.state import Kind, read_json, value_of
from fcn4dist.track.tracker import About, Point, find_tracker

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
EVALUATION_SCALARS = {key: f"validation/{key}" for key in MACRO_NAMES}
BEST_SCALARS = {key: f"best/{key}" for key in MACRO_NAMES}


class GrowingLines:
    """The JSON objects of a file that grows by whole lines, and may be replaced by a shorter one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._end = -1, 0
        self.modified_s = 0.0  # when its newest line was written; since 1970

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
        self._inode, self._end, self.modified_s = status.st_ino, start + len(whole), status.st_mtime
        try:
            return [json.loads(line) for line in whole.splitlines()], is_other
        except ValueError as error:
            raise ConfigError(f"{self._path}: damaged: {error}") from None


@dataclass
class Told:
    """What a tracker has been told: RUN/track/NAME.json."""

    place: str = ""
    run_id: str | None = None
    step: int = 0  # the highest whose record it has
    evaluated: int = 0  # the highest whose evaluation it has
    best: int = 0  # the best checkpoint's step, as it was told

    @classmethod
    def load(cls, file: Path, place: str) -> Told:
        """Read the file; what is of another place, or damaged, says nothing."""
        found = read_json(file)
        try:
            told = cls(**found) if isinstance(found, dict) else cls(place)
        except TypeError:
            told = cls(place)
        return told if told.place == place else cls(place)


class Follower:
    """A run and a tracker that is told of it by every `poll`; it is started by the first that finds something."""

    def __init__(self, run: RunDir, name: str) -> None:
        self._run, self._name = run, name
        self._begin()

    def _begin(self) -> None:
        run = self._run
        self._steps, self._evaluations = GrowingLines(run.metrics(0)), GrowingLines(run.evaluations)
        self._tracker = find_tracker(self._name)(run.path)
        self._told, self._has_started = Told(self._tracker.place), False
        if not self._tracker.is_rewritten:
            self._told = Told.load(run.tracked(self._name), self._tracker.place)

    def poll(self) -> int:
        """Tell what is new and return how many steps and evaluations that are."""
        steps, has_other_steps = self._steps.read()
        evaluations, has_other_evaluations = self._evaluations.read()
        if (has_other_steps or has_other_evaluations) and self._tracker.is_rewritten:
            self.close("running")
            self._begin()
            return self.poll()
        told = self._told
        try:
            new = [line for line in evaluations if line["step"] > told.evaluated]
            times = step_times(steps, self._steps.modified_s, {line["step"]: line["time"] for line in evaluations})
            timed = [(line, time_s) for line, time_s in zip(steps, times, strict=True) if line["step"] > told.step]
            points = [Point(line["step"], time_s, _scalars(line, STEP_SCALARS)) for line, time_s in timed]
            points += [Point(line["step"], line["time"], _scalars(line, EVALUATION_SCALARS)) for line in new]
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{self._run.metrics(0).parent}: damaged: {error}") from None
        self._tell(points)
        told.step = max([told.step, *(line["step"] for line in steps)])
        told.evaluated = max([told.evaluated, *(line["step"] for line in evaluations)])
        self._save(is_new=bool(points))
        return len(points)

    def tell_best(self) -> None:
        """Tell the figures of the run's best checkpoint, at its step."""
        kept = choose_evaluation(self._run)
        match = STEP_FOLDER.fullmatch(kept.checkpoint or "") if kept.is_best else None
        step = int(match[1]) if match else 0
        scalars = _scalars(Figures.load(kept.figures).document, BEST_SCALARS)
        if step and scalars and step != self._told.best:
            self._tell([Point(step, kept.figures.stat().st_mtime, scalars)])
            self._told.best = step
            self._save(is_new=True)

    def _tell(self, points: Sequence[Point]) -> None:
        if points and not self._has_started:
            self._run.tracked(self._name).parent.mkdir(parents=True, exist_ok=True)
            self._told.run_id = self._tracker.start(About.of(self._run), self._told.run_id)
            self._has_started = True
            self._save(is_new=True)  # before anything is told: one that ends here goes on with this run
        if points:
            self._tracker.add(points)

    def _save(self, *, is_new: bool) -> None:
        if is_new and not self._tracker.is_rewritten:
            save_json(self._run.tracked(self._name), asdict(self._told))

    def close(self, kind: Kind) -> None:
        """End; `kind`: how the run stands."""
        if self._has_started:
            self._tracker.close(kind)
        self._has_started = False


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
    """Return name -> value; what is none (the loss of an overflow) or no finite number has no point."""
    found = {name: value_of(line, key) for key, name in names.items()}
    return {name: value for name, value in found.items() if value is not None}


def send_run(run: RunDir, name: str, kind: Kind) -> int:
    """Tell a tracker of a run and return the number of steps and evaluations that were new to it; `kind`: how the run stands.

    Raises ConfigError where there are no metrics or they are damaged, JobError where the tracker does not take them.
    """
    if not run.metrics(0).is_file():
        raise ConfigError(f"{run.path}: not a run that has trained: no metrics/{run.metrics(0).name}")
    with told_in_a_line(name):
        follower = Follower(run, name)
        count = follower.poll()
        follower.tell_best()
        follower.close(kind)
        return count


@contextlib.contextmanager
def told_in_a_line(name: str) -> Iterator[None]:
    """Turn what a tracker raises, which may be anything, into a JobError."""
    try:
        yield
    except Fcn4distError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        said = shorten_name(lines[0], 300) if lines else ""
        raise JobError(f"{name}: {type(error).__name__}{': ' * bool(said)}{said}") from error
