"""The report that `launch` and `train` leave behind: never in the way of how a run ends."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from fcn4dist.job.events import Inbox, Signalled, WallClock, signals_into
from fcn4dist.job.process import signal_name
from fcn4dist.run.folder import RunDir

LIMIT_S = 15.0  # for a page that takes a second or two; a run's files may be huge, its disk slow or full
POLL_S = 0.05


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


def leave_report(run: RunDir, limit_s: float = LIMIT_S) -> str:
    """Write RUN/report.html in a process of its own, and return why that failed, or nothing."""
    command = [sys.executable, "-m", "fcn4dist", "report", "--is-over", str(run.path)]
    inbox, clock = Inbox(), WallClock()
    try:
        with tempfile.TemporaryFile() as errors, signals_into(inbox, clock):
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
            if reason := _wait(process, inbox, limit_s):
                return reason
            errors.seek(0)
            said = errors.read().decode(errors="replace")
    except OSError as error:  # no memory, no process, no temporary file
        return f"{error.strerror or error}"
    lines = [line for line in said.splitlines() if line.strip()]
    last = lines[-1].removeprefix("fcn4dist: ") if lines else f"exit code {process.returncode}"
    return "" if process.returncode == 0 else last


def _wait(process: subprocess.Popen[bytes], inbox: Inbox, limit_s: float) -> str:
    """Wait for the process; kill it at the limit or at a signal, and say which."""
    end_s, reason = time.monotonic() + limit_s, ""
    while process.poll() is None and not reason:
        with contextlib.suppress(queue.Empty):
            event = inbox.get(timeout=POLL_S)
            reason = f"ended by {signal_name(event.signal)}" if isinstance(event, Signalled) else ""
        if time.monotonic() > end_s:
            reason = f"not written within {limit_s:g} s"
    if reason:
        process.kill()
        process.wait()
    return reason
