from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fcn4dist.job.console import JobConsole
from fcn4dist.job.events import Scored, Started, Stepped
from fcn4dist.run.folder import RunDir
from fcn4dist.run.terminal import format_duration, format_step

RECORD = {"step": 5, "epoch": 1, "loss": 0.23264095, "samples_per_s": 41.26, "num_steps": 60, "time_left_s": 75.2}


class FakeClock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_step_in_one_line() -> None:
    assert format_step(RECORD) == "epoch 1  step 5/60  loss 0.2326  41.3 clips/s  1 min 15 s left"
    assert format_step({"step": 5, "epoch": 1, "loss": None}) == "epoch 1  step 5  loss nan"
    assert format_step({"step": 5, "epoch": 1, "loss": 0.5, "overflow": True}) == "epoch 1  step 5  loss overflow"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7620, "2 h 07 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_without_a_terminal_lines_come_every_few_seconds_and_the_last_step_always() -> None:
    output, clock = io.StringIO(), FakeClock()
    with JobConsole(Console(file=output, width=200), clock, world_size=1) as shown:
        shown.on_event(Started(100.0, "scheduler", 10))
        shown.on_event(Started(100.0, "rank-0", 11))
        for step in range(1, 21):  # a step a second: lines at 105, 110, 115, 120
            clock.now_s = 100.0 + step
            shown.on_event(Stepped(clock.now_s, 0, {"step": step, "epoch": 1, "loss": 1 / step}))
        clock.now_s = 121.0
        shown.on_event(Stepped(121.0, 0, {"step": 21, "epoch": 1, "loss": 0.04}))
        clock.now_s = 122.0
    lines = output.getvalue().splitlines()
    assert lines[0] == "1 rank started; the first step compiles the network"
    assert [line.split()[3] for line in lines[1:]] == ["5", "10", "15", "20", "21"]


def test_evaluations_are_shown_at_once_and_summed_up_at_the_end(tmp_path: Path) -> None:
    output, clock = io.StringIO(), FakeClock()
    with JobConsole(Console(file=output, width=200), clock, world_size=1) as shown:
        assert not shown.has_progress
        shown.on_event(Stepped(101.0, 0, {**RECORD, "step": 60}))
        assert shown.has_progress
        scores = {"split": "val", "num_scored": 80, "roc_auc_macro": 0.98765, "pr_auc_macro": None}
        shown.on_event(Scored(102.0, scores))
    assert "evaluation: 80 val clips, ROC-AUC 0.9877" in output.getvalue()
    clock.now_s = 225.0
    assert shown.summary(RunDir(tmp_path)) == (
        f"done: 60 steps, 2 min 05 s, last loss 0.2326, ROC-AUC 0.9877; {tmp_path}"
    )


def test_figures_name_their_split() -> None:
    output = io.StringIO()
    scores = {"split": "val", "split_name": "random", "num_scored": 80, "roc_auc_macro": 0.5, "pr_auc_macro": 0.25}
    with JobConsole(Console(file=output, width=120), FakeClock(), world_size=1) as shown:
        shown.on_event(Scored(102.0, scores))
    assert "evaluation: 80 val clips of random, ROC-AUC 0.5000, PR-AUC 0.2500" in output.getvalue()
    assert "ROC-AUC 0.5000, PR-AUC 0.2500 on val of random; " in shown.summary(RunDir(Path("runs")))
