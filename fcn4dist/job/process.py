"""One child of the launcher: its specification, its start, its signals and its end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIBC = ctypes.CDLL(None)  # loaded before any fork


@dataclass(frozen=True)
class ProcessSpec:
    """What to start."""

    name: str  # "scheduler" or "rank-3"
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)  # set on top of the launcher's own, stripped, environment
    log: Path = Path(os.devnull)  # stdout and stderr


@dataclass(frozen=True)
class ExitStatus:
    """How a process ended: an exit code, or the signal that killed it."""

    code: int | None
    signal: int | None = None

    @property
    def is_success(self) -> bool:
        """Whether the process ended by itself with code 0."""
        return self.code == 0

    def __str__(self) -> str:
        return f"killed by {signal_name(self.signal)}" if self.signal is not None else f"exit code {self.code}"


def signal_name(number: int) -> str:
    """Return "SIGKILL" for 9; a real-time signal without a name is "signal 40"."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it dies; a later `exec` keeps that. Linux only.

    Called between fork and exec, so that nobody knows a process that is not tied yet. `setpriv --pdeathsig` is a moment later: of
    100 children that were suspended at once 6 outlived their launcher, here none. 2.1 ms a process, it 0.15 ms (docs/lab/log.md).
    """
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Process:
    """A started child in a session, and so a process group, of its own."""

    def __init__(self, spec: ProcessSpec, environment: Mapping[str, str]) -> None:
        """Start the child; both its streams go straight into its log, which must not exist yet. Raises OSError.

        Call this from the main thread: the kernel ties a child's PR_SET_PDEATHSIG to the thread that started it.
        """
        self.name = spec.name
        mode = "ab" if spec.log == Path(os.devnull) else "xb"
        with spec.log.open(mode) as log:
            self._popen = subprocess.Popen(
                spec.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, **spec.env},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.pid = self._popen.pid
        self._is_reaped = False

    def watch(self, on_exit: Callable[[str, ExitStatus], None], on_held: Callable[[str, bool], None]) -> None:
        """Listen to the child from a thread of its own.

        Calls `on_held(name, is_suspended)` when the kernel suspends it or lets it go on, and `on_exit(name, status)` when it
        ends; it stays a zombie until `reap`.
        """
        threading.Thread(target=self._wait, args=(on_exit, on_held), name=f"wait-{self.name}", daemon=True).start()

    def _wait(self, on_exit: Callable[[str, ExitStatus], None], on_held: Callable[[str, bool], None]) -> None:
        try:
            while True:
                # WNOWAIT keeps the process id taken, so that signals to its group cannot meet a stranger
                found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WSTOPPED | os.WCONTINUED | os.WNOWAIT)
                assert found is not None
                if found.si_code not in (os.CLD_STOPPED, os.CLD_CONTINUED):
                    break
                # taken by a call that cannot take the end; None: it has gone on, or ended, since the line above
                taken = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
                if taken is not None:
                    on_held(self.name, taken.si_code == os.CLD_STOPPED)
        except ChildProcessError:  # reaped meanwhile: nobody listens any more
            return
        if found.si_code == os.CLD_EXITED:
            on_exit(self.name, ExitStatus(found.si_status))
        else:
            on_exit(self.name, ExitStatus(None, found.si_status))

    def send(self, number: int, *, whole_group: bool = True) -> None:
        """Send a signal to the child's whole group, or to it alone; nothing happens when all of it has ended."""
        if not self._is_reaped:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if whole_group else os.kill)(self.pid, number)

    def reap(self) -> int:
        """Kill what the child left behind in its group, remove the zombie, and return its peak resident set in bytes; once.

        Waits if the child still runs. The kernel counts the launcher's own memory at the fork as the least peak.
        """
        self.send(signal.SIGKILL)
        _, status, used = os.wait4(self.pid, 0)
        self._is_reaped = True
        self._popen.returncode = os.waitstatus_to_exitcode(status)  # else Popen would wait for whoever has this id next
        return used.ru_maxrss * 1024
