"""The model of docs/lab/scaling.md, against figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import scaling, training

CONVOLUTIONS = (
    (1, 128, 96 * 1366),
    (128, 384, 48 * 341),
    (384, 768, 12 * 68),
    (768, 2048, 4 * 8),
)  # in, out, positions


def test_the_sizes_are_those_of_the_network() -> None:
    weights = sum(9 * source * target for source, target, _ in CONVOLUTIONS)
    norms, dense = sum(2 * target for _, target, _ in CONVOLUTIONS), 2048 * 50 + 50
    assert weights + norms + dense == scaling.PARAMETERS
    assert norms == scaling.STATISTICS  # as many means and variances as scales and shifts
    flops = [2 * 9 * source * target * positions for source, target, positions in CONVOLUTIONS]
    gflop = (3 * sum(flops) - flops[0]) / 1e9  # forward and two gradients; the first has no gradient of its input
    assert gflop == pytest.approx(scaling.GFLOP_PER_CLIP, abs=0.05)
    assert scaling.GFLOP_PER_CLIP == training.GFLOP_PER_CLIP


def test_a_ring() -> None:
    assert scaling.ring_s(1, 8e9, 4, 0.5) == 0
    assert scaling.ring_s(2, 8e9, 4, 0.5) == pytest.approx(2 * (1 + 0.5))
    assert scaling.ring_s(4, 8e9, 4, 0.5) == pytest.approx(6 * (0.5 + 0.5))


def test_eight_servers_add_a_ring_of_eighths() -> None:
    one, many = (scaling.predict(scaling.NPUS, num, 8, is_local=True) for num in (8, 64))
    assert one.compute_s == many.compute_s == pytest.approx(8 / 300)
    assert one.allreduce_s == pytest.approx(14 * (192.99e-6 + 5e-6), rel=1e-3)  # 8.685 MB at 45 GB/s, 14 rounds
    assert many.allreduce_s - one.allreduce_s == pytest.approx(14 * (54.28e-6 + 15e-6), rel=1e-3)  # 1.086 MB at 20 GB/s
    assert (
        one.input_s == many.input_s == pytest.approx(11.190e-3, rel=1e-3)
    )  # 64 clips of 524,544 bytes at 3 GB/s a server
    assert one.step_s > one.input_s  # reading hides behind the step
    faster = scaling.predict(replace(scaling.NPUS, clips_per_s=2000), 8, 8, is_local=True)
    assert faster.step_s == faster.input_s == one.input_s  # reading is the longer one
    assert scaling.predict(scaling.NPUS, 64, 8).input_s == pytest.approx(512 * 524_544 / 5e9)


def test_the_document_shows_what_the_model_says() -> None:
    document = Path(scaling.__file__).parents[1] / "docs" / "lab" / "scaling.md"
    shown = [line for line in document.read_text().splitlines() if line.startswith("|")]
    assert [line for line in CliRunner().invoke(scaling.main).output.splitlines() if line] == shown


def test_a_measured_figure_takes_the_place_of_the_assumption() -> None:
    result = CliRunner().invoke(scaling.main, ["--clips-per-s", "160"])
    assert "| 1 | 32 | local | 200.0 ms | 0.0 ms | 1.0 ms | 5.6 ms | 201.0 ms | 159 | 100 % |" in result.output
    assert CliRunner().invoke(scaling.main, ["--clips-per-s", "0"]).exit_code == 2


def test_two_ranks_here() -> None:
    step = scaling.check_here(140, 199, 0.3)
    assert (step.allreduce_s, step.compute_s) == pytest.approx((0.3, 478.4 / 140))
    assert step.step_s == pytest.approx(0.3 + 478.4 / 140 + 44 * 17_362_610 / 8e9)


def test_a_step_faster_than_its_matrix_product_is_refused() -> None:
    result = CliRunner().invoke(scaling.main, ["--here", "200", "199", "0.3"])
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit)
    assert "expected at most the 199 of its matrix product" in result.output
