"""Cuts short the sleeps of MindSpore's `init()` on CPU, which cost a job 3 s of its start.

There every rank but the last one looks for the others' addresses too early, and sleeps 3 s (libc's `sleep`) before it looks
again; no setting changes that. A signal ends such a sleep, and the look then comes earlier. `init()` holds the
interpreter, so neither a thread nor a handler of Python could send it: the kernel's timers do, all set beforehand.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator

SLEEP_S = 3  # of MindSpore's between two looks, of which it takes 19
# Seconds from the start of init(); the others' addresses come after 0.6 to 2.6 s. The looks are counted: with gaps that
# grow, a rank that is late is still waited for over half a minute.
FIRST_S = 0.8
GROWTH = 1.3
ALARM = signal.SIGRTMAX  # nobody else's, unlike SIGALRM

CLOCK_MONOTONIC = 1  # linux/time.h
SIGEV_THREAD_ID = 4  # asm-generic/siginfo.h: the signal goes to one thread


class _SigEvent(ctypes.Structure):
    _fields_ = [
        *(("value", ctypes.c_void_p), ("number", ctypes.c_int), ("notify", ctypes.c_int), ("thread", ctypes.c_int)),
        ("unused", ctypes.c_int * 11),
    ]


class _TimerSpec(ctypes.Structure):
    """An `itimerspec`; an interval of 0 means once."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "first_s", "first_ns")]


def alarm_times() -> list[float]:
    """Return when the sleeps are cut, in seconds from the start, until they would be as long as MindSpore's own."""
    times = [FIRST_S]
    while times[-1] * (GROWTH - 1) < SLEEP_S:
        times.append(times[-1] * GROWTH)
    return times


@contextlib.contextmanager
def short_sleeps() -> Iterator[None]:
    """Interrupt the main thread's sleeps at `alarm_times` while the block runs; main thread only.

    ITIMER_REAL and SIGALRM are left alone, system calls that can be restarted are. Without timers (a kernel may refuse them)
    the block runs as it would without this.
    """
    libc = _library_of_timers()
    before = signal.signal(ALARM, lambda *_: None)
    signal.siginterrupt(ALARM, False)
    timers: list[ctypes.c_void_p] = []
    try:
        with contextlib.suppress(OSError):
            for after_s in alarm_times():
                timers.append(_start_timer(libc, after_s))
        yield
    finally:
        for timer in timers:
            libc.timer_delete(timer)
        signal.signal(ALARM, signal.SIG_DFL if before is None else before)


def _library_of_timers() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    return libc if hasattr(libc, "timer_create") else ctypes.CDLL("librt.so.1", use_errno=True)  # glibc before 2.34


def _start_timer(libc: ctypes.CDLL, after_s: float) -> ctypes.c_void_p:
    """Have the kernel send ALARM to this thread once; raises OSError."""
    event = _SigEvent(number=ALARM, notify=SIGEV_THREAD_ID, thread=threading.get_native_id())
    timer = ctypes.c_void_p()
    if libc.timer_create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
        raise OSError(ctypes.get_errno(), "timer_create")
    spec = _TimerSpec(first_s=int(after_s), first_ns=int(after_s % 1 * 1e9))
    if libc.timer_settime(timer, 0, ctypes.byref(spec), None):
        raise OSError(ctypes.get_errno(), "timer_settime")
    return timer
