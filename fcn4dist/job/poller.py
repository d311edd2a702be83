"""A thread that looks again and again: at files of the run, at processes."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TypeVar

Self = TypeVar("Self", bound="Poller")


class Poller(ABC):
    """Calls `poll` from a thread of its own until the `with` block ends."""

    def __init__(self, name: str) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self: Self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self.pause_s()):
            self.poll()

    @abstractmethod
    def pause_s(self) -> float:
        """Return the seconds until the next look."""

    @abstractmethod
    def poll(self) -> None:
        """Look once."""
