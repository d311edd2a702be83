"""The pipeline of `fcn4dist launch`, on one host and on many: prepare -> agree -> attempt -> conclude -> tell."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fcn4dist import __version__
from fcn4dist.config import RunConfig, override_config
from fcn4dist.data.source import check_source
from fcn4dist.errors import Fcn4distError
from fcn4dist.hosts.local import LocalSession
from fcn4dist.hosts.place import resolve_master
from fcn4dist.hosts.roster import HostCard, Readiness, shared_config
from fcn4dist.hosts.session import Say, Session
from fcn4dist.job.devices import HostDevices
from fcn4dist.job.events import WallClock
from fcn4dist.job.ports import LOOPBACK, check_port
from fcn4dist.job.state import Outcome
from fcn4dist.launch import endings
from fcn4dist.launch.attempt import run_attempt
from fcn4dist.launch.host_job import HostJob, LaunchRequest, check_own_precision, choose_devices, say_on, survey
from fcn4dist.run.attempts import check_run_dir, dated_folder, locked, next_attempt
from fcn4dist.run.folder import RunDir
from fcn4dist.run.terminal import format_duration
from fcn4dist.track.process import tracked
from fcn4dist.track.tracker import require_tracker

if TYPE_CHECKING:
    from fcn4dist.launch.training_data import ShownProgress

Attempt = Callable[..., Outcome]  # run_attempt, or what a test plays in its place


def launch(config: RunConfig, request: LaunchRequest, console: Console, progress: ShownProgress | None = None) -> str:
    """Train on this host's devices, with the launchers of the other hosts where there are any; return the last line.

    Raises UserError before anything starts when the input is wrong or the hosts disagree, JobError naming what failed first, and
    Interrupted when a signal to any of the launchers ended the job.
    """

    num_hosts = 1 if request.place is None else request.place.num_nodes
    check_source(config, demo=request.demo, num_hosts=num_hosts)
    say, place = functools.partial(say_on, console), request.place
    if place is not None and place.devices is not None and request.devices is None:
        config = override_config(config, launch={"devices": place.devices})
    trackers = config.launch.trackers if request.is_chief else ()  # where rank 0 writes its metrics
    for name in trackers:
        require_tracker(name)
    host = choose_devices(survey(config, imagined=False), place)
    check_own_precision(config.train, host.target)
    run_path = request.run_dir or dated_folder()
    if request.is_chief:
        check_run_dir(RunDir(run_path.absolute()), resume=request.resume)
    with contextlib.closing(open_session(config, request, host, say)) as session:
        session.give_up_after(config.launch.peer_timeout_s)
        layout = session.join(config.launch.join_timeout_s, str(run_path), say)
        if place is not None:
            say(f"{len(layout.nodes)} hosts, {layout.world_size} ranks; here: {layout.nodes[place.node_rank].ranks}")
        path = (request.run_dir or Path(layout.run_dir)).absolute()
        job = HostJob(config, request, host, session, RunDir(path, session.card.node_rank), console)
        with contextlib.ExitStack() as stack:
            with told(session):
                if not request.is_chief and not request.resume:  # this host has not run another job there
                    check_run_dir(job.run_dir, resume=False)
                stack.enter_context(locked(job.run_dir))
                ready = job.prepare(progress)
            if request.is_chief:
                stack.enter_context(endings.reported(job.run_dir, say))
            stack.enter_context(tracked(job.run_dir, trackers))
            return run_to_the_end(job, ready)


def open_session(config: RunConfig, request: LaunchRequest, host: HostDevices, say: Say) -> Session:
    """Return this host's session; on the master of several it listens already. Raises ConfigError."""
    place = request.place
    if place is None:
        if request.master_port is not None:
            check_port(request.master_port)
        return LocalSession(introduce(config, request, host, LOOPBACK))
    from fcn4dist.hosts.master import MasterSession  # asyncio and ssl load here, not for one host
    from fcn4dist.hosts.member import MemberSession
    from fcn4dist.hosts.wire import load_secret

    secret = load_secret(request.job_secret_file, os.environ)
    addresses = resolve_master(place)
    say(f"node {place.node_rank} of {place.num_nodes} hosts, by {place.source}")
    card = introduce(config, request, host, addresses[0])
    if not place.is_master:
        return MemberSession(card, (addresses, place.master_port), secret)
    check_port(place.master_port, addresses[0])
    return MasterSession(card, place.master_port, secret, place.names)


