from __future__ import annotations

from pathlib import Path

from fcn4dist.run.pulse import LINE_BYTES, Pulse, PulseFile, read_pulse


def test_what_is_said_is_read_and_takes_no_more_room(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "rank-0.pulse"
    file = PulseFile(path)
    assert read_pulse(path) == Pulse("starting", 0, 1)
    for step in range(1, 2000):
        file.beat("data", step)
        file.beat("step", step)
    assert read_pulse(path) == Pulse("step", 1999, 3999)
    assert path.stat().st_size == LINE_BYTES


def test_the_same_phase_again_is_a_sign_of_life(tmp_path: Path) -> None:
    file = PulseFile(tmp_path / "pulse")
    file.beat("evaluating", 5)
    before = read_pulse(tmp_path / "pulse")
    file.beat("evaluating", 5)
    assert read_pulse(tmp_path / "pulse") != before


def test_what_is_missing_or_damaged_is_no_pulse(tmp_path: Path) -> None:
    assert read_pulse(tmp_path / "none") is None
    for text in ("", "step", "step x 1\n", "dancing 3 1\n", "step 3 1 4\n"):
        (tmp_path / "pulse").write_text(text)
        assert read_pulse(tmp_path / "pulse") is None
