from __future__ import annotations

import json
from pathlib import Path

from fcn4dist.train.records import JsonLines, Pace


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
