from __future__ import annotations

import ctypes
import os
import signal
import threading

import pytest

from fcn4dist.train import short_sleeps as module
from fcn4dist.train.short_sleeps import ALARM, alarm_times, short_sleeps

LIBC = ctypes.PyDLL(None)  # holds the interpreter while it runs, as MindSpore's init() does


def waited_s(begin_s: float) -> float:
    """Return how long 19 looks with 18 sleeps of 3 s between them last, of which the alarms end some early."""
    now_s = begin_s
    for _ in range(18):
        alarms = [time_s for time_s in alarm_times() if now_s < time_s < now_s + 3]
        now_s = alarms[0] if alarms else now_s + 3
    return now_s - begin_s


@pytest.mark.parametrize("begin_s", [0.0, 0.05, 0.79, 0.81, 2.0, 5.0, 10.0, 12.0, 60.0])
def test_a_late_rank_is_waited_for_over_half_a_minute(begin_s: float) -> None:
    assert 30 <= waited_s(begin_s) <= 54


def test_a_sleep_that_holds_the_interpreter_ends_early() -> None:
    with short_sleeps():
        assert LIBC.sleep(3) > 0  # seconds left: 0 when nothing cut it short
    assert signal.getsignal(ALARM) == signal.SIG_DFL


def test_no_timer_outlives_the_block_nor_does_an_exception_keep_one() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {ALARM})
    try:
        with pytest.raises(RuntimeError, match="init failed"), short_sleeps():
            raise RuntimeError("init failed")
        assert signal.sigtimedwait({ALARM}, alarm_times()[0] + 0.4) is None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_handlers_and_the_timer_of_the_user_are_left_as_they_were() -> None:
    heard: list[int] = []
    numbers = (ALARM, signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, lambda found, _: heard.append(found)) for number in numbers}
    mine = {number: signal.getsignal(number) for number in numbers}
    signal.setitimer(signal.ITIMER_REAL, 1000.0)
    try:
        with short_sleeps():
            os.kill(os.getpid(), signal.SIGTERM)
            assert {number: signal.getsignal(number) for number in numbers[1:]} == {n: mine[n] for n in numbers[1:]}
        assert {number: signal.getsignal(number) for number in numbers} == mine
        assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] < 1000
        assert heard == [signal.SIGTERM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_call_that_waits_for_data_is_not_cut_short() -> None:
    reader, writer = os.pipe()
    received = ctypes.create_string_buffer(8)
    late = threading.Timer(alarm_times()[1] + 0.1, os.write, (writer, b"welcome"))
    try:
        with short_sleeps():
            late.start()
            assert ctypes.CDLL(None).read(reader, received, 8) == 7  # -1 if a signal had ended it
        assert received.value == b"welcome"
    finally:
        late.cancel()
        late.join()
        os.close(reader)
        os.close(writer)


def test_without_timers_the_block_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOCK_MONOTONIC", 12345)  # the kernel refuses: EINVAL
    with short_sleeps():
        assert signal.getsignal(ALARM) != signal.SIG_DFL
    assert signal.getsignal(ALARM) == signal.SIG_DFL
