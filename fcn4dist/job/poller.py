"""A thread that looks again and again: at files of the run, at processes."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from typing import TypeVar

log = logging.getLogger(__name__)
Self = TypeVar("Self", bound="Poller")
JOIN_S = 1.0  # for the last look; one that takes longer (npu-smi, a frozen folder) must not hold up the end of the job


class Poller(ABC):
    """Calls `poll` from a thread of its own until the `with` block ends; one that fails is logged, and the next follows."""

    def __init__(self, name: str) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self: Self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        said = ""
        while not self._end.wait(self.pause_s()):
            try:
                self.poll()
            except OSError as error:  # ESTALE, EIO: a network's folder may come back
                if str(error) != said:
                    said = str(error)
                    log.warning("%s: %s; trying again", self._thread.name, said)

    @abstractmethod
    def pause_s(self) -> float:
        """Return the seconds until the next look."""

    @abstractmethod
    def poll(self) -> None:
        """Look once; may raise OSError."""
