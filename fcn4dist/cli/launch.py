"""`fcn4dist launch`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fcn4dist.cli.options import (
    FilePath,
    config_options,
    data_option,
    demo_option,
    device_target_option,
    devices_option,
    force_resume_option,
    hostfile_option,
    is_demo,
    json_option,
    resume_option,
    run_dir_option,
    verbosity_options,
)
from fcn4dist.cli.progress_bar import ConsoleProgress
from fcn4dist.config import RunConfig, override_config
from fcn4dist.errors import ConfigError
from fcn4dist.run.folder import RunDir

if TYPE_CHECKING:
    from fcn4dist.launch.host_job import LaunchRequest


@click.command()
@devices_option
@device_target_option
@data_option("data.records_dir")
@demo_option
@run_dir_option
@resume_option
@click.option("--master-port", type=int, metavar="PORT", help="The scheduler's port; over hosts the launchers'.")
@click.option("--nodes", type=int, metavar="K", help="Hosts of the job; run the same command on each.  [default: 1]")
@click.option("--node-rank", type=int, metavar="I", help="This host's number, 0 to K-1; ranks follow it.")
@click.option("--master-addr", metavar="HOST", help="Name or address of node 0, where launchers and scheduler listen.")
@hostfile_option
@click.option(
    "--job-secret-file", type=FilePath, metavar="FILE", help="The hosts' secret.  [default: FCN4DIST_JOB_SECRET]"
)
@click.option(
    "--rank-table",
    metavar="auto|none|export|FILE",
    default="auto",
    help="Rank table of an Ascend job; export and FILE hand it to HCCL.  [default: auto]",
)
@force_resume_option
@click.option(
    "--seeds",
    metavar="S,S,...",
    help="One run a train.seed, one after the other, in RUN/seed-S of the folder that --run-dir names. With --resume RUN, those "
    "that are not finished.",
)
@click.option("--max-restarts", type=int, metavar="N", help="Restarts after a failure.  [default: launch.max_restarts]")
@click.option("--ranks", "shows_ranks", is_flag=True, help="On a terminal: a line a rank, live.")
@click.option("--dry-run", is_flag=True, help="Print the plan; start and write nothing.")
@json_option
@config_options
@verbosity_options
@click.pass_context
def launch(
    context: click.Context,
    /,
    config: RunConfig,
    devices: int | None,
    device_target: str | None,
    data: Path | None,
    demo: bool,
    run_dir: Path | None,
    resume: Path | None,
    force: bool,
    seeds: str | None,
    max_restarts: int | None,
    master_port: int | None,
    job_secret_file: Path | None,
    rank_table: str,
    shows_ranks: bool,
    dry_run: bool,
    as_json: bool,
    **host_options: Any,
) -> None:
    """Train on N devices of this host, or of several hosts together, with a rank-0 evaluator.

    On the embedded demo set with --demo, or when nothing is given that speaks of data or network. Every rank's output is in
    RUN/logs/attempt-K/rank-R.log. A signal stops the job after the current step, with a checkpoint; of several seeds, it stops
    the whole. Exit codes: 0 done, 1 a process failed, 2 the input is wrong, 128+n ended by signal n.
    """
    from fcn4dist.hosts.find_place import HostOptions, find_place
    from fcn4dist.launch.host_job import LaunchRequest
    from fcn4dist.run.terminal import build_console

    place = find_place(HostOptions(master_port=master_port, **host_options), os.environ, imagined=dry_run)
    if as_json and not dry_run:
        raise ConfigError("--json: goes with --dry-run")
    request = LaunchRequest(
        master_port=master_port,
        devices=devices,
        rank_table=rank_table,
        job_secret_file=job_secret_file,
        shows_ranks=shows_ranks,
        place=place,
    )
    if seeds is not None:
        _launch_seeds(context, config, seeds, request)
        return
    node = 0 if place is None else place.node_rank
    has_config = resume is None or place is None or place.is_master or RunDir(resume, node).config.is_file()
    if resume is not None and has_config:
        config = config_to_resume(context, resume, force=force, node=node)
    elif resume is not None and (context.params.get("config_file") or context.params.get("overrides")):
        raise ConfigError(f"--resume {resume}: node 0 has this run's config; give --config and --set there")
    config = apply_options(config, devices, device_target, data, max_restarts)
    request = replace(request, run_dir=resume or run_dir, resume=resume is not None, has_config=has_config)
    request = replace(request, demo=is_demo(context, config))
    if dry_run:
        from fcn4dist.launch.dry_run import show_dry_run

        show_dry_run(config, request, build_console(sys.stdout), as_json=as_json)
        return
    from fcn4dist.launch.pipeline import launch as launch_job

    progress = ConsoleProgress(is_quiet=bool(context.params.get("quiet")))
    click.echo(launch_job(config, request, build_console(sys.stderr), progress))


def _launch_seeds(context: click.Context, config: RunConfig, seeds: str, request: LaunchRequest) -> None:
    """Launch one run a seed, and print the last line of each."""
    from fcn4dist.launch.endings import leave_report
    from fcn4dist.launch.pipeline import launch as launch_job
    from fcn4dist.launch.seeds import SeedRuns, check_folder, launch_seeds, parse_seeds
    from fcn4dist.run.attempts import dated_folder
    from fcn4dist.run.terminal import build_console

    given = context.params
    resume, force = given["resume"], given["force"]
    if given["dry_run"]:
        raise ConfigError("--dry-run: shows one run; leave --seeds out")
    if request.place is not None and request.place.num_nodes > 1:
        raise ConfigError(
            "--seeds: on one host; over several, launch once a seed with --set train.seed=S --run-dir RUN/seed-S"
        )
    if any(override.partition("=")[0].strip() == "train.seed" for override in given.get("overrides") or ()):
        raise ConfigError("--set train.seed: --seeds names the seeds; leave one of the two out")
    if resume is not None and given["run_dir"] is not None:
        raise ConfigError("--run-dir: --resume goes on in the folder of the seeds; leave it out")
    runs = SeedRuns((resume or given["run_dir"] or dated_folder()).absolute(), parse_seeds(seeds))
    check_folder(runs, resume=resume is not None)
    options = (given["devices"], given["device_target"], given["data"], given["max_restarts"])
    console, progress = build_console(sys.stderr), ConsoleProgress(is_quiet=bool(given.get("quiet")))

    def say(line: str) -> None:
        click.echo(line, err=True)

    def launch_one(own: RunConfig, run_dir: Path, is_resumed: bool) -> str:
        say(f"seed {own.train.seed}: {run_dir}")
        named = replace(request, run_dir=run_dir, resume=is_resumed, demo=is_demo(context, own))
        return launch_job(own, named, console, progress)

    def resume_one(run_dir: Path) -> RunConfig:
        return apply_options(config_to_resume(context, run_dir, force=force), *options)

    new = None if resume is not None else apply_options(config, *options)
    for line in launch_seeds(new, runs, say, launch_one, resume_one):
        click.echo(line)
    if reason := leave_report(RunDir(runs.folder)):
        say(f"no report: {reason}; `fcn4dist report {runs.folder}` tries again")


def config_to_resume(context: click.Context, run_dir: Path, *, force: bool, node: int = 0) -> RunConfig:
    """Return the config of the run in `run_dir` with the command line's changes; the harmful ones are refused."""
    from fcn4dist.launch.resume import load_config_to_resume
    from fcn4dist.launch.training_data import forget_defaults

    parameters = context.params
    if parameters.get("run_dir") is not None:
        raise ConfigError("--run-dir: --resume goes on in the run's own directory; leave it out")
    config = load_config_to_resume(
        RunDir(run_dir, node), parameters.get("config_file"), parameters.get("overrides") or (), force=force
    )
    return forget_defaults(config)


def apply_options(
    config: RunConfig,
    devices: int | None = None,
    device_target: str | None = None,
    data: Path | None = None,
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
