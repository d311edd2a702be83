"""What a launcher does at the end of an attempt: start again, or say how the job went and leave failure.json."""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fcn4dist.errors import Interrupted, JobError, UserError
from fcn4dist.job.console import JobConsole
from fcn4dist.job.events import EventLog, Inbox, Signalled, WallClock, signals_into
from fcn4dist.job.failure import Failure, explain_failure, format_failure, save_failure
from fcn4dist.job.oom import BY_CGROUP, BY_COUNT, BY_KERNEL
from fcn4dist.job.plan import JobPlan
from fcn4dist.job.process import signal_name
from fcn4dist.job.state import Outcome
from fcn4dist.launch.restarts import FailedAttempt, decide_restart
from fcn4dist.run.checkpoints import list_checkpoints
from fcn4dist.run.state import RankEnd, load_end


class RestartHistory:
    """The failed attempts of one job."""

    def __init__(self, max_restarts: int, console: Console) -> None:
        self._max_restarts = max_restarts
        self._console = console
        self._attempts: list[FailedAttempt] = []
        self.num_restarts = 0
        self.refusal = ""  # why the last failure was not followed by a restart

    def restarts_after(self, outcome: Outcome, plan: JobPlan, *, has_progress: bool) -> bool:
        """Say whether the job starts again now; the delay before it has passed by then.

        Raises Interrupted when a signal comes during the delay.
        """
        if outcome.kind != "failure":
            return False
        failure = explain_failure(outcome, plan.run_dir, plan.attempt, socket.gethostname())
        delay_s = self.decide(failure, has_progress=has_progress)
        if delay_s is None:
            return False
        self.wait_for_restart(failure, plan, delay_s)
        return True

    def decide(self, failure: Failure, *, has_progress: bool) -> float | None:
        """Return the delay before the job starts again, or None when it does not: then `refusal` may say why."""
        self._attempts.append(FailedAttempt(failure.kind, failure.is_user_error, has_progress))
        decision = decide_restart(self._attempts, self._max_restarts)
        self.refusal = decision.reason
        return decision.delay_s if decision.restarts else None

    def wait_for_restart(self, failure: Failure, plan: JobPlan, delay_s: float) -> None:
        """Say and note that the job starts again, and wait until then. Raises Interrupted when a signal comes."""
        self.num_restarts += 1
        self._say(failure, plan, delay_s)
        _sleep(delay_s, plan)

    def _say(self, failure: Failure, plan: JobPlan, delay_s: float) -> None:
        found = list_checkpoints(plan.run_dir.checkpoints)
        origin = found[-1].name if found else "the start"
        if not plan.meeting.runs_scheduler:
            origin = "where node 0 has a checkpoint"
        event = {
            "event": "restart",
            "number": self.num_restarts,
            "after": failure.kind,
            "from": origin,
            "delay_s": delay_s,
        }
        EventLog(plan.run_dir.events, plan.attempt).append({"time": round(WallClock()(), 3), **event})
        text = (
            f"{format_failure(failure, plan.run_dir, _save(failure, plan, is_final=False))}\n"
            f"restart {self.num_restarts} of {self._max_restarts} in {delay_s:g} s, from {origin}"
        )
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _sleep(delay_s: float, plan: JobPlan) -> None:
    """Wait, but not through a signal."""
    inbox, clock = Inbox(), WallClock()
    with signals_into(inbox, clock), contextlib.suppress(queue.Empty):
        event = inbox.get(timeout=delay_s)
        if isinstance(event, Signalled):
            raise _interrupted(event.signal, None, plan)


def report_outcome(outcome: Outcome, plan: JobPlan, shown: JobConsole, console: Console, refusal: str = "") -> None:
    """Print the summary of a job that ended well; write RUN/failure.json of one that failed.

    `refusal` says why a failed job is not restarted. Raises JobError, UserError (the culprit's exit code was 2) or Interrupted.
    """
    end = end_of(plan)
    if outcome.kind == "failure":
        failure = explain_failure(outcome, plan.run_dir, plan.attempt, socket.gethostname())
        failure = replace(failure, next_steps=advise(failure, plan))
        message = format_failure(failure, plan.run_dir, _save(failure, plan, is_final=True))
        if failure.is_user_error:
            raise UserError(message)
        raise JobError("\n".join(line for line in (message, f"  {refusal}" if refusal else "") if line))
    is_finished = end is not None and end.stopped_by is None
    if outcome.signal is not None and not (is_finished and not outcome.consequences):
        raise _interrupted(outcome.signal, end, plan)
    if end is not None and end.stopped_by is not None:  # a rank was asked, not the launcher
        raise _interrupted(end.stopped_by or signal.SIGTERM, end, plan)
    console.print(shown.summary(plan.run_dir), markup=False, highlight=False, soft_wrap=True)


def advise(failure: Failure, plan: JobPlan) -> tuple[str, ...]:
    """Return what the user can do after `failure`, the cause first, then how to go on."""
    culprit, steps = failure.culprit, []
    if culprit.hint in (BY_KERNEL, BY_CGROUP, BY_COUNT):
        steps.append(
            "it needs less memory with a smaller train.device_batch (a step keeps its clips) or fewer ranks a host"
        )
    elif "No space left" in culprit.reason:
        steps.append(f"make room on the disk of {plan.run_dir.path}")
    elif culprit.stall is not None:
        limit = "launch.stall_timeout_s" if "no step was finished" in culprit.stall else "launch.phase_timeout_s"
        steps.append(f"see in the stacks what it waits for; if it is only slow, raise {limit}")
    found = list_checkpoints(plan.run_dir.checkpoints)
    origin = f"from {found[-1].name}" if found else "from the start, no checkpoint was written yet"
    steps.append(f"fcn4dist launch --resume {plan.run_dir.path} goes on {origin}; --max-restarts N does so by itself")
    return tuple(steps)


def _save(failure: Failure, plan: JobPlan, *, is_final: bool) -> Path:
    try:
        return save_failure(failure, plan.run_dir, is_final=is_final)
    except OSError:  # a full disk may be the very cause; the message says it all the same
        return plan.run_dir.failure


def end_of(plan: JobPlan) -> RankEnd | None:
    """Return how the ranks ended by themselves; of a stop on request, the rank that was asked."""
    ends = [load_end(plan.run_dir.end(plan.attempt, worker.process.name)) for worker in plan.workers]
    return max((end for end in ends if end is not None), key=lambda end: end.stopped_by or 0, default=None)


def _interrupted(number: int, end: RankEnd | None, plan: JobPlan) -> Interrupted:
    resume = f"go on with: fcn4dist launch --resume {plan.run_dir.path}"
    if end is not None and end.stopped_by is not None:
        how = f"stopped by {signal_name(number)} after step {end.step} of {end.num_steps}, checkpoint saved"
        return Interrupted(number, f"{how}; {resume}")
    return Interrupted(number, f"ended by {signal_name(number)}; {resume}")
