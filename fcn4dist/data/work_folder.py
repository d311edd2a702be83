"""The work folder beside a prepared data set: what a run leaves for the next one, and the step that makes it whole.

`RECORDS.partial/` holds the finished shards, what their workers noted, and the shards being written.
One process at a time owns it, by a lock
that the kernel drops when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.errors import DataError
from fcn4dist.files import sync_directory

SUFFIX = ".partial"


@dataclass(frozen=True)
class WorkFolder:
    """The paths of a work folder."""

    target: Path  # the prepared data set that will be

    @property
    def path(self) -> Path:
        """The folder, on the same file system as the target, so that a rename completes it."""
        return self.target.with_name(self.target.name + SUFFIX)

    @property
    def notes(self) -> Path:
        """What became of the clips of each finished shard."""
        return self.path / "notes"

    @property
    def shards(self) -> Path:
        """The data set while it is written."""
        return self.path / "shards"

    @property
    def replaced(self) -> Path:
        """The old data set for the moment between two renames."""
        return self.path / "replaced"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Own the folder, creating it; raises DataError when another process does, OSError when it cannot be made."""
        descriptor = self._acquire()
        try:
            yield
        finally:
            os.close(descriptor)

    def _acquire(self) -> int:
        lock = self.path / "lock"
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # its owner has just removed the folder
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_ino == lock.stat().st_ino:
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                raise DataError(
                    f"{self.path}: another prepare is at work on {self.target}; wait for it or end it"
                ) from None
            except FileNotFoundError:
                pass
            os.close(descriptor)  # this lock's file is gone: the next one counts

    def restore(self) -> None:
        """Bring back a data set whose replacement was cut short; call it with the lock held."""
        if self.replaced.is_dir():
            if self.target.exists():
                shutil.rmtree(self.replaced)
            else:
                self.replaced.rename(self.target)

    def publish(self) -> None:
        """Rename the finished data set, whose files are synced, into place; remove the work folder with what it replaces."""
        sync_directory(self.shards)
        if self.target.is_dir() and any(self.target.iterdir()):
            self.target.rename(self.replaced)
        try:
            self.shards.rename(self.target)  # takes the place of an empty folder too
        except OSError:
            self.restore()
            raise
        sync_directory(self.target.parent)
        self.remove()

    def remove(self) -> None:
        """Remove the folder and all in it; leftovers are harmless, so failures are ignored."""
        shutil.rmtree(self.path, ignore_errors=True)
