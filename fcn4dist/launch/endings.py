"""How an attempt ended and what follows: does the job start again, what is told, what failure.json and the report hold."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcn4dist.ascend.error_codes import Explanation, explain_error, load_plog_errors
from fcn4dist.errors import Interrupted, JobError, UserError
from fcn4dist.hosts.roster import Layout
from fcn4dist.hosts.session import Verdict
from fcn4dist.job.events import Clock, EventLog, Exited, Inbox, Signalled, WallClock, signals_into
from fcn4dist.job.failure import (
    FailedProcess,
    Failure,
    explain_failure,
    format_failure,
    load_error,
    name_stall,
    parse_failure,
    save_failure,
)
from fcn4dist.job.oom import BY_CGROUP, BY_COUNT, BY_KERNEL
from fcn4dist.job.plan import JobPlan
from fcn4dist.job.process import signal_name
from fcn4dist.job.stall import Stall, parse_stall
from fcn4dist.job.state import SCHEDULER, SECOND_SIGNAL_S, Outcome
from fcn4dist.run.checkpoints import list_checkpoints
from fcn4dist.run.folder import RunDir
from fcn4dist.run.state import RankEnd, load_end, worst_end

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
PORT_TRIES = 5  # how often a port that another program took is replaced
NO_LAUNCHER_RESTARTS = "--max-restarts does not bring back a launcher that is gone"
REPORT_LIMIT_S = 15.0  # for a page that takes a second or two; a run's files may be huge, its disk slow or full
REPORT_POLL_S = 0.05


# does the job start again?


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt that did not end well."""

    kind: str  # who failed and how; equal for failures of the same kind
    is_user_error: bool = False
    has_progress: bool = False  # a step was finished
    lost_port: bool = False  # another program took the scheduler's port: nobody's fault, another port is tried


@dataclass(frozen=True)
class Decision:
    """What follows from a failed attempt."""

    delay_s: float | None = None  # before the job starts again; None: it does not
    reason: str = ""  # why there is no restart; empty where none were asked for


def decide_restart(history: Sequence[FailedAttempt], max_restarts: int) -> Decision:
    """Decide after the failure `history[-1]`.

    A lost port is replaced at once, whatever was asked for. No restart for a user's mistake, nor when two attempts in a row
    died in the same way before their first step: a third would too. The delay doubles with each attempt in a row that
    finished no step.
    """
    last = history[-1]
    if last.lost_port and sum(attempt.lost_port for attempt in history) < PORT_TRIES:
        return Decision(delay_s=0.0)
    real = [attempt for attempt in history if attempt is last or not attempt.lost_port]
    if max_restarts == 0 or last.is_user_error:
        return Decision()
    if len(real) > max_restarts:
        return Decision(reason=f"all {max_restarts} restarts are used up (launch.max_restarts)")
    fruitless = 0
    for attempt in reversed(real):
        if attempt.has_progress:
            break
        fruitless += 1
    if fruitless >= 2 and real[-2].kind == last.kind:
        return Decision(reason="no restart: it died twice in the same way before its first step")
    return Decision(delay_s=min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** max(0, fruitless - 1)))


def is_finished(outcome: Outcome, plan: JobPlan) -> bool:
    """Whether a signal came when all had ended by themselves: it changes nothing any more."""
    end = end_of(plan)
    return outcome.kind == "signal" and not outcome.consequences and end is not None and end.stopped_by is None


def end_of(plan: JobPlan) -> RankEnd | None:
    """Return how this host's ranks ended by themselves; of a stop on request, the rank that was asked."""
    ends = (load_end(plan.run_dir.end(plan.attempt, worker.process.name)) for worker in plan.workers)
    return worst_end(end for end in ends if end is not None)


# what failed


