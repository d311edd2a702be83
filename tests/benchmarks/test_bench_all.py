"""`make bench` and `make bench-quick`: every benchmark gets its turn, a failure is told at the end, old rows go."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import all as bench_all
from benchmarks.side_by_side import Row, load_rows, save_rows

# each notes that it ran, and measures a row; the old table has 1 to 3, and 9, which nothing measures any more
RECORD = "import sys; open('ran', 'a').write(f'{__spec__.name} {sys.argv[1:]}\\n')\n"
MEASURE = "open('RESULTS.md', 'a').write('| %d | measured anew |\\n')\n"
NAMES = ("first", "second", "third")


@pytest.fixture
def benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with benchmarks and a table of its own."""
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "__init__.py").touch()
    for number, name in enumerate(NAMES, 1):
        (package / f"{name}.py").write_text(RECORD + MEASURE % number)
    save_rows([Row(name, "of an earlier run", [1.0], None) for name in "1239"], "earlier", tmp_path / "RESULTS.md")
    monkeypatch.setattr(bench_all, "ROOT", tmp_path)
    monkeypatch.setattr(bench_all, "RESULTS", tmp_path / "RESULTS.md")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "fails", "rows_left"),
    [([], False, ["1", "2", "3"]), ([], True, ["1", "2", "3", "9"]), (["--quick"], False, ["1", "2", "3", "9"])],
)
def test_all_run_whatever_one_of_them_does(
    benchmarks: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], fails: bool, rows_left: list[str]
) -> None:
    monkeypatch.setattr(bench_all, "QUICK" if options else "ALL", NAMES)
    if fails:
        (benchmarks / "benchmarks" / "second.py").write_text(RECORD + "sys.exit(3)")
    result = CliRunner().invoke(bench_all.main, options)
    assert (benchmarks / "ran").read_text().splitlines() == [f"benchmarks.{name} {options}" for name in NAMES]
    assert result.exit_code == fails
    assert ("failed: second\n" in result.output) == fails
    rows = load_rows(benchmarks / "RESULTS.md")
    assert list(rows) == rows_left
    assert ("earlier" in rows["2"]) == fails


@pytest.mark.parametrize(
    ("last_s", "verdict"), [(100.0, "300 s, 0 s under the 5 minutes"), (100.6, "301 s, 1 s OVER the 5 minutes")]
)
def test_the_time_is_told_against_what_it_may_take(last_s: float, verdict: str) -> None:
    said = bench_all.describe_time({"one": 50.0, "two": 150.0, "three": last_s}, 5)
    assert said.startswith(f"{verdict} that it may take")
    assert said.endswith("(two 150, three 101, one 50)" if last_s > 100 else "(two 150, three 100, one 50)")
