from __future__ import annotations

import os
import signal

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
