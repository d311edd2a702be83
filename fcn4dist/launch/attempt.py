"""One attempt of a job on this host: its processes, what watches them, and how they ended."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from fcn4dist.job.events import Event, EventLog, Inbox, Started, WallClock
from fcn4dist.job.oom import OomRecord
from fcn4dist.job.plan import JobPlan
from fcn4dist.job.sampler import RunWatcher, Sampler, UsageRecorder, WatchedFiles
from fcn4dist.job.state import Outcome
from fcn4dist.job.supervisor import Supervisor
from fcn4dist.job.worker_env import strip_stale

if TYPE_CHECKING:
    from fcn4dist.hosts.session import Session


class Shows(Protocol):
    """Shows a person what happens: JobConsole, or less."""

    def on_event(self, event: Event) -> None:
        """Show one event."""


def run_attempt(
    plan: JobPlan,
    shown: Shows,
    *,
    grace_s: float,
    stall_timeout_s: float | None = None,
    phase_timeout_s: float | None = None,
    session: Session | None = None,
) -> Outcome:
    """Start the processes of `plan` and stay until none is left.

    Without `stall_timeout_s` and `phase_timeout_s` there is no watchdog; `session`: with the launchers of other hosts.
    """
    run_dir, clock = plan.run_dir, WallClock()
    inbox = Inbox()
    if session is not None:
        session.attach(inbox, clock)
    usage, oom = UsageRecorder(run_dir.usage, clock, plan.attempt), OomRecord()
    pids: dict[str, int] = {}

    def listen(event: Event) -> None:
        usage.on_event(event)
        shown.on_event(event)
        if isinstance(event, Started):
            pids[event.process] = event.pid

    supervisor = Supervisor(
        plan.processes,
        strip_stale(os.environ),
        grace_s=grace_s,
        stall_timeout_s=stall_timeout_s,
        phase_timeout_s=phase_timeout_s,
        event_log=EventLog(run_dir.events, plan.attempt),
        inbox=inbox,
        clock=clock,
        listener=listen,
        peers=session,
    )
    errors = {spec.name: run_dir.error(plan.attempt, spec.name) for spec in plan.processes}
    pulses = {worker.process.name: run_dir.pulse(plan.attempt, worker.process.name) for worker in plan.workers}
    metrics = run_dir.metrics(plan.meeting.first_rank)
    files = WatchedFiles(metrics, run_dir.evaluation, errors, pulses, plan.meeting.world_size)
    with Sampler(usage, RunWatcher(files, inbox, clock)):
        outcome = supervisor.run()
    while not inbox.empty():
        shown.on_event(inbox.get())
    remove_empty_stacks(plan)
    killed = [exited.process for exited in outcome.failures if exited.status.signal == signal.SIGKILL]
    killers = {name: by for name in killed if name in pids and (by := oom.judge(pids[name])) is not None}
    return replace(outcome, killers=killers)


def remove_empty_stacks(plan: JobPlan) -> None:
    """Remove the files into which this host's ranks wrote no stack; those of another host in a shared folder are its own."""
    for worker in plan.workers:
        file = plan.run_dir.stack(plan.attempt, worker.process.name)
        if file.exists() and file.stat().st_size == 0:
            file.unlink()
