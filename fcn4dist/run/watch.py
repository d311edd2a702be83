"""The pipeline of `fcn4dist watch`: follow a run by its files until it ends."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from fcn4dist.errors import ConfigError, JobError, shorten_name
from fcn4dist.run.best import describe_best
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import read_pulse
from fcn4dist.run.state import RunState, is_locked, value_of
from fcn4dist.run.terminal import PLAIN_EVERY_S, LivePicture, format_scores, format_step
from fcn4dist.run.view import Drawing, Snapshot, first_rank, take_snapshot

POLL_S = 0.5
RUNNING = "running"


def watch_run(path: Path, console: Console, *, once: bool = False, with_ranks: bool = False) -> None:
    """Show the run in `path` until it ends, or `once`.

    Raises ConfigError where there is no run, and JobError when it failed or ended without a word.
    """
    run = RunDir(path.absolute())
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; expected the folder of a run")
    if not (run.config.exists() or run.metrics(0).exists() or is_locked(run.lock)):
        raise ConfigError(f"{path}: no run here (no {run.config.name}, no metrics)")
    snapshot = take_snapshot(run, with_ranks=with_ranks)
    if once and snapshot.state.kind == RUNNING:
        console.print(_draw(run, snapshot))
    elif snapshot.state.kind == RUNNING:
        snapshot = _follow(run, snapshot, console, with_ranks=with_ranks)
    if snapshot.state.kind != RUNNING:
        _tell_end(run, snapshot, console)


def _draw(run: RunDir, snapshot: Snapshot) -> Drawing:
    pulse = read_pulse(run.pulse(snapshot.state.attempt, f"rank-{first_rank(run, snapshot.state.attempt)}"))
    return Drawing(snapshot, "" if pulse is None or pulse.phase in ("data", "step") else str(pulse))


def _follow(run: RunDir, snapshot: Snapshot, console: Console, *, with_ranks: bool) -> Snapshot:
    """Show the run until it is over and return its last state."""
    if not console.is_interactive:
        return _follow_in_lines(run, snapshot, console)
    with LivePicture(console, lambda: _draw(run, snapshot)):
        while snapshot.state.kind == RUNNING:
            time.sleep(POLL_S)
            snapshot = take_snapshot(run, with_ranks=with_ranks)
    return snapshot


def _follow_in_lines(run: RunDir, snapshot: Snapshot, console: Console) -> Snapshot:
    """Print a line about a step every few seconds, and one about each evaluation."""
    printed_s, last_step, last_evaluation = -PLAIN_EVERY_S, None, None
    while snapshot.state.kind == RUNNING:
        step, evaluated = value_of(snapshot.record, "step"), value_of(snapshot.evaluation, "step")
        if evaluated is not None and evaluated != last_evaluation:
            last_evaluation = evaluated
            _say(console, _format_evaluation(snapshot))
        if step is not None and step != last_step and time.monotonic() - printed_s >= PLAIN_EVERY_S:
            printed_s, last_step = time.monotonic(), step
            _say(console, format_step(snapshot.record))
        time.sleep(POLL_S)
        snapshot = take_snapshot(run)
    return snapshot


def _format_evaluation(snapshot: Snapshot) -> str:
    epoch = value_of(snapshot.evaluation, "epoch")
    where = f" after epoch {epoch:.0f}" if epoch is not None else ""
    split, checksum = (snapshot.evaluation.get(key) for key in ("split_name", "split_checksum"))
    on = f" on {shorten_name(split, 80)}" if isinstance(split, str) else ""
    on += f" (clip list {checksum[:12]})" if on and isinstance(checksum, str) else ""
    return f"evaluation{where}: {format_scores(snapshot.evaluation)}{on}"


def _tell_end(run: RunDir, snapshot: Snapshot, console: Console) -> None:
    """Say how the run ended; raises JobError unless it finished or was stopped on request."""
    state = snapshot.state
    step, total = value_of(snapshot.record, "step"), value_of(snapshot.record, "num_steps")
    how_far = f"{step:.0f} of {total:.0f} steps" if step is not None and total is not None else "no step was recorded"
    if state.kind == "failed":
        raise JobError(f"{run.path}: failed after {how_far}: {explain(state)}\n  details: {run.failure}")
    if state.kind == "ended":
        raise JobError(
            f"{run.path}: does not run, and ended without a word after {how_far}; go on with: "
            f"fcn4dist launch --resume {run.path}"
        )
    parts = [how_far]
    if (loss := value_of(snapshot.record, "loss")) is not None:
        parts.append(f"last loss {loss:.4f}")
    if snapshot.evaluation:
        parts.append(_format_evaluation(snapshot))
    if state.kind == "finished" and state.end is not None and state.end.early:
        parts.append(state.end.early)
    if best := describe_best(run):
        parts.append(best)
    what = "done" if state.kind == "finished" else "stopped on request, checkpoint saved"
    _say(console, f"{what}: {', '.join(parts)}; {run.path}")


def explain(state: RunState) -> str:
    """Return who failed first and why, in one line, from failure.json."""
    culprit = (state.failure or {}).get("culprit")
    if not isinstance(culprit, dict):
        return "its failure.json names nobody"
    error, process = culprit.get("error"), str(culprit.get("process", "a process"))
    if isinstance(error, dict):
        why = f"{error.get('type')}: {error.get('message')}"
    elif culprit.get("stall"):
        why = f"the job hung: {culprit['stall']}"
    else:
        why = f"killed by {culprit['signal']}" if culprit.get("signal") else f"exit code {culprit.get('exit_code')}"
    return f"{process.replace('rank-', 'rank ')} on {culprit.get('host')}: {why}"


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
