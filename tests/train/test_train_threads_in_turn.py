from __future__ import annotations

import contextlib
import os
import threading
import time

import pytest

from fcn4dist.train.bring_up import threads_in_turn

Tasks = dict[int, tuple[set[int], int]]


def tasks() -> Tasks:
    """Return the cores and the policy of each thread of this process."""
    found: Tasks = {}
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            found[thread] = (os.sched_getaffinity(thread), os.sched_getscheduler(thread))
    return found


def check_as_before(before: Tasks) -> None:
    """Check the threads that were there before; those of other tests may have ended meanwhile."""
    now = tasks()
    left = {thread: found for thread, found in now.items() if thread in before}
    assert threading.get_native_id() in left
    assert left == {thread: before[thread] for thread in left}


def test_threads_of_the_block_share_a_core_and_have_all_afterwards() -> None:
    before, end = tasks(), threading.Event()
    with threads_in_turn(rank=5):
        thread = threading.Thread(target=end.wait)
        thread.start()
        assert thread.native_id is not None
        cores, policy = tasks()[thread.native_id]
        assert len(cores) == 1
        assert policy == os.SCHED_BATCH
        assert tasks()[threading.get_native_id()] == (cores, policy)
    try:
        assert tasks()[thread.native_id] == before[threading.get_native_id()]
        check_as_before(before)
    finally:
        end.set()
        thread.join()


def test_an_exception_leaves_all_as_it_was() -> None:
    before = tasks()
    with pytest.raises(RuntimeError, match="init failed"), threads_in_turn(rank=0):
        raise RuntimeError("init failed")
    check_as_before(before)


def test_where_the_kernel_refuses_the_block_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("seccomp")

    before = tasks()
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with threads_in_turn(rank=0):
        check_as_before(before)


def count_in_turn(num_tries: int) -> int:
    """Return how often a process that this one wakes runs only once this one has worked on for 0.2 ms."""
    ask, answer = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        while os.read(ask[0], 1) == b"!":
            os.write(answer[1], time.monotonic_ns().to_bytes(8, "little"))
        os._exit(0)
    in_turn = 0
    for _ in range(num_tries):
        time.sleep(0.003)  # so that its slice of the core is fresh, as after the sleeps of MindSpore's connect
        end_ns = time.monotonic_ns() + 200_000
        os.write(ask[1], b"!")
        while time.monotonic_ns() < end_ns:
            pass
        in_turn += int.from_bytes(os.read(answer[0], 8), "little") >= end_ns
    os.write(ask[1], b".")
    os.waitpid(child, 0)
    for descriptor in (*ask, *answer):
        os.close(descriptor)
    return in_turn


def test_who_is_woken_waits_for_its_turn() -> None:
    with threads_in_turn(rank=1):  # what a new process inherits is what a new thread does
        assert count_in_turn(100) >= 80  # other work on the core may come between
