"""`fcn4dist watch`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fcn4dist.cli.options import Run, is_quiet, verbosity_options
from fcn4dist.errors import ConfigError


@click.command()
@click.argument("run", type=Run, required=False)
@click.option("--once", is_flag=True, help="Print how far the run is, and end.")
@click.option("--ranks", "with_ranks", is_flag=True, help="A line a rank: what it does, times, memory, CPU.")
@verbosity_options
def watch(run: Path | None, once: bool, with_ranks: bool) -> None:
    """Show how far a run is, from any terminal that sees its folder, until it ends.

    Without RUN: the one below ./runs to which something was written last.

    Only files are read: neither the run nor its launcher notices. Ctrl-C ends the watching, not the run. Exit codes: 0 the run
    finished or was stopped on request, 1 it failed, 2 there is none.
    """
    from fcn4dist.run.terminal import build_console
    from fcn4dist.run.watch import watch_run

    if run is None:
        run = find_newest(Path("runs"))
        if not is_quiet():
            click.echo(f"watching {run}, the newest run", err=True)
    watch_run(run, build_console(sys.stdout), once=once, with_ranks=with_ranks)


def find_newest(folder: Path) -> Path:
    """Return the newest run below `folder`. Raises ConfigError where there is none."""
    from fcn4dist.run.groups import find_newest_first

    runs = find_newest_first(folder)
    if not runs:
        raise ConfigError(f"no run below {folder.absolute()}; expected a run's folder: fcn4dist watch RUN")
    return runs[0]
