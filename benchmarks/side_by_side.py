"""What every benchmark shares: two sides in turn, medians with their spread, the table, and benchmarks/RESULTS.md."""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypedDict

import click
import psutil

from fcn4dist.files import save_text

RESULTS = Path(__file__).with_name("RESULTS.md")
QUICK_MARGIN = 0.85  # the guard lets noise have this much
HEAD = """# Results of the benchmarks

Written by `make bench`, `make bench-quick` or `python -m benchmarks.NAME`; each line says when and where it was measured. The two
sides take turns within one run; a figure is the median of the tries, with the lowest and the highest. "load" is the machine's
load average: where it is more than the benchmark's own two processes, other work ran beside it.

| # | measured | ours | against | figure | must | verdict | when, where, command |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """A line of the table: one figure, its tries and its bar."""

    number: str  # of the table, with a letter where a row has several figures
    what: str
    figures: list[float]  # one a try
    bar: float | None  # none: reported only
    is_at_most: bool = False
    unit: str = "x"
    ours: str = ""
    against: str = ""

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.figures)

    def holds(self, margin: float = 1.0) -> bool:
        """Return whether the bar is met, `margin` times the bar being enough."""
        if self.bar is None:
            return True
        return self.median <= self.bar / margin if self.is_at_most else self.median >= self.bar * margin

    def cells(self) -> list[str]:
        """Return number, what, ours, against, figure, bar and verdict as text."""
        spread = f"{number(self.median)}{self.unit} ({number(min(self.figures))} to {number(max(self.figures))})"
        must = "-" if self.bar is None else f"{'at most' if self.is_at_most else 'at least'} {self.bar:g}{self.unit}"
        verdict = "-" if self.bar is None else "met" if self.holds() else "**missed**"
        return [self.number, self.what, self.ours, self.against, spread, must, verdict]


class Sides(TypedDict):
    """A Row's two sides in words."""

    ours: str
    against: str


def number(value: float) -> str:
    """Three significant digits; with an exponent only under 0.0001."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def alternate(ours: Callable[[], float], theirs: Callable[[], float], tries: int) -> list[tuple[float, float]]:
    """Measure both sides in turn, the first of each pair changing from try to try."""
    pairs = []
    for attempt in range(tries):
        if attempt % 2:
            second = theirs()
            pairs.append((ours(), second))
        else:
            first = ours()
            pairs.append((first, theirs()))
    return pairs


def both(pairs: Sequence[tuple[float, float]], unit: str) -> Sides:
    """Return the medians of the two sides as a Row's `ours` and `against`."""
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {"ours": f"{number(mine)} {unit}", "against": f"{number(other)} {unit}"}


def report(rows: Sequence[Row], command: str, *, guard: bool = False, file: Path = RESULTS) -> None:
    """Print the rows and write them into RESULTS.md; with `guard` exit 1 where one is beyond 0.85 of its bar."""
    for row in rows:
        click.echo("  ".join(cell for cell in row.cells() if cell))
    save_rows(rows, command, file)
    failed = [row for row in rows if guard and not row.holds(QUICK_MARGIN)]
    for row in failed:
        click.echo(f"row {row.number}: {row.median:.3g}{row.unit} is beyond {QUICK_MARGIN} of its bar", err=True)
    if failed:
        sys.exit(1)


def save_rows(rows: Sequence[Row], command: str, file: Path = RESULTS) -> None:
    """Put the rows into the table of `file` in place of earlier ones of the same number, in the order of the numbers.

    Raises ClickException when there is a file and it cannot be read: nothing is written then.
    """
    kept = load_rows(file)
    where = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, {describe_machine()}, `{command}`"
    for row in rows:
        kept[row.number] = "| " + " | ".join([*row.cells(), where]) + " |"
    write_table(kept, file)


def load_rows(file: Path = RESULTS) -> dict[str, str]:
    """Return the lines of the table in `file` by the number of the row; none where there is no file. Raises ClickException."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file}: cannot be read, so no row is written: {error}") from None
    return {match[1]: line for line in lines if (match := re.match(r"\| (\d+[a-z]?) \|", line))}


def drop_rows(before: Mapping[str, str], file: Path = RESULTS) -> list[str]:
    """Take those rows out of the table that still are as they were `before`; return their numbers. Raises ClickException.

    A row that was measured again says another time.
    """
    rows = load_rows(file)
    old = [key for key, line in rows.items() if before.get(key) == line]
    if old:
        write_table({key: line for key, line in rows.items() if key not in old}, file)
    return old


def write_table(rows: Mapping[str, str], file: Path) -> None:
    """Write the table in the order of the numbers."""
    ordered = sorted(rows, key=lambda key: (int(re.sub(r"\D", "", key)), key))
    save_text(file, HEAD + "".join(f"{rows[key]}\n" for key in ordered))


def describe_machine() -> str:
    """Return the processor, the cores that this process may use and the machine's, its memory, its kernel and its load."""
    names = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    processor = names[0] if names else platform.machine()
    cores = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores of {processor}"
    memory_gb = psutil.virtual_memory().total / 1e9
    return f"{cores}, {memory_gb:.0f} GB, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"