def find_own_failure(outcome: Outcome, run_dir: RunDir, attempt: int, host: str) -> Failure | None:
    """Return why this host's part failed, or None when no process of its own failed by itself."""
    own = replace(outcome, failures=_of_this_host(outcome.failures), consequences=_of_this_host(outcome.consequences))
    has_peers = len(own.failures) + len(own.consequences) < len(outcome.failures) + len(outcome.consequences)
    raised = any(load_error(run_dir.error(attempt, exited.process)) for exited in own.consequences)
    hung = outcome.stall is not None and own.consequences  # who holds the job up may be seen from all hosts only
    if outcome.kind != "failure" or not (own.failures or raised or hung or (own.consequences and not has_peers)):
        return None
    return explain_failure(own, run_dir, attempt, host)


def _of_this_host(exits: Sequence[Exited]) -> tuple[Exited, ...]:
    return tuple(exited for exited in exits if not exited.process.startswith("node-"))


def failure_of(verdict: Verdict, layout: Layout, attempt: int) -> Failure:
    """Return what failed first, on whichever host; of a host that is gone or could not say more, its launcher."""
    host, known = layout.nodes[verdict.node_rank].name, None
    if verdict.failure is not None:
        with contextlib.suppress(TypeError, KeyError):
            known = parse_failure(verdict.failure)
    if verdict.stall is not None:
        with contextlib.suppress(TypeError, KeyError, ValueError):
            return _explain_stall(parse_stall(verdict.stall), host, known, attempt)
    if known is not None:
        return known
    launcher = FailedProcess("launcher", None, host, None, None, verdict.text, None, "", [])
    return Failure(attempt, time.time(), launcher, ())


def _explain_stall(stall: Stall, host: str, known: Failure | None, attempt: int) -> Failure:
    """Return what holds up a job that hangs, seen from all hosts; `known` is what the host of the suspect says of its ranks."""
    if not stall.suspects:
        return Failure(attempt, time.time(), name_stall(stall, "all hosts"), ())
    processes = () if known is None else (known.culprit, *known.consequences)
    own = [process for process in processes if process.process == stall.suspects[0]]
    others = tuple(process for process in processes if process.rank is not None and process not in own)
    culprit = replace(own[0], stall=str(stall)) if own else name_stall(stall, host)
    return Failure(attempt, time.time() if known is None else known.time_s, culprit, others)


def scheduler_failed(outcome: Outcome) -> bool:
    """Whether the scheduler failed here; with its port in other hands, that is the reason."""
    return outcome.kind == "failure" and SCHEDULER in {e.process for e in (*outcome.failures, *outcome.consequences)}


# the restart


def note_restart(failure: Failure, plan: JobPlan, number: int, max_restarts: int, delay_s: float) -> str:
    """Note the restart in events.jsonl and the failure among the attempt's logs; return what to say about both."""
    found = list_checkpoints(plan.run_dir.checkpoints)
    origin = found[-1].name if found else "the start"
    if not plan.meeting.runs_scheduler:
        origin = "where node 0 has a checkpoint"
    event = {"event": "restart", "number": number, "after": failure.kind, "from": origin, "delay_s": delay_s}
    EventLog(plan.run_dir.events, plan.attempt).append({"time": round(WallClock()(), 3), **event})
    return (
        f"{format_failure(failure, plan.run_dir, _save(failure, plan, is_final=False))}\n"
        f"restart {number} of {max_restarts} in {delay_s:g} s, from {origin}"
    )


def wait_for_restart(delay_s: float, plan: JobPlan, layout: Layout) -> None:
    """Wait, but not through a signal: raises Interrupted when one comes."""
    inbox, clock = Inbox(), WallClock()
    with signals_into(inbox, clock), contextlib.suppress(queue.Empty):
        event = inbox.get(timeout=delay_s)
        if isinstance(event, Signalled):
            _hear_out(inbox)
            raise _interrupted(event.signal, layout, plan)


def _hear_out(inbox: Inbox) -> None:
    """Swallow the second SIGHUP of a terminal that closes: it would end this process before it has said anything."""
    end_s = time.monotonic() + SECOND_SIGNAL_S
    with contextlib.suppress(queue.Empty):
        while True:
            inbox.get(timeout=max(0.0, end_s - time.monotonic()))


