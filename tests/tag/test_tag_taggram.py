"""The picture of tags over time, with names that were not meant for pictures."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from fcn4dist.errors import ConfigError
from fcn4dist.tag.tagger import Tagging
from fcn4dist.tag.taggram import MAX_COLUMNS, check_picture, draw_taggram, format_time

HOSTILE = ("<script>alert(1)</script>", "$\\frac{", "a\nb\x1b[31m", "x" * 10_000, "../..", '"quoted"')


def tagging_of(num_windows: int, tags: tuple[str, ...] = HOSTILE, name: str = "piece.wav") -> Tagging:
    timeline = np.random.default_rng(0).random((num_windows, len(tags)), np.float32)
    timeline[num_windows // 2] = np.nan
    starts = np.arange(num_windows) * 2.0
    scores = np.nan_to_num(timeline).mean(axis=0)
    return Tagging(Path(name), tags, 2.0 * num_windows, 2.0, 2.0, starts, starts + 2, timeline, scores)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_hostile_names_are_drawn(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_taggram(tagging_of(9, name='<b>"$x$\n.wav'), 5, file)
    data = file.read_bytes()
    assert data.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])
    assert b"<script>" not in data
    assert len(data) < 500_000
    assert list(tmp_path.iterdir()) == [file]


def test_a_day_is_drawn_in_columns_that_can_be_seen(tmp_path: Path) -> None:
    from fcn4dist.tag.taggram import _columns

    tagging = tagging_of(3 * MAX_COLUMNS + 1, ("a", "b"))
    edges, values = _columns(tagging)
    assert len(values) <= MAX_COLUMNS
    assert len(edges) == len(values) + 1
    assert (np.diff(edges) > 0).all()
    assert (edges[0], edges[-1]) == (0, tagging.duration_s)
    np.testing.assert_allclose(values[0], tagging.window_scores[:4].mean(axis=0), rtol=1e-6)
    draw_taggram(tagging, 2, tmp_path / "day.png")


def test_one_window_is_a_picture_too(tmp_path: Path) -> None:
    tagging = tagging_of(3)
    one = Tagging(
        tagging.file, HOSTILE, 1.5, 2.0, 2.0, np.zeros(1), np.array([1.5]), tagging.window_scores[:1], tagging.scores
    )
    draw_taggram(one, 5, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize(("name", "message"), [("a.jpg", "ends in .png"), ("none/a.png", "no such folder")])
def test_where_no_picture_can_stand(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_picture(tmp_path / name)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (29.12, "0:29"), (3599.6, "1:00:00"), (7265, "2:01:05")])
def test_times(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
