"""How a job over hosts ended: what failed on this host, and what the verdict of all means for its launcher."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fcn4dist.errors import Fcn4distError, Interrupted, JobError, UserError
from fcn4dist.hosts.roster import Layout
from fcn4dist.hosts.session import Verdict
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
from fcn4dist.job.process import signal_name
from fcn4dist.job.stall import Stall, parse_stall
from fcn4dist.job.state import Outcome
from fcn4dist.run.folder import RunDir
from fcn4dist.run.state import RankEnd

NO_LAUNCHER_RESTARTS = "--max-restarts does not bring back a launcher that is gone"


def find_own_failure(outcome: Outcome, run_dir: RunDir, attempt: int, host: str) -> Failure | None:
    """Return why this host's part failed, or None when no process of its own failed by itself."""
    own = replace(outcome, failures=_of_this_host(outcome.failures), consequences=_of_this_host(outcome.consequences))
    raised = any(load_error(run_dir.error(attempt, exited.process)) for exited in own.consequences)
    hung = outcome.stall is not None and own.consequences  # who holds the job up may be seen from all hosts only
    if outcome.kind != "failure" or not (own.failures or raised or hung):
        return None
    return explain_failure(own, run_dir, attempt, host)


def _of_this_host(exits: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(exited for exited in exits if not exited.process.startswith("node-"))


def explain_verdict(
    verdict: Verdict, layout: Layout, run_dir: RunDir, attempt: int, *, end: RankEnd | None = None, refusal: str = ""
) -> Fcn4distError:
    """Write RUN/failure.json of a job that failed, and return the error to raise.

    `end` is how this host's ranks ended by themselves; `refusal` says why the job does not start again.
    """
    title = layout.title(verdict.node_rank)
    if verdict.kind == "signal" and verdict.signal is not None:
        again = f"go on with: fcn4dist launch --resume {run_dir.path} on every host"
        name = signal_name(verdict.signal)
        how = f"ended by {name} on {title}"
        if end is not None and end.stopped_by is not None:
            how = f"stopped by {name} on {title} after step {end.step} of {end.num_steps}, checkpoint saved on node 0"
        return Interrupted(verdict.signal, f"{how}; {again}")
    is_lost = verdict.kind == "lost"
    again = f"{_resume(run_dir)}; {NO_LAUNCHER_RESTARTS if is_lost else '--max-restarts N there does so by itself'}"
    failure = replace(failure_of(verdict, layout, attempt), next_steps=(again,))
    with contextlib.suppress(OSError):  # a full disk may be the very cause; the message below says it all the same
        save_failure(failure, run_dir)
    if verdict.failure is None and verdict.stall is None:
        what = f"the launcher of {title} is gone" if is_lost else f"{title} failed first"
        what = f"{what}: {verdict.text or 'no more is known'}; the job was ended on all hosts"
        return JobError(f"{what}\n  next: {again}")
    if failure.is_user_error:
        return UserError(f"{title}: {format_failure(failure, run_dir)}")
    is_here = failure.culprit.host == layout.nodes[verdict.node_rank].name
    shown = replace(failure, culprit=replace(failure.culprit, host=title)) if is_here else failure
    text = format_failure(shown, run_dir)
    return JobError(f"{text}\n  {refusal}" if refusal else text)


@contextlib.contextmanager
def said_how_to_go_on(run_dir: RunDir, *, has_run: bool) -> Iterator[None]:
    """Add how to go on to a JobError that ends a job between two attempts: a launcher may die before it starts again."""
    try:
        yield
    except JobError as error:
        if not has_run:
            raise
        raise JobError(f"{error}\n  next: {_resume(run_dir)}; {NO_LAUNCHER_RESTARTS}") from None


def _resume(run_dir: RunDir) -> str:
    return f"fcn4dist launch --resume {run_dir.path} on every host goes on from node 0's newest checkpoint"


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
