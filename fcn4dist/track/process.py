"""The follower of a run that goes on: a process of its own beside the launcher.

Not a thread: other people's trackers start threads and services, take over stdout, signals and exit, and wait minutes for
a server; none of it may touch the supervisor. The launcher holds a pipe to the process and closes it at the end, or with
its own death; then what is left is told within FINISH_S, and no process stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from fcn4dist.run.folder import RunDir
from fcn4dist.run.state import read_state
from fcn4dist.track.follower import Follower, told_in_a_line

logger = logging.getLogger(__name__)

POLL_S = 1.0
FINISH_S = 30  # for what is left at the end; a tracker may have to reach a server
MARGIN_S = 30.0  # then the launcher ends a process that did not end itself; it may still have been starting
NICENESS = 10  # training goes first


@contextlib.contextmanager
def tracked(run: RunDir, trackers: Sequence[str]) -> Iterator[None]:
    """Have the trackers follow the run for this block; one that fails costs one line, and nothing else."""
    with contextlib.ExitStack() as stack:
        for name in trackers:
            try:
                watched = _Watched(run, name)
            except OSError as error:  # no process, no room for its log
                logger.warning("launch.track %s: cannot start: %s", name, error.strerror or error)
            else:
                stack.callback(watched.finish)
        yield


class _Watched:
    """The process of one tracker, as the launcher has it."""

    def __init__(self, run: RunDir, name: str) -> None:
        self._run, self._name, self._log = run, name, run.tracker_log(name)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fcn4dist", "track", "--follow", "--to", name, str(run.path)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        self._thread = threading.Thread(target=self._wait, name=f"track {name}", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        """Say it where the process does not end well, whenever that is."""
        if self._process.wait() != 0:
            code = self._process.returncode
            lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n") if self._log.exists() else []
            said = next((line for line in reversed(lines) if line.startswith("fcn4dist: ")), "").removeprefix(
                "fcn4dist: "
            )
            is_late = code in (-signal.SIGALRM, -signal.SIGKILL)
            reason = said or (f"not done within {FINISH_S} s" if is_late else f"its process ended with code {code}")
            logger.warning(
                "launch.track %s: not all was sent: %s; the run does not need it, later: fcn4dist track %s --to %s",
                *(self._name, reason, self._run.path, self._name),
            )

    def finish(self) -> None:
        """Let the process tell what is left, and see it end."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError):
            stdin.close()
        self._thread.join(FINISH_S + MARGIN_S)
        if self._thread.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._thread.join()


def follow(run: RunDir, name: str, launcher: BinaryIO) -> None:
    """Tell a tracker of a run until `launcher`, the other end of whose pipe is the launcher's, is at its end.

    Raises ConfigError and JobError; ended by SIGALRM where the tracker does not come to an end.
    """
    os.nice(NICENESS)
    with told_in_a_line(name):
        follower = Follower(run, name)
        while not select.select([launcher], [], [], POLL_S)[0]:
            follower.poll()
        signal.alarm(FINISH_S)
        follower.poll()
        follower.tell_best()
        follower.close(read_state(run, is_over=True).kind)
