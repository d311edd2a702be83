from __future__ import annotations

import os
import signal
import threading

import pytest

from fcn4dist.train.stop_request import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_a_wish_while_the_block_runs_and_the_first_one_counts(number: int) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    with StopRequest(also=(signal.SIGINT,)) as stop:
        assert not stop.is_set
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set
        assert stop.signal == number
    assert {n: signal.getsignal(n) for n in before} == before


def test_a_signal_that_meets_a_librarys_handler_in_the_making_is_not_lost() -> None:
    with StopRequest() as stop:
        with stop.shielded():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it would end this process
            signal.pthread_kill(
                threading.get_ident(), signal.SIGTERM
            )  # another thread of the test runner may not block it
            assert not stop.is_set
        assert stop.is_set
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
