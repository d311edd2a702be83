"""`make bench` and `make bench-quick`: every benchmark gets its turn, and a failure is told at the end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import all as bench_all

RECORD = "import sys; open('ran', 'a').write(f'{__spec__.name} {sys.argv[1:]}\\n')\n"


@pytest.fixture
def benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with benchmarks of its own, which note that they ran; the second fails."""
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, end in (("first", ""), ("second", "sys.exit(3)"), ("third", "")):
        (package / f"{name}.py").write_text(RECORD + end)
    monkeypatch.setattr(bench_all, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("options", "passed_on"), [([], []), (["--quick"], ["--quick"])])
def test_a_failure_does_not_keep_the_others_from_running(
    benchmarks: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], passed_on: list[str]
) -> None:
    monkeypatch.setattr(bench_all, "QUICK" if options else "ALL", ("first", "second", "third"))
    result = CliRunner().invoke(bench_all.main, options)
    ran = [f"benchmarks.{name} {passed_on}" for name in ("first", "second", "third")]
    assert (benchmarks / "ran").read_text().splitlines() == ran
    assert result.exit_code == 1
    assert "failed: second\n" in result.output
    assert re.search(r"^\d+ s \(first \d+, second \d+, third \d+\);", result.output, re.MULTILINE)
