"""The wish to stop after the current step: heard as a signal by one rank, shared with all in the step's AllReduce."""

from __future__ import annotations

import signal
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

    def poll(self) -> bool:
        """Return whether this process was asked to stop; call it before every step.

        MindSpore's data pipelines set their own handler of SIGINT whenever one starts; here it is taken back.
        """
        for number in self._before:
            signal.signal(number, self._hear)
        return self.signal is not None

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or number