# the end of the job


def tell(verdict: Verdict, layout: Layout, plan: JobPlan, refusal: str = "") -> None:
    """Return when the job ended well; write RUN/failure.json of one that failed.

    `refusal` says why a failed job is not restarted. Raises JobError, UserError (the culprit found the input wrong) or
    Interrupted.
    """
    end = end_of(plan)
    if verdict.kind == "success":
        if end is not None and end.stopped_by is not None:  # a rank was asked, not a launcher
            raise _interrupted(end.stopped_by or signal.SIGTERM, layout, plan)
        return
    if verdict.kind == "signal" and verdict.signal is not None:
        raise _interrupted(verdict.signal, layout, plan, layout.title(verdict.node_rank))
    is_alone, title = len(layout.nodes) == 1, layout.title(verdict.node_rank)
    failure = failure_of(verdict, layout, plan.attempt)
    failure = replace(failure, next_steps=advise(failure, plan, layout, is_lost=verdict.kind == "lost"))
    path = _save(failure, plan, is_final=True)
    if verdict.failure is None and verdict.stall is None:
        gone = f"the launcher of {title} is gone" if verdict.kind == "lost" else f"{title} failed first"
        what = f"{gone}: {verdict.text or 'no more is known'}; the job was ended on all hosts"
        raise JobError("\n".join([what, *(f"  next: {step}" for step in failure.next_steps)]))
    if not is_alone and failure.culprit.host == layout.nodes[verdict.node_rank].name:
        failure = replace(failure, culprit=replace(failure.culprit, host=title))
    text = format_failure(failure, plan.run_dir, path)
    if failure.is_user_error:
        raise UserError(text if is_alone else f"{title}: {text}")
    raise JobError(f"{text}\n  {refusal}" if refusal else text)


def advise(failure: Failure, plan: JobPlan, layout: Layout, *, is_lost: bool = False) -> tuple[str, ...]:
    """Return what the user can do after `failure`, the cause first, then how to go on."""
    culprit, steps = failure.culprit, []
    if plan.target == "Ascend" and (meaning := explain_on_ascend(culprit)) is not None:
        steps.append(str(meaning))
    if culprit.hint in (BY_KERNEL, BY_CGROUP, BY_COUNT):
        steps.append(
            "it needs less memory with a smaller train.device_batch (a step keeps its clips) or fewer ranks a host"
        )
    elif "No space left" in culprit.reason:
        steps.append(f"make room on the disk of {plan.run_dir.path}")
    elif culprit.stall is not None:
        limit = "launch.stall_timeout_s" if "no step was finished" in culprit.stall else "launch.phase_timeout_s"
        steps.append(f"see in the stacks what it waits for; if it is only slow, raise {limit}")
    if len(layout.nodes) > 1:
        how = NO_LAUNCHER_RESTARTS if is_lost else "--max-restarts N there does so by itself"
        return *steps, f"{_resume(plan.run_dir, layout)} goes on from node 0's newest checkpoint; {how}"
    found = list_checkpoints(plan.run_dir.checkpoints)
    origin = f"from {found[-1].name}" if found else "from the start, no checkpoint was written yet"
    return *steps, f"{_resume(plan.run_dir, layout)} goes on {origin}; --max-restarts N does so by itself"


def explain_on_ascend(culprit: FailedProcess) -> Explanation | None:
    """Return what a failure on an NPU means: by its exception, else its log, else CANN's logs where they are on this host."""
    plog = load_plog_errors(Path(culprit.plog)) if culprit.plog else []
    texts = ("" if culprit.error is None else culprit.error.message, "\n".join(culprit.last_lines), "\n".join(plog))
    return next((found for text in texts if (found := explain_error(text)) is not None), None)


