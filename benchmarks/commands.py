"""Row 12: how long commands take that need no MindSpore, against `msrun --help`.

python -m benchmarks.commands [--quick]
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks.side_by_side import Row, alternate, both, report
from benchmarks.steppers import ROOT

MSRUN = [str(Path(sys.executable).with_name("msrun")), "--help"]
TABLE = ROOT / "rank_tables" / "1x8.json"


def timed(command: list[str]) -> Callable[[], float]:
    """Return what measures the seconds of a command that succeeds."""

    def run() -> float:
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - start

    return run


def measure(tries: int) -> list[Row]:
    """Return row 12."""
    ours = [sys.executable, "-m", "fcn4dist"]
    rows = []
    for letter, what, arguments in (
        ("a", "fcn4dist --help", ["--help"]),
        ("b", "rank-table validate, 1x8", ["rank-table", "validate", str(TABLE)]),
    ):
        side, other = timed([*ours, *arguments]), timed(MSRUN)
        side(), other()  # both from the page cache
        pairs = alternate(side, other, tries)
        rows.append(
            Row(f"12{letter}", what, [our / their for our, their in pairs], 0.25, is_at_most=True, **both(pairs, "s"))
        )
    return rows


@click.command()
@click.option("--quick", is_flag=True, help="Three tries; exit 1 under 0.85 of a bar.")
@click.option("--tries", default=5)
def main(quick: bool, tries: int) -> None:
    """Measure the commands."""
    report(measure(3 if quick else tries), " ".join(["python -m benchmarks.commands", *sys.argv[1:]]), guard=quick)


if __name__ == "__main__":
    main()
