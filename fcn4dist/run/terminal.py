"""What a run looks like on a terminal: the console, the one live picture, and lines about steps and evaluations."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleRenderable, RenderableType
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment

from fcn4dist.run.figures import Figures
from fcn4dist.run.state import value_of

PLAIN_EVERY_S = 5.0  # between lines where the output is not a terminal
LIVE_HZ = 4.0  # how often a terminal is drawn anew


class _PatientStream(io.TextIOBase):
    """A stream whose reader may go away (`| head`, a closed terminal) without ending the job."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_deaf = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        with self._until_deaf():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._until_deaf():
            self._stream.flush()

    @contextmanager
    def _until_deaf(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            if self._is_deaf:
                return
            self._is_deaf = True
            nowhere = os.open(os.devnull, os.O_WRONLY)  # also for what Python flushes at its exit
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def build_console(stream: TextIO, width: int | None = None) -> Console:
    """Return the console that a job is shown on; it goes quiet when its reader goes away."""
    return Console(file=cast(TextIO, _PatientStream(stream)), width=width)


class LivePicture(Live):
    """Draws a picture anew until it is stopped; then it is gone, and the lines printed meanwhile stand where it was.

    What the program writes to `sys.stdout` and `sys.stderr` meanwhile is such a line, too. Only one at a time: two would
    move the cursor of one terminal.
    """

    def __init__(self, console: Console, draw: Callable[[], RenderableType]) -> None:
        self._is_over = False
        self._picture: RenderableType = ""
        self._widths: list[int] = []  # of the lines on the screen
        super().__init__(
            console=console,
            get_renderable=draw,
            refresh_per_second=LIVE_HZ,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # what goes into a file goes on into it
            redirect_stderr=sys.stderr.isatty(),
        )

    def stop(self) -> None:
        """Take the picture away."""
        self._is_over = True
        super().stop()

    def get_renderable(self) -> RenderableType:
        """Return the picture of now; of the end nothing, since rich draws that one higher than the terminal is."""
        self._picture = "" if self._is_over else super().get_renderable()
        return self._picture

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Take also away what a terminal that became narrower made of the last picture: longer lines take more rows."""
        width = self.console.width
        num_more = sum(max(line - 1, 0) // width for line in self._widths)
        lines = self.console.render_lines(self._picture, pad=False)[: self.console.height]
        self._widths = [Segment.get_line_length(line) for line in lines]
        row = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
        return [Control(*row * num_more), *super().process_renderables(renderables)]


def format_step(record: dict[str, Any]) -> str:
    """Return one line about a step; keys that a record does not have are left out."""
    epoch, step, total = (value_of(record, key) for key in ("epoch", "step", "num_steps"))
    parts = [] if epoch is None else [f"epoch {epoch:.0f}"]
    parts.append(f"step {'?' if step is None else f'{step:.0f}'}" + (f"/{total:.0f}" if total else ""))
    return "  ".join([*parts, *list_figures(record)])


def list_figures(record: dict[str, Any]) -> list[str]:
    """Return what a step's record says of loss, speed and time left, in words."""
    loss, rate, left_s = (value_of(record, key) for key in ("loss", "samples_per_s", "time_left_s"))
    parts = ["loss overflow" if record.get("overflow") else f"loss {'nan' if loss is None else f'{loss:.4f}'}"]
    if rate is not None:
        parts.append(f"{rate:.1f} clips/s")
    if left_s is not None:
        parts.append(f"{format_duration(left_s)} left")
    return parts


def format_evaluation(evaluation: dict[str, Any]) -> str:
    """Return one line about an evaluation."""
    split, name = evaluation.get("split", "?"), evaluation.get("split_name")
    clips = f"{evaluation.get('num_scored', '?')} {split} clips" + (f" of {name}" if name else "")
    return f"evaluation: {clips}, {format_scores(evaluation)}"


def format_scores(evaluation: dict[str, Any]) -> str:
    """Return the macro figures of an evaluation, as far as they are defined, and what to know beside them."""
    figures = Figures(evaluation)
    caution = figures.caution
    return (figures.macro or "no tag can be scored") + (f" (caution: {caution})" if caution else "")


def format_duration(seconds: float) -> str:
    """Return "42 s", "3 min 05 s" or "2 h 07 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
