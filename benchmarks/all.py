"""Every row of the table, one benchmark after the other: `make bench`; `--quick`, the guard before a release: `make bench-quick`.

The guard takes rows 1, 4, 5, 7, 8 and 12 and exits 1 where the median of three tries is under 0.85 of a bar.
"""

from __future__ import annotations

import subprocess
import sys
import time

import click

from benchmarks.steppers import ROOT

ALL = ("commands", "metrics", "preparing", "reading", "starting", "training", "checkpoints", "tagging")
QUICK = ("commands", "preparing", "starting", "training")


@click.command()
@click.option("--quick", is_flag=True, help="The guard.")
def main(quick: bool) -> None:
    """Run the benchmarks; a benchmark that fails does not keep the others from running."""
    failed, seconds = [], {}
    for name in QUICK if quick else ALL:
        click.echo(f"{name}:", err=True)
        begin = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(name)
        seconds[name] = time.monotonic() - begin
    each = ", ".join(f"{name} {took_s:.0f}" for name, took_s in seconds.items())
    click.echo(f"{sum(seconds.values()):.0f} s ({each}); benchmarks/RESULTS.md has the table", err=True)
    if failed:
        click.echo(f"failed: {', '.join(failed)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
