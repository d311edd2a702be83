from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcn4dist.errors import ConfigError
from fcn4dist.run.attempts import locked
from fcn4dist.run.folder import RunDir

HOLD = (
    "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX); print(1, flush=True); input()"
)


def test_a_run_directory_that_another_process_holds_is_in_use(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.lock.write_text("4321")
    command = [sys.executable, "-c", HOLD, str(run.lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(ConfigError, match="in use by another launcher, process 4321"), locked(run):
            pass
        holder.communicate(b"\n")
    with locked(run):
        assert run.lock.read_text() == str(os.getpid())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """As NFS without its lock service answers; no file system of a test machine does."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with locked(RunDir(tmp_path)):
        assert f"no locks on this file system ({os.strerror(number)})" in caplog.text


def test_another_error_of_the_lock_is_told_as_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(ConfigError, match="cannot be locked: Input/output error"), locked(RunDir(tmp_path)):
        pass
