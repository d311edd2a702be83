"""How far `prepare` is, on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_EVERY_S = 10.0  # between plain lines


class ConsoleProgress:
    """A bar with rate and time left on a terminal, a line now and then elsewhere, all on stderr."""

    def __init__(self, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._what, self._total, self._done, self._num_reused = "", 0, 0, 0
        self._started = self._last_line = 0.0

    def __enter__(self) -> ConsoleProgress:
        if not self._is_quiet and sys.stderr.isatty():
            self._bar = _build_bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, what: str, total: int, done: int) -> None:
        """Begin a stage."""
        self._what, self._total, self._done, self._num_reused = what, total, done, done
        self._started = self._last_line = time.monotonic()
        if self._bar is not None:
            self._task = self._bar.add_task(what, total=total, completed=done)
        else:
            self._say(f"{what}: {total} clips" + (f", {done} of them from an earlier run" if done else ""))

    def advance(self, num_clips: int) -> None:
        """Count clips as done."""
        self._done += num_clips
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, num_clips)
        elif (now := time.monotonic()) - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            rate = (self._done - self._num_reused) / (now - self._started)
            left_s = (self._total - self._done) / rate
            self._say(f"{self._what}: {self._done} of {self._total} clips, {rate:.1f} clips/s, {left_s:.0f} s left")

    def _say(self, text: str) -> None:
        if not self._is_quiet:
            click.echo(text, err=True)


def _build_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        """Clips a second."""

        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f} clips/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Bar(*columns, console=Console(stderr=True))
