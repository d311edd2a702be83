from __future__ import annotations

import json
from pathlib import Path

import pytest

from fcn4dist.errors import JobError
from fcn4dist.run.folder import RunDir
from fcn4dist.run.metrics import JsonLines, Pace, cut_left_over_ranks


def test_the_pace_leaves_the_compiling_step_out() -> None:
    pace = Pace()
    assert pace.time_left_s(60.0, 10) is None
    assert pace.time_left_s(2.0, 9) == 18.0
    assert pace.time_left_s(4.0, 8) == 24.0


def test_a_resumed_run_takes_the_lines_of_its_future_anew(tmp_path: Path) -> None:
    file = tmp_path / "metrics" / "rank-0.jsonl"
    lines = JsonLines(file, 0)
    for step in (1, 2, 3, 4):
        lines.add({"step": step, "old": True})
    lines.close()
    file.write_text(file.read_text() + '{"step": 5, "ol')  # a crash in the middle of a line
    again = JsonLines(file, 2)
    again.add({"step": 3, "old": False})
    again.close()
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert found == [{"step": 1, "old": True}, {"step": 2, "old": True}, {"step": 3, "old": False}]


def test_ranks_that_are_no_longer_there_lose_their_future_too(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for rank in range(4):
        lines = JsonLines(run.metrics(rank), 0)
        for step in (1, 2, 3):
            lines.add({"step": step})
        lines.close()
    cut_left_over_ranks(run, 2, 1)  # going on from step 1 with two ranks, which cut their own files
    counts = [len(run.metrics(rank).read_text().splitlines()) for rank in range(4)]
    assert counts == [3, 3, 1, 1]


def test_a_line_that_the_disk_refuses(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcn4dist.run.metrics.cut_lines", lambda *_: None)  # /dev/full can be read without end
    strict, patient = JsonLines(Path("/dev/full"), 0), JsonLines(Path("/dev/full"), 0, is_patient=True)
    with pytest.raises(JobError, match="/dev/full: cannot be written: No space left on device"):
        strict.add({"step": 1})
    for step in (1, 2, 3):
        patient.add({"step": step})
    assert caplog.text.count("steps are left out here until there is room") == 1
