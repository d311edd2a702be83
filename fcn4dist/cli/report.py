"""`fcn4dist report`."""

from __future__ import annotations

from pathlib import Path

import click

from fcn4dist.cli.options import Run, output_option, verbosity_options
from fcn4dist.errors import ConfigError
from fcn4dist.run.folder import RunDir


@click.command()
@click.argument("runs", nargs=-1, required=True, type=Run, metavar="RUN...")
@output_option(
    "Where the page goes.  [default: RUN/report.html, also of a folder of runs; of several named compare.html]"
)
@click.option("--last", is_flag=True, help="Show the last checkpoint's figures; by default the best one's.")
@click.option("--is-over", is_flag=True, hidden=True, help="For launchers: the run is not counted as running.")
@verbosity_options
def report(runs: tuple[Path, ...], output: Path | None, last: bool, is_over: bool) -> None:
    """Write one HTML page about a run, or one that compares several runs.

    A folder of runs, as `launch --seeds` leaves it, means all of them. Runs that differ only in seed or fold are a group, with
    mean and spread. The figures are those of a run's best checkpoint, and the page names it.

    The page needs no network and no server; it is made from the run's folder alone, also of a run that still goes on or failed.
    """
    from fcn4dist.report.comparison import write_comparison
    from fcn4dist.report.page import write_report
    from fcn4dist.run.groups import find_runs

    found = [run for path in runs for run in find_runs(path)]
    if len(runs) == 1 and found == [runs[0]]:
        click.echo(write_report(runs[0], output, is_over=is_over, last=last))
        return
    if last:
        raise ConfigError("--last: goes with one run")
    default = RunDir(runs[0]).report if len(runs) == 1 else Path("compare.html")
    click.echo(write_comparison(found, output or default))
