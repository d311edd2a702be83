"""`fcn4dist track` and `fcn4dist tensorboard`: a run for a tracker, after the fact."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fcn4dist.cli.options import Run, choice, verbosity_options
from fcn4dist.errors import ConfigError
from fcn4dist.track.tracker import NAMES


@click.command()
@click.argument("run", type=Run)
@click.option("--to", "tracker", required=True, type=choice(NAMES), help="Where to.")
@click.option("--follow", is_flag=True, hidden=True, help="The run's own launcher asks, by the pipe to stdin.")
@verbosity_options
def track(run: Path, tracker: str, follow: bool) -> None:
    """Send RUN to a tracker: what it does not have yet, as the same run there.

    To send a run while it goes on, launch it with --set launch.track=mlflow (or swanlab, wandb, tensorboard). Nothing
    leaves this machine unless the tracker's own variable says so: MLFLOW_TRACKING_URI, WANDB_MODE=online, SWANLAB_MODE=online.
    """
    if follow:
        from fcn4dist.run.folder import RunDir
        from fcn4dist.track.process import follow as follow_run

        return follow_run(RunDir(run), tracker, sys.stdin.buffer)
    click.echo(_send(run, tracker))


@click.command()
@click.argument("run", type=Run)
@verbosity_options
def tensorboard(run: Path) -> None:
    """Write the event files of RUN into RUN/tensorboard, for `tensorboard --logdir RUN`.

    To have them while a run goes on, launch it with --set launch.track=tensorboard.
    """
    click.echo(f"{_send(run, 'tensorboard')}; tensorboard --logdir {run}")


def _send(run: Path, tracker: str) -> str:
    from fcn4dist.run.attempts import locked
    from fcn4dist.run.folder import RunDir
    from fcn4dist.run.state import read_state
    from fcn4dist.track.follower import send_run
    from fcn4dist.track.tracker import require_tracker

    run_dir = RunDir(run)
    if not run_dir.config.is_file():
        found = f"no run here (no {run_dir.config.name})" if run.is_dir() else "no such folder"
        raise ConfigError(f"{run}: {found}; expected the folder of a run")
    require_tracker(tracker)
    with locked(run_dir):  # a launcher that is at work may be telling the tracker
        num_points = send_run(run_dir, tracker, read_state(run_dir, is_over=True).kind)
    return f"{run} to {tracker}: {num_points} new steps and evaluations"
