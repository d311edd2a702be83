"""Every row of the table, one benchmark after the other: `make bench`; `--quick`, the guard before a release: `make bench-quick`.

The guard takes rows 1, 4, 5, 7, 8 and 12 and exits 1 where the median of three tries is under 0.85 of a bar. The whole run leaves
in the table what it measured and nothing else, unless a benchmark failed.
"""

from __future__ import annotations

import subprocess
import sys
import time

import click

from benchmarks.side_by_side import RESULTS, drop_rows, load_rows
from benchmarks.steppers import ROOT

ALL = ("commands", "metrics", "preparing", "reading", "opening", "starting", "training", "scoring", "tagging")
QUICK = ("commands", "preparing", "starting", "training")
MINUTES = {False: 20, True: 5}  # that the whole and the guard may take on two quiet cores


@click.command()
@click.option("--quick", is_flag=True, help="The guard.")
def main(quick: bool) -> None:
    """Run the benchmarks; a benchmark that fails does not keep the others from running."""
    failed, seconds, before = [], {}, load_rows(RESULTS)
    for name in QUICK if quick else ALL:
        click.echo(f"{name}:", err=True)
        begin = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(name)
        seconds[name] = time.monotonic() - begin
        click.echo(f"{name}: {seconds[name]:.0f} s", err=True)
    if not (quick or failed) and (old := drop_rows(before, RESULTS)):
        click.echo(f"rows {', '.join(old)} were of an earlier run and are gone", err=True)
    click.echo(describe_time(seconds, MINUTES[quick]), err=True)
    click.echo("benchmarks/RESULTS.md has the table", err=True)
    if failed:
        click.echo(f"failed: {', '.join(failed)}", err=True)
        sys.exit(1)


def describe_time(seconds: dict[str, float], minutes: int) -> str:
    """Return how long all took, against how long it may take, and each benchmark, the longest first."""
    total, limit = sum(seconds.values()), 60 * minutes
    verdict = f"{limit - total:.0f} s under" if total <= limit else f"{total - limit:.0f} s OVER"
    longest = sorted(seconds, key=lambda name: -seconds[name])
    each = ", ".join(f"{name} {seconds[name]:.0f}" for name in longest)
    return f"{total:.0f} s, {verdict} the {minutes} minutes that it may take on two quiet cores ({each})"


if __name__ == "__main__":
    main()
