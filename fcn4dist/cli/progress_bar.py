"""How far `prepare` is, on stderr."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fcn4dist.run.terminal import LivePicture

LINE_EVERY_S = 10.0  # between plain lines


class ConsoleProgress:
    """A bar with rate and time left on a terminal, a line now and then elsewhere, all on stderr."""

    def __init__(self, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._live: LivePicture | None = None
        self._terminal: TextIO | None = None
        self._what, self._total, self._done, self._num_reused = "", 0, 0, 0
        self._started = self._last_line = 0.0

    def __enter__(self) -> ConsoleProgress:
        from fcn4dist.run.terminal import LivePicture, build_console

        if not self._is_quiet and build_console(sys.stderr).is_interactive:
            # a descriptor of its own: while this process decodes a clip, what C libraries write to stderr is dropped
            self._terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace")
            console = build_console(self._terminal)
            self._live = LivePicture(console, lambda: self._draw(console.width))
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._terminal is not None:
            self._terminal.close()

    def start(self, what: str, total: int, done: int) -> None:
        """Begin a stage."""
        self._what, self._total, self._done, self._num_reused = what, total, done, done
        self._started = self._last_line = time.monotonic()
        self._say(f"{what}: {total} clips" + (f", {done} of them from an earlier run" if done else ""))

    def advance(self, num_clips: int) -> None:
        """Count clips as done."""
        self._done += num_clips
        if self._live is None and (now := time.monotonic()) - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            self._say(f"{self._what}: {self._done} of {self._total} clips, {self._pace()}")

    def _draw(self, width: int) -> RenderableType:
        from rich.console import Group

        from fcn4dist.run.view import draw_bar

        if not self._total:
            return ""
        bar = draw_bar(f"{self._what} {self._done}/{self._total}", self._done, self._total, width)
        return Group(bar, self._pace())

    def _pace(self) -> str:
        from fcn4dist.run.terminal import format_duration

        rate = (self._done - self._num_reused) / (time.monotonic() - self._started)
        return f"{rate:.1f} clips/s, {format_duration((self._total - self._done) / rate)} left" if rate else ""

    def _say(self, text: str) -> None:
        if not self._is_quiet:
            click.echo(text, file=sys.stderr)  # err=True goes around the picture
