"""`fcn4dist train`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from fcn4dist.cli.launch import apply_options, config_to_resume
from fcn4dist.cli.options import (
    config_options,
    data_option,
    demo_option,
    device_target_option,
    force_resume_option,
    is_demo,
    resume_option,
    run_dir_option,
    verbosity_options,
)
from fcn4dist.cli.progress_bar import ConsoleProgress
from fcn4dist.config import RunConfig


@click.command()
@device_target_option
@data_option("data.records_dir")
@demo_option
@run_dir_option
@resume_option
@force_resume_option
@config_options
@verbosity_options
@click.pass_context
def train(
    context: click.Context,
    config: RunConfig,
    device_target: str | None,
    data: Path | None,
    demo: bool,
    run_dir: Path | None,
    resume: Path | None,
    force: bool,
) -> None:
    """Train in this process, on one device: for a debugger, and for `--set train.max_steps=5`.

    The loss of every step is printed. For several devices use `fcn4dist launch`.
    """
    from fcn4dist.launch.in_process import train_here

    is_quiet = bool(context.params.get("quiet"))
    if resume is not None:
        config = config_to_resume(context, resume, force=force)
    config = apply_options(config, None, device_target, data)
    _print_losses(is_quiet)
    progress = ConsoleProgress(is_quiet)
    done = train_here(
        config,
        resume or run_dir,
        resume=resume is not None,
        demo=is_demo(context, config),
        say=click.echo,
        progress=progress,
    )
    click.echo(done)


def _print_losses(is_quiet: bool) -> None:
    """Send the training's lines to stdout as they are, so that what read ModelZoo's output reads ours."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    loop = logging.getLogger("fcn4dist.train")
    loop.addHandler(handler)
    loop.setLevel(logging.WARNING if is_quiet else logging.INFO)
    loop.propagate = False
