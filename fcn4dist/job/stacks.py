"""The stacks of a job that hangs, as py-spy sees them: from outside, so also of a rank that can no longer write its own."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from fcn4dist.job.state import STACK_GRACE_S


def dump_with_py_spy(pids: Mapping[str, int], folder: Path) -> list[threading.Thread]:
    """Write `folder`/<process>.py-spy for each process, in the background; nothing where py-spy is not installed.

    Returns the threads at work; each ends within STACK_GRACE_S.
    """
    program = shutil.which("py-spy")
    if program is None:
        return []

    def dump(process: str, pid: int) -> None:
        try:
            command = [program, "dump", "--native", "--pid", str(pid)]
            done = subprocess.run(command, capture_output=True, timeout=STACK_GRACE_S, check=False)
            (folder / f"{process}.py-spy").write_bytes(done.stdout or done.stderr)
        except (OSError, subprocess.TimeoutExpired):
            return  # faulthandler's stack is there in any case

    threads = [threading.Thread(target=dump, args=item, daemon=True) for item in pids.items()]
    for thread in threads:
        thread.start()
    return threads


def remove_empty_stacks(folder: Path) -> None:
    """Remove the files of an attempt's logs into which no process wrote a stack."""
    for file in folder.glob("*.stack"):
        if file.stat().st_size == 0:
            file.unlink()
