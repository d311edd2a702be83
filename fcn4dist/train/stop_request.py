"""The wish to stop after the current step: heard as a signal by one rank, shared with all in the step's AllReduce."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

REQUESTS = (signal.SIGTERM, signal.SIGUSR1)  # from the launcher, or from a scheduler that signals every process


class StopRequest:
    """While its `with` block runs, REQUESTS (and `also`) set `signal` and end nothing; main thread only."""

    def __init__(self, also: tuple[int, ...] = ()) -> None:
        self.signal: int | None = None
        self._numbers = (*REQUESTS, *also)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._hear) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def is_set(self) -> bool:
        """Whether this process was asked to stop."""
        return self.signal is not None

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold signals back while a batch is read or an evaluation runs, and set the handlers again: MindSpore may set its own.

        It does so while a graph runs, too, and then passes SIGINT on as SIGTERM.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        try:
            yield
        finally:
            for number in self._before:
                signal.signal(number, self._hear)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or number
