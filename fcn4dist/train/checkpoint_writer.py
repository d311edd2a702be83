"""Writes checkpoints in the background: a step waits for the copy to host memory, not for the disk."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from mindspore import Parameter

from fcn4dist.errors import JobError
from fcn4dist.train.checkpoint import Checkpoints, Progress, Snapshot

logger = logging.getLogger(__name__)
OnError = Literal["stop", "continue"]
NICENESS = 10  # the writing thread gets a tenth of a core that a step computes on, and all of it while the step waits


class CheckpointWriter:
    """One write at a time; whoever asks for the next one while it runs waits for it, so at most one copy is in memory.

    A write that fails is heard at the next call: as JobError with `on_error` stop, as a warning with continue.
    """

    def __init__(self, checkpoints: Checkpoints, on_error: OnError) -> None:
        self._checkpoints = checkpoints
        self._on_error = on_error
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self.waited_s = 0.0  # that steps have waited for checkpoints, in all

    def save(self, progress: Progress, weights: Sequence[Parameter], optimizer: Sequence[Parameter]) -> None:
        """Copy the run at this step and write it in the background. Raises JobError when the write before failed."""
        start = time.perf_counter()
        self.wait()
        snapshot = Snapshot.take(progress, weights, optimizer)
        self._start(lambda: self._checkpoints.write(snapshot), f"checkpoint-{progress.step}")
        self.waited_s += time.perf_counter() - start

    def note_evaluation(self, progress: Progress) -> None:
        """Note beside the checkpoint of `progress.step` that its evaluation is done, after its write."""
        self.wait()
        self._start(lambda: self._checkpoints.note_evaluation(progress), f"evaluated-{progress.step}")

    def check(self, *, is_end: bool = False) -> None:
        """Raise JobError (or warn) when the last write has failed; waits for nothing. At the end it is never a warning."""
        error, self._error = self._error, None
        if error is None:
            return
        message = f"the checkpoint could not be written, the ones before are as they were: {error}"
        if is_end:
            raise JobError(f"the run is at its end, but {message}") from error
        if self._on_error == "stop":
            raise JobError(f"{message} (checkpoint.on_error: continue would keep training)") from error
        logger.warning("%s; training goes on (checkpoint.on_error: continue)", message)

    def wait(self, *, is_end: bool = False) -> None:
        """Wait until nothing is being written, then `check`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check(is_end=is_end)

    def abandon(self) -> None:
        """Let the last write finish while another error ends the run; what it meets is logged."""
        try:
            self.wait()
        except JobError as error:
            logger.error("%s", error)

    def _start(self, write: Callable[[], Path | None], name: str) -> None:
        def run() -> None:
            os.nice(NICENESS)  # on Linux of this thread alone
            try:
                write()
            except OSError as error:
                self._error = error
            except Exception as error:  # whatever it is must reach the run, a thread would only print it
                logger.exception("%s", name)
                self._error = error

        # not a daemon: an interpreter that ends by itself waits for it
        self._thread = threading.Thread(target=run, name=name)
        self._thread.start()
