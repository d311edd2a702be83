"""Two hosts on one machine for tests, and what recipes need there."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from jobs import environment

from benchmarks.fake_hosts import FakeHosts

ROOT = Path(__file__).resolve().parents[2]


def need(*programs: str) -> None:
    """Skip the test where a program is missing or we are not root."""
    if missing := [program for program in ("ip", "unshare", *programs) if tool(program) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")


def tool(program: str) -> str | None:
    """Return the path of a program; servers are in sbin."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


@contextlib.contextmanager
def fake_hosts() -> Iterator[FakeHosts]:
    """Give two hosts; skip where the kernel refuses them."""
    hosts = FakeHosts((f"f4d{os.getpid()}a", f"f4d{os.getpid()}b"))
    try:
        hosts.build()
    except OSError as error:
        hosts.remove()
        pytest.skip(f"no network namespaces here: {error}")
    try:
        yield hosts
    finally:
        hosts.remove()


def write_command(folder: Path) -> Path:
    """Write a `fcn4dist` that runs this working tree, for shells that start in an environment of their own."""
    file = folder / "fcn4dist"
    file.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m fcn4dist "$@"\n')
    file.chmod(0o755)
    return file


def run_recipe(
    command: Sequence[object], folder: Path, timeout_s: float = 170, **extra: object
) -> subprocess.CompletedProcess[str]:
    """Run a recipe in `folder` and return what it printed."""
    variables = {**environment(), **{name: str(value) for name, value in extra.items()}}
    return subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        check=False,
    )
