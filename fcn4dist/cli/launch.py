"""`fcn4dist launch`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from fcn4dist.cli.options import config_options, verbosity_options
from fcn4dist.cli.progress import ConsoleProgress
from fcn4dist.config import RunConfig, override_config
from fcn4dist.errors import ConfigError
from fcn4dist.run_dir import RunDir

Folder = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--devices", type=int, metavar="N", help="Workers on this host, one a device.  [default: launch.devices]")
@click.option("--device-target", type=click.Choice(["auto", "Ascend", "CPU"]), help="[default: launch.device_target]")
@click.option("--data", type=Folder, metavar="DIR", help="Prepared data set.  [default: the embedded demo set]")
@click.option("--run-dir", type=Folder, metavar="DIR", help="Where the run is written.  [default: runs/<date-time>]")
@click.option("--resume", type=Folder, metavar="RUN_DIR", help="Continue this run from its last checkpoint.")
@click.option("--force", is_flag=True, help="With --resume: go on although the config differs.")
@click.option("--max-restarts", type=int, metavar="N", help="Restarts after a failure.  [default: launch.max_restarts]")
@click.option("--master-port", type=int, metavar="PORT", help="The scheduler's port.  [default: a free one]")
@click.option("--dry-run", is_flag=True, help="Print the plan; start and write nothing.")
@config_options
@verbosity_options
@click.pass_context
def launch(
    context: click.Context,
    config: RunConfig,
    devices: int | None,
    device_target: str | None,
    data: Path | None,
    run_dir: Path | None,
    resume: Path | None,
    force: bool,
    max_restarts: int | None,
    master_port: int | None,
    dry_run: bool,
) -> None:
    """Train on N devices of this host, with a rank-0 evaluator.

    With no data named, on the embedded demo set. Every rank's output is in RUN/logs/attempt-K/rank-R.log. A signal stops the
    job after the current step, with a checkpoint. Exit codes: 0 done, 1 a process failed, 2 the input is wrong, 128+n ended
    by signal n.
    """
    from fcn4dist.cluster.console import build_console
    from fcn4dist.launch import LaunchRequest, launch_job

    if resume is not None:
        config = config_to_resume(context, resume, force=force)
    config = apply_options(config, devices, device_target, data, max_restarts)
    request = LaunchRequest(resume or run_dir, resume is not None, master_port, dry_run)
    with ConsoleProgress(is_quiet=bool(context.params.get("quiet"))) as progress:
        launch_job(config, request, build_console(sys.stdout), progress)


def config_to_resume(context: click.Context, run_dir: Path, *, force: bool) -> RunConfig:
    """Return the config of the run in `run_dir` with the command line's changes; the harmful ones are refused."""
    from fcn4dist.resume import load_config_to_resume

    parameters = context.params
    if parameters.get("run_dir") is not None:
        raise ConfigError("--run-dir: --resume goes on in the run's own directory; leave it out")
    return load_config_to_resume(
        RunDir(run_dir), parameters.get("config_file"), parameters.get("overrides") or (), force=force
    )


def apply_options(
    config: RunConfig,
    devices: int | None,
    device_target: str | None,
    data: Path | None,
    max_restarts: int | None = None,
) -> RunConfig:
    """Put the command's own options over the config."""
    if devices is not None and devices < 1:
        raise ConfigError(f"--devices {devices}: expected at least 1")
    changes: dict[str, dict[str, Any]] = {}
    if devices is not None:
        changes.setdefault("launch", {})["devices"] = devices
    if device_target is not None:
        changes.setdefault("launch", {})["device_target"] = device_target
    if max_restarts is not None:
        changes.setdefault("launch", {})["max_restarts"] = max_restarts
    if data is not None:
        changes["data"] = {"records_dir": data}
    return override_config(config, **changes)
