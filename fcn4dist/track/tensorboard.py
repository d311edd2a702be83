"""TensorBoard: RUN/tensorboard; a resumed run is written anew, after the event by which TensorBoard forgets what it has seen."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from fcn4dist.run.folder import RunDir
from fcn4dist.run.state import Kind
from fcn4dist.track.tracker import About, Point

PREFIX = "events.out.tfevents"  # TensorBoard looks for files of this name


class EventFile:
    """One event file; only one at a time may be written."""

    is_rewritten: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        self._folder = RunDir(folder).tensorboard
        self.place = str(self._folder)

    def start(self, about: About, run_id: str | None) -> str:
        """Begin a file, of another name than those there; `run_id` has no meaning here."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        now, self._old = time.time(), list(self._folder.glob(f"{PREFIX}.*"))
        path = self._folder / f"{PREFIX}.{now:010.0f}.{socket.gethostname()}.{os.getpid()}.{len(self._old)}"
        self._file, self._event_type = path.open("wb"), Event
        self._records = RecordWriter(self._file)
        self._records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        start = SessionLog(status=SessionLog.START)  # forget steps from 0 on
        self._records.write(Event(wall_time=now, step=0, session_log=start).SerializeToString())
        return path.name

    def add(self, points: Sequence[Point]) -> None:
        """Append, and let readers see it; then empty the files before this one, since all of them is in it."""
        for point in points:
            event = self._event_type(wall_time=point.time_s, step=point.step)
            for tag, value in point.scalars.items():
                event.summary.value.add(tag=tag, simple_value=value)
            self._records.write(event.SerializeToString())
        self._file.flush()
        while self._old:
            os.truncate(self._old.pop(), 0)  # a TensorBoard that reads it would stop if it were gone

    def close(self, kind: Kind) -> None:
        """Close the file."""
        self._file.close()


TRACKER = EventFile
