"""A loop that reads a step after the next one has begun, as on Ascend: the same records, the same checkpoints."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from compiled_step import compiled_step
from half_heard_set import make_half_heard_set

from fcn4dist.config import build_config
from fcn4dist.data.dataset import open_dataset
from fcn4dist.errors import JobError
from fcn4dist.job.rank import SINGLE
from fcn4dist.run.folder import RunDir
from fcn4dist.train.stop_request import StopRequest

EPOCH, STEPS = 4, 8
TIMES = {"samples_per_s", "data_wait_s", "checkpoint_wait_s", "step_s", "time_left_s"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_half_heard_set(tmp_path_factory.mktemp("data"))


class Asking:
    """A pulse that asks for a stop as step `step` begins."""

    def __init__(self, stop: StopRequest, step: int) -> None:
        self._stop, self._step = stop, step

    def beat(self, phase: str, step: int) -> None:
        if (phase, step) == ("step", self._step):
            self._stop.signal = signal.SIGTERM


def train(folder: Path, data: Path, *, stop_in: int = 0, resume: bool = False, **settings: Any) -> Any:
    from fcn4dist.train.device import start_device
    from fcn4dist.train.loop import train
    from fcn4dist.train.step import TrainStep

    start_device("CPU", 0)
    sections: dict[str, dict[str, Any]] = {
        "model": {"channels": [4, 4, 4, 4], "pools": [[2, 2], [2, 2], [1, 1]]},
        "mel": {"n_mels": 8},
        "train": {"global_batch": 4, "epochs": STEPS // EPOCH, "warmup_steps": 3, "loss_scale": "dynamic", **settings},
        "checkpoint": {"every_steps": 3, "keep": 9},
        "evaluate": {"batch": 4, "num_resamples": 0},
    }
    config, stop = build_config(sections, where="test"), StopRequest()
    pulse: Any = Asking(stop, stop_in)
    with patch("fcn4dist.train.start.TrainStep", TrainStep if resume else compiled_step):
        return train(config, RunDir(folder), open_dataset(data), SINGLE, resume=resume, stop=stop, pulse=pulse)


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """Return the records of all steps but for what they took."""
    lines = [json.loads(line) for line in RunDir(folder).metrics(0).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def checkpoints_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in (folder / "checkpoints").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def read_at_once(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("at-once")
    train(folder, data)
    return folder


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcn4dist.train.loop.steps_ahead", lambda: 1)


@pytest.mark.usefixtures("late")
def test_records_and_checkpoints_are_those_of_a_loop_that_reads_at_once(
    read_at_once: Path, data: Path, tmp_path: Path
) -> None:
    """Also where a stop is asked for in step 7: the last one has begun by then."""
    report = train(tmp_path, data, stop_in=7)
    assert (report.progress.step, report.stopped_by) == (STEPS, None)
    assert len(steps_of(tmp_path)) == STEPS
    assert steps_of(tmp_path) == steps_of(read_at_once)
    saved = checkpoints_of(read_at_once)
    assert {path.split("/")[1] for path in saved if "step-" in path} == {f"step-{n:08d}" for n in (3, 4, 6, 8)}
    assert checkpoints_of(tmp_path) == saved


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(
    ("asked_in", "stopped_after"),
    [
        (3, 3),
        pytest.param(2, 3, marks=pytest.mark.slow),
        pytest.param(5, 6, marks=pytest.mark.slow),
    ],
)
def test_a_stop_comes_after_the_step_that_has_begun_by_then_and_resumes_exactly(
    read_at_once: Path, data: Path, tmp_path: Path, asked_in: int, stopped_after: int
) -> None:
    """Step 3 is saved in any case, so it is read before another one begins."""
    report = train(tmp_path, data, stop_in=asked_in)
    assert report.progress.step == stopped_after == len(steps_of(tmp_path))
    assert report.stopped_by == signal.SIGTERM
    train(tmp_path, data, resume=True)
    assert steps_of(tmp_path) == steps_of(read_at_once)
    last = {path: found for path, found in checkpoints_of(read_at_once).items() if f"step-{STEPS:08d}" in path}
    assert last.items() <= checkpoints_of(tmp_path).items()


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_run_that_diverges_ends_after_the_same_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setattr("fcn4dist.train.loop.steps_ahead", lambda: ahead)
    with pytest.raises(JobError, match=r"^step 3: the training has diverged: for 2 steps"):
        train(tmp_path, data, lr=1e6, max_diverged_steps=2)
    assert [line["loss"] is not None and line["loss"] < 1 for line in steps_of(tmp_path)] == [True, False, False]
