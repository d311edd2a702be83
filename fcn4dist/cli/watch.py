"""`fcn4dist watch`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fcn4dist.cli.options import AnyPath, verbosity_options


@click.command()
@click.argument("run", type=AnyPath, metavar="RUN")
@click.option("--once", is_flag=True, help="Print how far the run is, and end.")
@click.option("--ranks", "with_ranks", is_flag=True, help="A line a rank: what it does, times, memory, CPU.")
@verbosity_options
def watch(run: Path, once: bool, with_ranks: bool) -> None:
    """Show how far a run is, from any terminal that sees its folder, until it ends.

    Only files are read: neither the run nor its launcher notices. Ctrl-C ends the watching, not the run. Exit codes: 0 the run
    finished or was stopped on request, 1 it failed, 2 there is none.
    """
    from fcn4dist.run.terminal import build_console
    from fcn4dist.run.watch import watch_run

    watch_run(run, build_console(sys.stdout), once=once, with_ranks=with_ranks)
