"""What a process of the job does first: see that its launcher lives, take its cores, wait for the scheduler."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from fcn4dist.ascend.addresses import own_addresses
from fcn4dist.errors import JobError
from fcn4dist.hosts.listening import listens_here

POLL_S = 0.02
LAUNCHER_GONE = 128 + signal.SIGKILL  # the exit code of a process whose launcher died before it was tied to it


def leave_if_orphaned(launcher_pid: int) -> None:
    """Exit at once when the launcher is gone already.

    The kernel kills this process when the launcher dies (`die_with_parent`), but not when it died before that was set.
    """
    if os.getppid() != launcher_pid:
        os._exit(LAUNCHER_GONE)


def pin_to_cores(cores: tuple[int, ...]) -> None:
    """Pin this process, and the threads it will start, to `cores`; an empty tuple leaves it where it is."""
    if cores:
        os.sched_setaffinity(0, cores)


@contextlib.contextmanager
def threads_in_turn(rank: int) -> Iterator[None]:
    """While the block runs, a thread that it starts does not run before the one that woke it rests.

    MindSpore's `init()` needs that: it connects, has a thread of its own watch the connection, and only then writes down that
    it is connecting. On this host a connection is there at once; when the thread notes that before, its note is overwritten, and
    the rank gives up and tries again 0.6 s later, up to 150 times in turn (docs/lab/log.md). Linux lets a woken SCHED_BATCH
    thread wait, on the same core. Afterwards all threads have the process's cores and its policy again. Where the kernel
    refuses (some containers do), the block runs as it would without this.
    """
    cores = os.sched_getaffinity(0)
    core = sorted(cores)[rank % len(cores)]
    is_normal = os.sched_getscheduler(0) == os.SCHED_OTHER
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {core})
        if is_normal:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        for thread in [int(path.name) for path in Path("/proc/self/task").iterdir()]:
            with contextlib.suppress(OSError):  # ended by now
                if os.sched_getaffinity(thread) == {core}:
                    os.sched_setaffinity(thread, cores)
                if is_normal and os.sched_getscheduler(thread) == os.SCHED_BATCH:
                    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def wait_until_listening(host: str, port: int, limit_s: float, mark: Path | None = None) -> None:
    """Return as soon as the scheduler listens, so that the first connect succeeds.

    A worker that connects earlier is sent into MindSpore's retry loop, which costs up to 7 s. On this host the kernel's
    table is read, since a trial connection would disturb the scheduler; of another host this host's launcher hears it and
    makes the file `mark`. Raises JobError after `limit_s` seconds.
    """
    is_local = _is_local(host)
    end_s = time.monotonic() + limit_s
    while not (listens_here(port) if is_local else mark is not None and mark.exists()):
        if time.monotonic() > end_s:
            raise JobError(f"{host}:{port}: the scheduler does not listen after {limit_s:g} s; see scheduler.log")
        time.sleep(POLL_S)


def _is_local(host: str) -> bool:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise JobError(f"{host}: the scheduler's host cannot be resolved: {error.strerror}") from None
    own = own_addresses()
    return any(str(address) in own or str(address).startswith("127.") for address in addresses)
