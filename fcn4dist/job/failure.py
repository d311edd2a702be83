"""Who failed first and why: what a worker leaves behind, and what the launcher makes of it (RUN/failure.json)."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fcn4dist.errors import Fcn4distError
from fcn4dist.files import save_json
from fcn4dist.job.events import Exited, WallClock
from fcn4dist.job.process import ExitStatus, signal_name
from fcn4dist.job.stall import Stall
from fcn4dist.job.state import RANK, SCHEDULER, Outcome
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import STACK_SIGNAL

LAST_LINES = 30
TAIL_BYTES = 64 << 10  # enough for 30 lines; a log may have gigabytes
SCREEN_LINES = 8  # of a traceback or a log on the last screen; the rest is in failure.json
LINE_CHARS = 500
ENDED_BY_US = "ended by the launcher"
USER_ERROR = 2  # the exit code of a user's mistake (errors.py)

HINTS = {
    signal.SIGKILL: "nobody here sent it: the kernel's out-of-memory killer does (see `dmesg`), or a person",
    signal.SIGTERM: "not from this launcher: MindSpore ends a rank so when the scheduler lost another, or a person did",
    signal.SIGSEGV: "a crash in native code; the log may hold its stack",
    signal.SIGBUS: "often a full /dev/shm or disk, or a file that was cut while in use",
    signal.SIGABRT: "native code gave up; the log says why",
    signal.SIGILL: "an instruction that this CPU does not have; was a package built for another one?",
}


@dataclass(frozen=True)
class WorkerError:
    """The exception that ended a process, as the process itself wrote it."""

    time_s: float  # seconds since the epoch, by the clock of the launcher that reads it
    type: str
    message: str
    traceback: str
    exit_code: int


@dataclass(frozen=True)
class FailedProcess:
    """A process that ended badly."""

    process: str
    rank: int | None
    host: str
    exit_code: int | None
    signal: str | None
    hint: str | None
    error: WorkerError | None
    log: str
    last_lines: list[str]
    peak_memory_bytes: int | None = None
    stall: str | None = None  # the job hung, and this process held it up, or nobody stood apart (rank None)
    plog: str = ""  # the folder of CANN's own logs, where it left any

    @property
    def title(self) -> str:
        """Which process: "rank 3" or "the scheduler"."""
        return f"the {self.process}" if self.rank is None else f"rank {self.rank}"

    @property
    def reason(self) -> str:
        """Why it ended, in one line."""
        if self.stall is not None:
            return f"the job hung: {self.stall}"
        if self.error is not None:
            return f"{self.error.type}: {self.error.message}" if self.error.message else self.error.type
        if self.signal is not None:
            return f"killed by {self.signal}" + (f" ({self.hint})" if self.hint else "")
        return f"exit code {self.exit_code}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True)
class Failure:
    """Why a job failed: the culprit is the first in time, what the others met is listed as consequences."""

    attempt: int
    time_s: float
    culprit: FailedProcess
    consequences: tuple[FailedProcess, ...]
    next_steps: tuple[str, ...] = ()  # what the user can do, a line each

    @property
    def kind(self) -> str:
        """What makes two failures the same: who failed, and how."""
        culprit = self.culprit
        how = "hung" if culprit.stall else culprit.error.type if culprit.error else culprit.signal or culprit.exit_code
        return f"{culprit.title}: {how}"

    @property
    def is_user_error(self) -> bool:
        """Whether the culprit found the user's input wrong; starting again would not help."""
        error = self.culprit.error
        return USER_ERROR in (self.culprit.exit_code, error.exit_code if error else None)


def save_error(path: Path, exception: BaseException) -> None:
    """Leave `exception` for the launcher; called by a process that is about to end because of it.

    Never raises: a full disk must not hide the exception, which is printed into the log as well.
    """
    kind = type(exception)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(exception, Fcn4distError):
        name, code = kind.__qualname__, exception.exit_code
    elif isinstance(exception, SystemExit):
        code = exception.code if isinstance(exception.code, int) else 1
    else:
        code = 1
    text = "".join(traceback.format_exception(exception))
    try:
        words = {"type": name, "message": str(exception), "traceback": text, "exit_code": code}
        save_json(path, {"monotonic_s": time.monotonic(), **words})  # wall clocks may be set meanwhile
    except OSError as error:
        os.write(2, f"{path}: cannot be written: {error}\n".encode())


