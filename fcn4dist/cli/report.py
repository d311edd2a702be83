"""`fcn4dist report`."""

from __future__ import annotations

from pathlib import Path

import click

from fcn4dist.cli.options import AnyPath, FilePath, verbosity_options


@click.command()
@click.argument("runs", nargs=-1, required=True, type=AnyPath, metavar="RUN...")
@click.option(
    "--output",
    type=FilePath,
    metavar="FILE",
    help="Where the page goes.  [default: RUN/report.html; of several runs compare.html]",
)
@click.option("--is-over", is_flag=True, hidden=True, help="For launchers: the run is not counted as running.")
@verbosity_options
def report(runs: tuple[Path, ...], output: Path | None, is_over: bool) -> None:
    """Write one HTML page about a run, or one that compares several runs.

    The page needs no network and no server; it is made from the run's folder alone, also of a run that still goes on or failed.
    """
    from fcn4dist.report.comparison import write_comparison
    from fcn4dist.report.page import write_report

    if len(runs) == 1:
        click.echo(write_report(runs[0], output, is_over=is_over))
    else:
        click.echo(write_comparison(runs, output or Path("compare.html")))
