"""The pipeline of `fcn4dist launch`: check, plan, run, tell how it went."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fcn4dist.config import RunConfig, format_config, keep_batches, override_config, plan_batches
from fcn4dist.files import save_json, save_text
from fcn4dist.job.console import JobConsole
from fcn4dist.job.devices import HostDevices, require_mindspore, resolve_target, survey_host
from fcn4dist.job.events import WallClock
from fcn4dist.job.plan import JobPlan, Launcher, Meeting, plan_as_json, plan_job
from fcn4dist.job.ports import check_port, choose_port, is_free
from fcn4dist.job.state import SCHEDULER, Outcome
from fcn4dist.launch.attempt import run_attempt
from fcn4dist.launch.job_end import RestartHistory, report_outcome
from fcn4dist.launch.report_at_end import reported
from fcn4dist.launch.resume import check_resumable
from fcn4dist.launch.training_data import check_data, resolve_data
from fcn4dist.run.attempts import check_run_dir, dated_folder, locked, next_attempt, writing
from fcn4dist.run.environment import describe_environment
from fcn4dist.run.event_files import event_files, require_tensorboard
from fcn4dist.run.folder import RunDir
from fcn4dist.run.view import live_drawing

if TYPE_CHECKING:
    from fcn4dist.hosts.place import Place
    from fcn4dist.launch.training_data import ShownProgress

PORT_TRIES = 5  # how often a port that was lost to another program is replaced


@dataclass(frozen=True)
class LaunchRequest:
    """What the user asked for beside the config."""

    run_dir: Path | None = None  # None: runs/<date and time>
    resume: bool = False  # run_dir is a run to continue
    master_port: int | None = None  # None: a free one
    dry_run: bool = False
    devices: int | None = None  # of --devices; what a host file or an operator says comes after it
    rank_table: str = "auto"  # auto, none, or a file
    job_secret_file: Path | None = None
    shows_ranks: bool = False  # a line a rank on the live console


def launch_job(
    config: RunConfig, request: LaunchRequest, console: Console, progress: ShownProgress | None = None
) -> None:
    """Train with `config.launch.devices` processes on this host; returns when all of them have ended well.

    Raises UserError before anything starts when the input is wrong, JobError naming the process that failed first, and
    Interrupted when a signal ended the job.
    """

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if request.dry_run:
        show_dry_run(config, request, console)
        return
    if config.launch.tensorboard:
        require_tensorboard()
    num_ranks = config.launch.devices
    host = survey(config, imagined=False)
    plan_batches(config.train, num_ranks)
    run_dir = RunDir((request.run_dir or dated_folder()).absolute())
    check_run_dir(run_dir, resume=request.resume)
    if request.master_port is not None:
        check_port(request.master_port)
    table = _check_rank_table(request, host, run_dir, say)
    with locked(run_dir):
        config = resolve_data(config, run_dir, say, progress)
        batches = plan_batches(config.train, num_ranks)
        data = check_data(config, batches)
        if (note := data.length_note) is not None:
            say(f"note: {note}")
        if request.resume:
            check_resumable(run_dir, config, data)
        config = keep_batches(config, batches)
        with writing(run_dir):
            save_text(run_dir.config, format_config(config))
            save_json(run_dir.environment, describe_environment())
            run_dir.failure.unlink(missing_ok=True)
            if table is not None:  # the run keeps what it was started with
                save_text(run_dir.rank_table, table.read_text(encoding="utf-8"))
        exported = None if table is None else str(run_dir.rank_table)
        with reported(run_dir, say), event_files(run_dir, is_wanted=config.launch.tensorboard):
            _run_to_the_end(config, run_dir, host, request, data.num_rows("train"), console, exported)


def _check_rank_table(
    request: LaunchRequest, host: HostDevices, run_dir: RunDir, say: Callable[[str], None]
) -> Path | None:
    """Return the rank table that the workers get; one host needs none, so only one that was given, and on Ascend."""
    if request.rank_table in ("auto", "none"):
        return None
    from fcn4dist.hosts.job_table import check_table_of_one_host, load_given_table

    is_exported = host.target == "Ascend"
    table = load_given_table(Path(request.rank_table), host.target, os.environ, run_dir.rank_table)
    check_table_of_one_host(table, request.rank_table, host.devices, is_exported=is_exported)
    if not is_exported:
        say(f"{request.rank_table}: {table.world_size} ranks as in the job; not exported, since CPU needs none")
        return None
    return Path(request.rank_table)


def survey(config: RunConfig, *, imagined: bool) -> HostDevices:
    """Return the devices of this host that the job uses; `imagined`: of a host that has all that is asked for."""
    wanted = config.launch.device_target
    if not imagined:
        require_mindspore()
    target = "Ascend" if imagined and wanted == "Ascend" else resolve_target(wanted)
    return survey_host(target, config.launch.devices, bind_cores=config.launch.bind_cores, imagined=imagined)


def show_dry_run(
    config: RunConfig, request: LaunchRequest, console: Console, place: Place | None = None, *, as_json: bool = False
) -> None:
    """Print what `launch` would do with these options, on one host or several; nothing is started or written.

    Raises UserError for what launch would refuse.
    """
    from fcn4dist.launch import dry_run  # the demo's config, manifests and rank tables load here

    if place is not None and place.devices is not None and request.devices is None:
        config = override_config(config, launch={"devices": place.devices})
    run_dir = RunDir((request.run_dir or dated_folder()).absolute())
    check_run_dir(run_dir, resume=request.resume)
    host = survey(config, imagined=True)
    job = dry_run.imagine_job(
        config, run_dir.path, host, place, master_port=request.master_port, rank_table=request.rank_table
    )
    text = json.dumps(dry_run.as_json(job), indent=1) if as_json else dry_run.format_dry_run(job)
    console.file.write(text + "\n")  # rich would take seconds over a thousand ranks


def _run_to_the_end(
    config: RunConfig,
    run_dir: RunDir,
    host: HostDevices,
    request: LaunchRequest,
    num_clips: int | None,
    console: Console,
    rank_table: str | None,
) -> None:
    """Run attempts until one ends well, is stopped, or fails with no restart left, and report that one."""
    clock, history = WallClock(), RestartHistory(config.launch.max_restarts, console)
    started_s = clock()
    while True:
        lost: frozenset[int] = frozenset()
        for _ in range(PORT_TRIES):  # another program may take the port that was chosen
            port = request.master_port or choose_port(avoid=lost)
            launcher = Launcher(os.getpid(), os.environ, next_attempt(run_dir))
            plan = plan_job(
                config, run_dir, host, Meeting.on_one_host(config.launch.devices, port), launcher, rank_table
            )
            with writing(run_dir):
                save_json(run_dir.plan, plan_as_json(plan, num_clips))
            shown = JobConsole(
                *(console, clock),
                world_size=plan.meeting.world_size,
                started_s=started_s,
                num_restarts=history.num_restarts,
                draw=live_drawing(run_dir, with_ranks=request.shows_ranks),
            )
            with shown:
                launch = config.launch
                outcome = run_attempt(
                    *(plan, shown),
                    grace_s=launch.grace_s,
                    stall_timeout_s=launch.stall_timeout_s,
                    phase_timeout_s=launch.phase_timeout_s,
                )
            if request.master_port is not None or shown.has_progress or not lost_port(plan, outcome):
                break
            lost |= {port}
        if not history.restarts_after(outcome, plan, has_progress=shown.has_progress):
            break
    report_outcome(outcome, plan, shown, console, history.refusal)


def lost_port(plan: JobPlan, outcome: Outcome) -> bool:
    """Whether the scheduler failed because another program took its port between our choice and its start."""
    failed = {exited.process for exited in (*outcome.failures, *outcome.consequences)}
    return outcome.kind == "failure" and SCHEDULER in failed and not is_free(plan.meeting.scheduler_port)