@contextlib.contextmanager
def said_how_to_go_on(run_dir: RunDir, layout: Layout, *, has_run: bool) -> Iterator[None]:
    """Add how to go on to a JobError that ends a job between two attempts: a launcher may die before it starts again."""
    try:
        yield
    except JobError as error:
        if not has_run:
            raise
        again = f"{_resume(run_dir, layout)} goes on from node 0's newest checkpoint; {NO_LAUNCHER_RESTARTS}"
        raise JobError(f"{error}\n  next: {again}") from None


def _resume(run_dir: RunDir, layout: Layout) -> str:
    everywhere = "" if len(layout.nodes) == 1 else " on every host"
    return f"fcn4dist launch --resume {run_dir.path}{everywhere}"


def _save(failure: Failure, plan: JobPlan, *, is_final: bool) -> Path:
    try:
        return save_failure(failure, plan.run_dir, is_final=is_final)
    except OSError:  # a full disk may be the very cause; the message says it all the same
        return plan.run_dir.failure


def _interrupted(number: int, layout: Layout, plan: JobPlan, title: str = "") -> Interrupted:
    """Return how a stop on request is told; `title`: the host whose launcher was asked."""
    end, is_alone, name = end_of(plan), len(layout.nodes) == 1, signal_name(number)
    where = "" if is_alone or not title else f" on {title}"
    resume = _resume(plan.run_dir, layout)
    if end is not None and end.stopped_by is not None:
        saved = "checkpoint saved" if is_alone else "checkpoint saved on node 0"
        how = f"stopped by {name}{where} after step {end.step} of {end.num_steps}, {saved}"
    elif plan.meeting.runs_scheduler and not list_checkpoints(plan.run_dir.checkpoints):
        return Interrupted(number, f"ended by {name}{where}; nothing was saved yet: {resume} begins anew")
    else:
        how = f"ended by {name}{where}"
    return Interrupted(number, f"{how}; go on with: {resume}")


# the report


@contextlib.contextmanager
def reported(run: RunDir, say: Callable[[str], None]) -> Iterator[None]:
    """Write RUN/report.html when the block is left, by whatever way; `say` hears about it only when that fails.

    Main thread only: a signal meanwhile ends the writing and nothing else.
    """
    try:
        yield
    finally:
        if any(path.exists() for path in (run.metrics(0), run.failure, run.events)) and (reason := leave_report(run)):
            say(f"no report: {reason}; `fcn4dist report {run.path}` tries again")


def leave_report(run: RunDir, limit_s: float = REPORT_LIMIT_S) -> str:
    """Write RUN/report.html in a process of its own, and return why that failed, or nothing."""
    command = [sys.executable, "-m", "fcn4dist", "report", "--is-over", str(run.path)]
    inbox: Inbox = queue.SimpleQueue()
    clock: Clock = WallClock()
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True}
    try:
        with tempfile.TemporaryFile() as errors, signals_into(inbox, clock):
            process = subprocess.Popen(command, stderr=errors, **quiet)
            if reason := _wait_for_report(process, inbox, limit_s):
                return reason
            errors.seek(0)
            said = errors.read().decode(errors="replace")
    except OSError as error:  # no memory, no process, no temporary file
        return f"{error.strerror or error}"
    lines = [line for line in said.splitlines() if line.strip()]
    last = lines[-1].removeprefix("fcn4dist: ") if lines else f"exit code {process.returncode}"
    return "" if process.returncode == 0 else last


def _wait_for_report(process: subprocess.Popen[bytes], inbox: Inbox, limit_s: float) -> str:
    """Wait for the process; kill it at the limit or at a signal, and say which."""
    end_s, reason = time.monotonic() + limit_s, ""
    while process.poll() is None and not reason:
        with contextlib.suppress(queue.Empty):
            event = inbox.get(timeout=REPORT_POLL_S)
            reason = f"ended by {signal_name(event.signal)}" if isinstance(event, Signalled) else ""
        if time.monotonic() > end_s:
            reason = f"not written within {limit_s:g} s"
    if reason:
        process.kill()
        process.wait()
    return reason