def introduce(config: RunConfig, request: LaunchRequest, host: HostDevices, address: str) -> HostCard:
    """Return what this host says of itself."""
    place = request.place
    return HostCard(
        node_rank=0 if place is None else place.node_rank,
        num_nodes=1 if place is None else place.num_nodes,
        host=socket.gethostname(),
        address=address,
        devices=len(host.devices),
        target=host.target,
        resume=request.resume,
        rank_table="file" if request.given_table is not None else request.rank_table,
        versions={"fcn4dist": __version__, "mindspore": importlib.metadata.version("mindspore")},
        config=shared_config(config) if request.has_config else None,
        expected=None if place is None or place.expected is None else list(place.expected),
    )


@contextlib.contextmanager
def told(session: Session) -> Iterator[None]:
    """Tell the other hosts of an error here, so that all say it at once."""
    try:
        yield
    except Fcn4distError as error:
        session.give_up(error)
        raise


def run_to_the_end(job: HostJob, ready: Readiness, attempt: Attempt = run_attempt) -> str:
    """Run attempts until one ends well, is stopped, or fails with no restart left; tell how that one went.

    `attempt` starts the processes of a plan and stays until none is left.
    """
    session, layout = job.session, job.session.layout
    num_restarts, started_s = 0, WallClock()()
    while True:
        with endings.said_how_to_go_on(job.run_dir, layout, has_run=num_restarts > 0):
            readies = session.gather(ready, job.say)
            with told(session):
                go = job.decide(readies) if session.is_chief else None
            go = session.begin(go)
        with told(session):
            plan = job.accept(go)
            shown = job.console_of(plan, started_s, num_restarts)
            limits = job.config.launch
            with shown:
                outcome = attempt(
                    *(plan, shown),
                    grace_s=limits.grace_s,
                    stall_timeout_s=limits.stall_timeout_s,
                    phase_timeout_s=limits.phase_timeout_s,
                    session=session,
                )
        kind = "success" if endings.is_finished(outcome, plan) else outcome.kind
        failure = endings.find_own_failure(outcome, job.run_dir, plan.attempt, job.node.name)
        verdict = session.conclude(kind, None if failure is None else asdict(failure))
        refusal = ""
        if session.is_chief:
            decision = job.decide_restart(verdict, outcome, plan, has_progress=shown.has_progress)
            verdict, refusal = replace(verdict, restart_in_s=decision.delay_s), decision.reason
            session.pronounce(verdict)
        if verdict.restart_in_s is None:
            endings.tell(verdict, layout, plan, refusal)
            elapsed = format_duration(WallClock()() - started_s)
            own_part = f"done: {job.node.ranks}, {elapsed}; {job.run_dir.path}"
            end = endings.end_of(plan)
            return shown.summary(job.run_dir, None if end is None else end.early) if session.is_chief else own_part
        with told(session):
            if verdict.restart_in_s > 0:
                num_restarts += 1
                culprit = endings.failure_of(verdict, layout, plan.attempt)
                job.say(endings.note_restart(culprit, plan, num_restarts, limits.max_restarts, verdict.restart_in_s))
                endings.wait_for_restart(verdict.restart_in_s, plan, layout)
            else:
                job.say(f"port {plan.meeting.scheduler_port} was taken by another program; starting with another one")
        ready = ready.model_copy(update={"attempt": next_attempt(job.run_dir)})
