"""`fcn4dist doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fcn4dist.cli.launch import apply_options, config_to_resume
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
from fcn4dist.config import RunConfig
from fcn4dist.run.folder import RunDir

if TYPE_CHECKING:
    from fcn4dist.doctor.question import Check

NAME_WIDTH = 15
COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command()
@devices_option
@click.option("--rank-table", type=FilePath, metavar="FILE", help="A rank table to check, too.")
@data_option("data.records_dir")
@demo_option
@device_target_option
@run_dir_option
@resume_option
@force_resume_option
@hostfile_option
@click.option(
    "--quick", is_flag=True, help="Leave out what takes seconds: trials of MindSpore and CANN, digests of shards."
)
@click.option(
    "--npu", is_flag=True, help="Start a rank a device too: one allreduce, one convolution, with their times."
)
@config_options
@json_option
@verbosity_options
@click.pass_context
def doctor(
    context: click.Context,
    config: RunConfig,
    devices: int | None,
    rank_table: Path | None,
    data: Path | None,
    demo: bool,
    device_target: str | None,
    run_dir: Path | None,
    resume: Path | None,
    force: bool,
    hostfile: Path | None,
    quick: bool,
    npu: bool,
    as_json: bool,
) -> None:
    """Check this machine, and what a config needs of it, before anything starts.

    A line a check: ok, warning (it may fail or be slow) or error (a job would fail), with what to do about it; -q shows
    only what is not ok. --hostfile compares the clocks of its hosts, by ssh. --npu needs the devices to be free: a rank on
    each (--devices N: on N of them) is started as `launch` would.

    Exit codes: 0 no error, 1 an error was found, 2 the config itself is wrong.
    """
    import json

    from fcn4dist.doctor.examination import Examination, examine

    if resume is not None:
        runs = [resume, *sorted(resume.glob("seed-*"))]  # a folder of seeds: the first that was begun
        resume = next((run for run in runs if RunDir(run).config.is_file()), resume)
        config = config_to_resume(context, resume, force=force)
    is_counted = devices is not None or "devices" in config.launch.model_fields_set
    config = apply_options(config, devices, device_target, data)
    asked = Examination(
        *(config, rank_table, resume or run_dir or Path("runs"), hostfile),
        demo=is_demo(context, config),
        tries_devices=npu,
        num_devices=config.launch.devices if is_counted else None,
        is_quick=quick,
    )
    checks: list[Check] = []
    for check in examine(asked):
        checks.append(check)
        if not as_json and not (check.status == "ok" and context.params.get("quiet")):
            echo_check(check)
    if as_json:
        click.echo(json.dumps([check.to_json() for check in checks], indent=2))
    else:
        click.echo(summary(checks))
    if any(check.status == "error" for check in checks):
        sys.exit(1)


def echo_check(check: Check) -> None:
    """Print one line, and one more for the remedy."""
    status = click.style(f"{check.status:<8}", fg=COLOURS[check.status])
    click.echo(f"{status} {check.name:<{NAME_WIDTH}} {check.message}")
    if check.remedy:
        click.echo(f"{'':8} {'':<{NAME_WIDTH}} -> {check.remedy}")


def summary(checks: list[Check]) -> str:
    """Return the last line: how many of each, and what that means."""
    counts = {status: sum(check.status == status for check in checks) for status in COLOURS}
    if counts["error"]:
        verdict = "a job would fail here"
    else:
        verdict = "ready" if not counts["warning"] else "ready, with warnings"
    parts = [f"{counts[status]} {status}{'s' if status != 'ok' and counts[status] != 1 else ''}" for status in COLOURS]
    return f"{verdict}: {', '.join(parts)}"
