"""A reader that goes away and a disk that is full: an exit code and at most one line, for all commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(stdout: int, *words: str, **variables: str) -> tuple[int, str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "fcn4dist", *words]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environ, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", [["config", "show"], ["--help"]], ids="-".join)
def test_a_reader_that_went_away_is_no_news(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run(writing, *words) == (141, "")
    finally:
        os.close(writing)


@pytest.mark.parametrize(
    ("words", "unbuffered"), [(["config", "keys"], "1"), (["config", "show"], ""), (["--help"], "")], ids=str
)
def test_a_full_disk_is_one_line(words: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        code, said = run(full.fileno(), *words, PYTHONUNBUFFERED=unbuffered)
    assert (code, said) == (1, "fcn4dist: stdout: cannot be written: No space left on device\n")
