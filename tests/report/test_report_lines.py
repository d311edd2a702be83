"""Runs too long to be drawn whole."""

from __future__ import annotations

import itertools
import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_run import make_run

from fcn4dist.report import lines
from fcn4dist.report.chart import Chart
from fcn4dist.report.lines import load_lines
from fcn4dist.report.ranks import describe_ranks
from fcn4dist.report.run_files import load_run
from fcn4dist.report.training import draw_progress

NUM_STEPS = 40_000
OVERFLOWS = [17 + 2801 * i for i in range(14)]  # none at the beat of ten


def step_record(step: int) -> dict[str, Any]:
    """A step of 100 ms, of which each hundredth takes a second."""
    slow = step % 100 == 57
    record: dict[str, Any] = {
        "step": step,
        "epoch": 1,
        "loss": 0.3 + 0.1 * (step % 2),
        "lr": 0.001,
        "loss_scale": 1024.0,
    }
    record |= {"overflow": False, "samples_per_s": 16.0 if slow else 160.0, "data_wait_s": 0.9 if slow else 0.001}
    record |= {"checkpoint_wait_s": 0.0, "step_s": 1.0 if slow else 0.1, "num_steps": NUM_STEPS, "num_overflows": 0}
    return record | {"time_left_s": None if step == 1 else 1.0, "clip_ids": [step]}


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("long") / "run", num_ranks=1)
    records = [step_record(step) for step in range(1, NUM_STEPS + 1)]
    for step in OVERFLOWS:
        records[step - 1] |= {"loss": None, "overflow": True}
    records[23_455]["loss"] = 50.0
    run.metrics(0).write_text("".join(json.dumps(record) + "\n" for record in records))
    return run.path


def chart_of(path: Path, title: str) -> Chart:
    return next(chart for chart in draw_progress(load_run(path)) if chart.title == title)


def test_every_overflow_and_every_spike_of_a_long_run_is_drawn(long_run: Path) -> None:
    overflows = chart_of(long_run, "Loss scale and overflows")
    assert [x for x, _ in overflows.series[1].points] == OVERFLOWS
    assert overflows.svg.count("<circle") == 14
    loss = chart_of(long_run, "Loss")
    assert (23_456.0, 50.0) in loss.series[0].points
    assert len(loss.series[0].points) < 1000
    assert (
        max(y for _, y in loss.series[1].points) < 1
    )  # a mean over steps chosen for being extreme would be one of these
    assert min(y for _, y in chart_of(long_run, "Clips a second, whole job").series[0].points) == 16


def test_means_of_a_long_run_are_those_of_its_steps_and_their_number_is_whole(long_run: Path) -> None:
    (row,) = describe_ranks(load_run(long_run)).rows
    assert row.num_steps == NUM_STEPS - 1  # without the first
    assert row.step_ms == pytest.approx(109, abs=5)  # a fixed beat of 10 would say 100
    assert row.data_ms == pytest.approx(10, abs=5)


def test_more_overflows_than_pixels_are_as_many_dots_as_can_be_told_apart(long_run: Path) -> None:
    run = load_run(long_run)
    for record in run.drawn:
        record["overflow"] = True
    (svg,) = (chart.svg for chart in draw_progress(run) if chart.title == "Loss scale and overflows")
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]
    assert 300 < len(places) < 600
    assert max(b - a for a, b in itertools.pairwise(places)) < 3


@pytest.mark.parametrize("block", [1000, 1 << 20])
def test_peaks_are_those_of_each_stretch_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Against the definition, line by line, whatever the blocks in which the file is read."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    losses = np.random.default_rng(4).normal(0, 1, 9001).tolist()
    file = tmp_path / "rank-0.jsonl"
    text = "".join(json.dumps({"step": i, "loss": loss}) + "\n" for i, loss in enumerate(losses))
    file.write_text(text + '{"step": 9001, "loss": 99')
    found = load_lines(file, ["loss"])
    assert (found.total, found.stride, found.num_damaged) == (9001, 3, 0)
    kept = {record["step"] for record in (*found.records, *found.peaks)}
    size = -(-9001 // lines.NUM_STRETCHES)
    for start in range(0, 9001, size):
        stretch = range(start, min(start + size, 9001))
        assert {max(stretch, key=losses.__getitem__), min(stretch, key=losses.__getitem__)} <= kept
    assert statistics.fmean(r["loss"] for r in found.records) == pytest.approx(statistics.fmean(losses), abs=0.1)
