from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from fcn4dist.config import format_config, load_config
from fcn4dist.errors import JobError
from fcn4dist.launch.endings import leave_report, reported
from fcn4dist.run.folder import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    found = RunDir(tmp_path / "run")
    found.metrics(0).parent.mkdir(parents=True)
    found.config.write_text(format_config(load_config()))
    found.metrics(0).write_text('{"step": 1, "num_steps": 1, "epoch": 1, "loss": 0.5}\n')
    return found


def test_the_report_is_there_whatever_the_end(run: RunDir) -> None:
    said: list[str] = []
    with pytest.raises(JobError, match="rank 0 died"), reported(run, said.append):
        raise JobError("rank 0 died")
    assert said == []
    assert "1 of 1 steps" in run.report.read_text()


def test_a_report_that_fails_is_said_and_changes_nothing(run: RunDir) -> None:
    said: list[str] = []
    run.report.mkdir()  # cannot be replaced by a file
    with reported(run, said.append):
        pass
    assert len(said) == 1
    assert said[0].startswith(f"no report: {run.report}: the report cannot be written")
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "metrics", "report.html"]


def test_a_report_that_takes_too_long_is_given_up(run: RunDir) -> None:
    assert leave_report(run, limit_s=0.01) == "not written within 0.01 s"
    assert not run.report.exists()


def test_a_signal_ends_the_writing_and_nothing_else(run: RunDir) -> None:
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        assert leave_report(run) == "ended by SIGTERM"
    finally:
        timer.join()


def test_nothing_started_leaves_no_report(tmp_path: Path) -> None:
    with reported(RunDir(tmp_path), pytest.fail):
        pass
    assert list(tmp_path.iterdir()) == []