def load_error(path: Path) -> WorkerError | None:
    """Return what `save_error` wrote, or None when it is not there or not whole."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return WorkerError(WallClock.at(values.pop("monotonic_s")), **values)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None


def explain_failure(outcome: Outcome, run_dir: RunDir, attempt: int, host: str) -> Failure:
    """Find the first process that failed, by the time of its exception or else of its end.

    A process can raise first and end last, so the exceptions of processes that were still ending count too. Of a job that
    hung, it is the one that held the others up.
    """
    found = [(e, load_error(run_dir.error(attempt, e.process))) for e in (*outcome.failures, *outcome.consequences)]
    told_to_end = {e.process for e in outcome.consequences}
    candidates = [(e, error) for e, error in found if error is not None or e.process not in told_to_end]
    first, _ = min(candidates or found, key=lambda pair: pair[1].time_s if pair[1] else pair[0].at_s)
    is_apart = outcome.stall is not None and bool(outcome.failures)
    if is_apart:
        first = outcome.failures[0]

    def describe(exited: Exited, error: WorkerError | None) -> FailedProcess:
        log, plog = run_dir.log(attempt, exited.process), run_dir.plog(attempt, exited.process)
        code, number, hint = exited.status.code, exited.status.signal, _hint(exited.status)
        if exited.process in told_to_end and error is not None:
            code, number, hint = error.exit_code, None, None  # it was ending already when it was told to
        elif exited.process in told_to_end and number in (signal.SIGTERM, signal.SIGKILL, STACK_SIGNAL):
            hint = ENDED_BY_US
        if number == signal.SIGKILL and hint != ENDED_BY_US:
            hint = outcome.killers.get(exited.process, hint)
        return FailedProcess(
            process=exited.process,
            rank=None if exited.process == SCHEDULER else int(exited.process.removeprefix("rank-")),
            host=host,
            exit_code=code,
            signal=None if number is None else signal_name(number),
            hint=hint,
            error=error,
            log=str(log),
            last_lines=tail(log),
            peak_memory_bytes=exited.peak_bytes,
            stall=str(outcome.stall) if is_apart and exited is first else None,
            plog=str(plog) if plog.is_dir() else "",
        )

    if outcome.stall is not None and not is_apart:
        culprit = name_stall(outcome.stall, host, str(run_dir.log(attempt, "rank-*")))
        return Failure(attempt, first.at_s, culprit, tuple(describe(e, error) for e, error in found))
    culprit = next(describe(e, error) for e, error in found if e is first)
    others = tuple(describe(e, error) for e, error in found if e is not first)
    return Failure(attempt, first.at_s, culprit, others)


def name_stall(stall: Stall, host: str, log: str = "") -> FailedProcess:
    """Return what holds a job up that hangs, where no more is known of it: a process, or else what all wait in."""
    process = stall.suspects[0] if stall.suspects else stall.place
    rank = int(process.removeprefix(RANK)) if process.startswith(RANK) else None
    return FailedProcess(process, rank, host, None, None, None, None, log, [], stall=str(stall))


def _hint(status: ExitStatus) -> str | None:
    if status.is_success:
        return "it ended while ranks still needed it"
    return None if status.signal is None else HINTS.get(signal.Signals(status.signal))


def parse_failure(values: dict[str, Any]) -> Failure:
    """Return the failure that another launcher sent as the content of its failure.json; raises TypeError or KeyError."""

    def process(entry: dict[str, Any]) -> FailedProcess:
        error = entry["error"]
        return FailedProcess(**{**entry, "error": None if error is None else WorkerError(**error)})

    others = tuple(process(entry) for entry in values["consequences"])
    return Failure(values["attempt"], values["time_s"], process(values["culprit"]), others)


def tail(log: Path, num_lines: int = LAST_LINES) -> list[str]:
    """Return the last lines of a log of any size, undecodable bytes replaced; [] when it cannot be read."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line[-LINE_CHARS:] for line in text.splitlines()[-num_lines:]]


def save_failure(failure: Failure, run_dir: RunDir, *, is_final: bool = True) -> Path:
    """Write failure.json among the attempt's logs and, where no restart follows, as RUN/failure.json; return the path to read.

    Raises OSError.
    """
    path = run_dir.logs(failure.attempt) / run_dir.failure.name
    path.parent.mkdir(parents=True, exist_ok=True)  # a launcher may fail before it has started anything
    save_json(path, asdict(failure))
    if not is_final:
        return path
    save_json(run_dir.failure, asdict(failure))
    return run_dir.failure


def format_failure(failure: Failure, run_dir: RunDir, details: Path | None = None) -> str:
    """Return the last screen: who, why, the end of the traceback, where to read on: `details`, or else RUN/failure.json.

    A user's mistake is its message alone.
    """
    culprit = failure.culprit
    if failure.is_user_error and culprit.error is not None:
        return culprit.error.message
    lines = [f"{culprit.title} on {culprit.host} failed first: {culprit.reason}"]
    if culprit.stall is not None and culprit.rank is None and culprit.process != SCHEDULER:
        where = "" if culprit.process == "job" else f"in {culprit.title} "
        lines = [f"the job hung {where}on {culprit.host}, and no rank stands apart: {culprit.stall}"]
    lines += _indent(_evidence(culprit))
    for other in failure.consequences:
        if other.hint != ENDED_BY_US:
            lines.append(f"  consequence: {other.title}: {_first_line(other.reason)}")
    if culprit.peak_memory_bytes and culprit.signal == "SIGKILL":
        lines.append(f"  its peak memory: {culprit.peak_memory_bytes / 2**30:.2f} GB")
    if culprit.log:
        lines.append(f"  its log: {culprit.log}" + (f"; CANN's: {culprit.plog}" if culprit.plog else ""))
    if culprit.stall is not None and culprit.log:
        lines.append(f"  stacks of all ranks: {Path(culprit.log).parent}/*.stack")
    lines.append(f"  details: {details or run_dir.failure}")
    lines += [f"  next: {step}" for step in failure.next_steps]
    return "\n".join(lines)


def _evidence(culprit: FailedProcess) -> list[str]:
    if culprit.error is not None:
        return culprit.error.traceback.rstrip().splitlines()[-SCREEN_LINES:]
    return culprit.last_lines[-SCREEN_LINES:]


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
