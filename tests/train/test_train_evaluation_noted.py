"""An evaluation leaves the checkpoint as it is; a run that is killed around it makes it once, and ends as one that was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from compiled_step import compiled_step
from half_heard_set import make_half_heard_set

from fcn4dist.config import RunConfig, build_config
from fcn4dist.data.dataset import open_dataset
from fcn4dist.errors import JobError
from fcn4dist.job.rank import SINGLE
from fcn4dist.run.checkpoints import find_newest
from fcn4dist.run.folder import RunDir

STEPS = 4  # two epochs of two steps


class KilledError(Exception):
    """Stands for SIGKILL: nothing of the run catches it."""


def killed(*_: object) -> None:
    raise KilledError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_half_heard_set(tmp_path_factory.mktemp("data"))


def train(folder: Path, data: Path, *, resume: bool = False) -> Any:
    from fcn4dist.train.device import start_device
    from fcn4dist.train.loop import train
    from fcn4dist.train.step import TrainStep

    start_device("CPU", 0)
    model = {"channels": [4, 4, 4, 4], "pools": [[2, 2], [2, 2], [1, 1]]}
    sections = {
        "model": model,
        "mel": {"n_mels": 8},
        "train": {"global_batch": 8, "epochs": 2},
        "evaluate": {"batch": 4},
    }
    sections["evaluate"]["num_resamples"] = 0  # type: ignore[index]
    config: RunConfig = build_config(sections, where="test")
    with patch("fcn4dist.train.start.TrainStep", TrainStep if resume else compiled_step):
        return train(config, RunDir(folder), open_dataset(data), SINGLE, resume=resume)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def contents(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    stats = {path.name: path.stat() for path in [folder, *folder.iterdir()]}
    data = {path.name: path.read_bytes() for path in folder.iterdir()} | {folder.name: b""}
    return {name: (data[name], stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def outcome(run: RunDir) -> tuple[Any, ...]:
    """Return what a run came to: where it stands, its best and its evaluations."""
    path, state, damaged = find_newest(run.checkpoints)
    evaluations = [{**line, "time": 0} for line in lines_of(run.evaluations)]
    return path.name, state.progress, damaged, (run.checkpoints / "best").read_text(), evaluations


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = RunDir(tmp_path_factory.mktemp("undisturbed"))
    train(run.path, data)
    assert [line["step"] for line in lines_of(run.evaluations)] == [2, 4]
    return run


@pytest.mark.parametrize(
    "killed_in",
    [
        "validation.Validation.evaluate",  # the checkpoint is there, its evaluation is not
        "checkpoint.save_evaluated",  # all is there but the note
    ],
)
def test_a_run_killed_around_an_evaluation_goes_on_with_it(
    undisturbed: RunDir, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    run = RunDir(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(f"fcn4dist.train.{killed_in}", killed)
        with pytest.raises((KilledError, JobError)):  # the writing thread's errors are told as JobError
            train(run.path, data)
    path, state, _ = find_newest(run.checkpoints)
    assert (state.progress.step, state.progress.is_evaluated) == (2, False)
    before = contents(path)
    train(run.path, data, resume=True)
    assert contents(path) == before
    assert outcome(run) == outcome(undisturbed)


def test_an_evaluation_that_is_noted_is_not_made_again(
    undisturbed: RunDir, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the step after it, the run goes on with that step."""
    from fcn4dist.train.validation import Validation

    run = RunDir(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("fcn4dist.train.loop.RankRecords.add", killed_in_third_step)
        with pytest.raises(KilledError):
            train(run.path, data)
    _, state, _ = find_newest(run.checkpoints)
    assert (state.progress.step, state.progress.is_evaluated) == (2, True)
    assert state.progress.best_step == 2
    made, evaluate = [], Validation.evaluate
    monkeypatch.setattr(Validation, "evaluate", lambda self, p: (made.append(p.step), evaluate(self, p))[1])
    train(run.path, data, resume=True)
    assert made == [STEPS]
    assert outcome(run)[:4] == outcome(undisturbed)[:4]


def killed_in_third_step(_self: object, progress: Any, *_: object) -> None:
    if progress.step == 3:
        raise KilledError
