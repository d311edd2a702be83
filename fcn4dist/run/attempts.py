"""Make, check and lock the folder of a run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from fcn4dist.errors import ConfigError
from fcn4dist.run.folder import RunDir

log = logging.getLogger(__name__)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # NFS without its lock service, some FUSE and parallel ones


def next_attempt(run_dir: RunDir) -> int:
    """Return the number of the next attempt: one more than the highest that has a folder of logs."""
    folders = run_dir.logs(1).parent.glob("attempt-*")
    return 1 + max((int(m[1]) for f in folders if (m := re.fullmatch(r"attempt-(\d+)", f.name))), default=0)


def dated_folder() -> Path:
    """Return runs/<date and time>, with a number behind it where that is taken; nothing is created."""
    first = Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")
    folder, number = first, 1
    while folder.exists():
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return folder


def check_run_dir(run_dir: RunDir, *, resume: bool) -> None:
    """Raise ConfigError where there is no run to resume, or one that a new run would mix with."""
    if resume and not run_dir.config.is_file():
        raise ConfigError(f"--resume {run_dir.path}: no run here (no {run_dir.config.name})")
    if not resume and run_dir.config.exists():
        raise ConfigError(
            f"--run-dir {run_dir.path}: already holds a run; continue it with --resume {run_dir.path}, or name another"
        )


@contextlib.contextmanager
def locked(run_dir: RunDir) -> Iterator[None]:
    """Make the run directory and hold its lock; a folder that stays empty is removed again.

    The lock's file stays: were it removed, two launchers could each hold a lock of that name.
    """
    lock, new_parent = run_dir.lock, not run_dir.path.parent.exists()
    with writing(run_dir):
        run_dir.path.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(f"{run_dir.path}: in use by another launcher, process {file.read() or '?'}") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise ConfigError(f"{run_dir.path}: cannot be locked: {error.strerror}") from None
            log.warning("%s: no locks on this file system (%s): start no second launcher here", lock, error.strerror)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            if os.listdir(run_dir.path) == [lock.name]:  # refused before anything was written
                lock.unlink()
                run_dir.path.rmdir()
                with contextlib.suppress(OSError):
                    if new_parent:
                        run_dir.path.parent.rmdir()


@contextlib.contextmanager
def writing(run_dir: RunDir) -> Iterator[None]:
    """Turn the refusals of the disk into a ConfigError that names the run directory."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{run_dir.path}: cannot write the run directory: {error.strerror or error}") from None
