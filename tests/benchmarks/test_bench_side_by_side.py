"""The table of the benchmarks: figures, bars, the guard, and the file that keeps the rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from benchmarks.side_by_side import Row, alternate, both, drop_rows, load_rows, report, save_rows


def row(figures: list[float], bar: float | None, **values: Any) -> Row:
    return Row("4", "two ranks", figures, bar, **values)


@pytest.mark.parametrize(
    ("figure", "is_at_most", "code"),
    [(17.01, False, 0), (16.99, False, 1), (23.52, True, 0), (23.54, True, 1)],
)
def test_the_guard_lets_15_percent_pass_on_either_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], figure: float, is_at_most: bool, code: int
) -> None:
    """The bar is 20: 0.85 x 20 = 17 is still enough where more is better, 20 / 0.85 = 23.53 where less is."""
    file = tmp_path / "RESULTS.md"
    rows = [row([figure], 20, is_at_most=is_at_most), Row("9", "no bar", [1.0], None)]
    if code:
        with pytest.raises(SystemExit) as left:
            report(rows, "bench", guard=True, file=file)
        assert left.value.code == code
    else:
        report(rows, "bench", guard=True, file=file)
    assert ("row 4" in capsys.readouterr().err) == bool(code)
    assert len(table_of(file)) == 2  # what failed is written too


def table_of(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text().splitlines() if re.match(r"\| \d", line)]
    return {line.split("|")[1].strip(): line for line in lines}


def test_rows_replace_those_of_their_number_and_leave_the_others(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    save_rows([Row(name, "first", [1.0], None) for name in ("12b", "2b", "10", "2a")], "first command", file)
    before = table_of(file)
    assert list(before) == ["2a", "2b", "10", "12b"]
    save_rows([Row(name, "second", [2.0], None) for name in ("10", "1")], "second command", file)
    after = table_of(file)
    assert list(after) == ["1", "2a", "2b", "10", "12b"]
    assert {name: after[name] for name in ("2a", "2b", "12b")} == {name: before[name] for name in ("2a", "2b", "12b")}
    for name in ("1", "10"):
        assert "| second |" in after[name]
        assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC, .* cores of .*`second command` \|$", after[name])


def test_rows_that_a_whole_run_did_not_measure_again_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    save_rows([Row(name, "first", [1.0], None) for name in ("6a", "6b", "14a", "9")], "first command", file)
    before = load_rows(file)
    save_rows([Row(name, "second", [2.0], None) for name in ("14a", "7g", "6b")], "second command", file)
    after = load_rows(file)
    assert drop_rows(before, file) == ["6a", "9"]
    assert list(table_of(file)) == ["6b", "7g", "14a"]
    assert table_of(file) == {name: after[name] for name in ("6b", "7g", "14a")}
    assert drop_rows(before, file) == []


@pytest.mark.parametrize("spoil", [lambda file: file.mkdir(), lambda file: file.write_bytes(b"| 1 | \xff |\n")])
def test_results_that_cannot_be_read_are_left_alone(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    file = tmp_path / "RESULTS.md"
    spoil(file)
    with pytest.raises(click.ClickException, match=r"RESULTS\.md: cannot be read"):
        save_rows([row([1.0], None)], "bench", file)
    assert file.is_dir() or file.read_bytes() == b"| 1 | \xff |\n"
    assert list(tmp_path.iterdir()) == [file]


def test_the_sides_take_turns_in_being_first() -> None:
    order: list[str] = []

    def side(name: str, first: float) -> Callable[[], float]:
        def run() -> float:
            order.append(name)
            return first + order.count(name)

        return run

    pairs = alternate(side("ours", 0), side("theirs", 10), 3)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert pairs == [(1, 11), (2, 12), (3, 13)]
    assert both(pairs, "s") == {"ours": "2 s", "against": "12 s"}
