"""A terminal for tests: a program runs on a real pty, and what it writes is replayed into a screen by pyte."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType

import pyte

ROOT = Path(__file__).resolve().parents[1]


class Terminal:
    """A program on a terminal of `columns` x `lines`; each block of its bytes is drawn, and looked at, as it comes.

    `picture`: a regular expression that finds the first line of the live picture, of which there may be only one at a time.
    `stdout`, `stderr`: False puts a pipe there instead of the terminal, and what came through it into `piped`.
    """

    def __init__(
        self,
        arguments: list[str],
        picture: str,
        *,
        columns: int = 80,
        lines: int = 24,
        term: str = "xterm-256color",
        stdout: bool = True,
        stderr: bool = True,
        **environment: str,
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000)
        self._stream = pyte.ByteStream(self.screen)
        self._picture = re.compile(picture)
        self.num_pictures = 0  # how many different ones were seen
        self._last_picture = ""
        self._terminal, theirs = os.openpty()
        mode = termios.tcgetattr(theirs)
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, mode)
        self.resize(columns, lines)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": term, **environment}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=theirs,
            stdout=theirs if stdout else subprocess.PIPE,
            stderr=theirs if stderr else subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._terminal)
        if kind is not None:
            self.process.kill()
        self.piped = b"".join(pipe for pipe in self.process.communicate() if pipe).decode()

    @property
    def rows(self) -> list[str]:
        """All lines without the blanks at their ends, also those that went out at the top; empty ones left out."""
        above = ["".join(row[x].data for x in range(self.screen.columns)) for row in self.screen.history.top]
        return [row.rstrip() for row in [*above, *self.screen.display] if row.strip()]

    def resize(self, columns: int, lines: int) -> None:
        """Make it as large."""
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def send(self, text: str) -> None:
        """Type."""
        os.write(self._terminal, text.encode())

    def read_until(self, text: str, limit_s: float = 60.0) -> None:
        """Draw what comes until a row holds `text`."""
        end_s = time.monotonic() + limit_s
        while not any(text in row for row in self.rows):
            assert time.monotonic() < end_s, f"{text!r} not within {limit_s} s:\n{self}"
            assert self._read(0.1) or self.process.poll() is None, f"ended without {text!r}:\n{self}"

    def read_to_end(self) -> int:
        """Draw all that comes and return the exit code."""
        while self._read(None):
            pass
        return self.process.wait()

    def _read(self, limit_s: float | None) -> bool:
        """Draw the next block; False where none came."""
        if not select.select([self._terminal], [], [], limit_s)[0]:
            return False
        try:
            block = os.read(self._terminal, 4096)
        except OSError:  # the other end is closed
            return False
        self._stream.feed(block)
        self.check()
        return bool(block)

    def check(self) -> None:
        """See that the screen holds no escape as text, and no more than one picture."""
        rows = self.rows
        assert not [row for row in rows if re.search(r"\x1b|\[\d*[A-Km]|\[\?25", row)], f"escapes as text:\n{self}"
        pictures = [row for row in rows if self._picture.search(row)]
        assert len(pictures) <= 1, f"more than one picture:\n{self}"
        if pictures and pictures[0] != self._last_picture:
            self.num_pictures += 1
            self._last_picture = pictures[0]

    def __str__(self) -> str:
        return "\n".join(self.rows)
