"""`fcn4dist tensorboard`: a run for TensorBoard, after the fact."""

from __future__ import annotations

from pathlib import Path

import click

from fcn4dist.cli.options import Run, verbosity_options
from fcn4dist.errors import ConfigError


@click.command()
@click.argument("run", type=Run)
@verbosity_options
def tensorboard(run: Path) -> None:
    """Write the event files of RUN into RUN/tensorboard, for `tensorboard --logdir RUN`.

    To have them while a run goes on, launch it with --set launch.tensorboard=true.
    """
    from fcn4dist.run.attempts import locked
    from fcn4dist.run.event_files import convert_run
    from fcn4dist.run.folder import RunDir

    run_dir = RunDir(run)
    if not run_dir.config.is_file():
        found = f"no run here (no {run_dir.config.name})" if run.is_dir() else "no such folder"
        raise ConfigError(f"{run}: {found}; expected the folder of a run")
    with locked(run_dir):  # a launcher that is at work may be writing there
        num_records = convert_run(run_dir)
    click.echo(f"{run_dir.tensorboard}: {num_records} steps and evaluations; tensorboard --logdir {run}")
