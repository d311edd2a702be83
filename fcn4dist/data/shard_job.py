"""One shard, one job: what a worker of prepare does from a shard's audio files to the shard, and what it notes of it.

The worker decodes the shard's clips, writes it, reads it back, renames it into place, and then saves the notes: what became of
every clip. A shard whose notes are there is finished, and a later run with the same inputs keeps it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from fcn4dist.config import MelConfig
from fcn4dist.data.audio import UnusableClipError, load_clip
from fcn4dist.data.mel import MelFilters, log_mel
from fcn4dist.data.mel_npy import load_mel_npy
from fcn4dist.data.parts import SplitPart
from fcn4dist.data.shards import Row, RowFormat, WrittenShard, temporary_of, write_shard
from fcn4dist.files import save_text

FEATURE_VERSION = 4  # raise it when the same audio gives other features
NOTED_S = 1.0  # how much shorter or longer than listed a clip may be before the ledger says so
IO_FAILURE = "cannot be read: "  # how reasons begin that may be gone the next time, with the file as it was
Source = Literal["audio", "npy"]  # what a clip's file holds: sound, or its log-mel spectrogram
LIBRARIES = ("numpy", "scipy", "librosa", "soxr", "soundfile")  # that may change the last bits


def feature_versions() -> list[int | str]:
    """Return the versions of the code that makes features: ours, and those of the libraries."""
    return [FEATURE_VERSION, *_library_versions()]


@cache
def _library_versions() -> tuple[str, ...]:
    return tuple(version(name) for name in LIBRARIES)


@dataclass(frozen=True)
class FeatureSpec:
    """All that the features depend on beside the audio."""

    mel: MelConfig
    dtype: Literal["float32", "float16"]
    source: Source = "audio"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a clip's feature: (1, mel bands, stored frames)."""
        return (1, self.mel.n_mels, self.mel.num_stored_frames)


@dataclass(frozen=True)
class ClipFile:
    """One clip's audio file, as it was when prepare began."""

    row: int  # of the annotations
    clip_id: int
    path: str
    file: Path
    size: int  # bytes; -1: not there
    mtime_ns: int
    listed_s: float  # its length by the annotations; NaN: they do not say


@dataclass(frozen=True, eq=False)
class ShardJob:
    """One shard: the clips that go into it, and all that its rows follow from."""

    file: Path
    notes: Path  # the file that says what became of its clips
    part: SplitPart
    clips: tuple[ClipFile, ...]
    labels: NDArray[np.int8]  # (clips, num_tags)
    siblings: tuple[str, ...]  # the names of all shards of the part
    most_clips: int  # of any of them
    spec: FeatureSpec

    @property
    def row_format(self) -> RowFormat:
        """How its rows are stored."""
        return RowFormat(self.spec.shape, self.spec.dtype, self.labels.shape[1])

    @cached_property
    def key(self) -> str:
        """Digest of everything that the shard follows from: a shard with this key is the one that is wanted."""
        facts = [
            feature_versions(),
            self.spec.mel.model_dump(mode="json"),
            [self.spec.dtype, self.spec.source],
            [self.siblings, self.most_clips],
            [(clip.clip_id, clip.path, clip.size, clip.mtime_ns, str(clip.listed_s)) for clip in self.clips],
        ]
        return hashlib.sha256(json.dumps(facts).encode() + self.labels.tobytes()).hexdigest()

    @property
    def index(self) -> Path:
        """MindRecord's index, beside the shard."""
        return self.file.with_name(f"{self.file.name}.db")

    def count_written(self) -> int:
        """Return about how many clips the file in work holds: they are told while it grows."""
        try:
            return min(len(self.clips), temporary_of(self.file).stat().st_size // self.row_format.row_bytes)
        except OSError:
            return 0


class ShardNotes(BaseModel):
    """What a worker notes of a shard that it finished: notes/SHARD.json in the work folder."""

    model_config = ConfigDict(frozen=True)

    key: str  # of the job
    written: WrittenShard | None  # None: none of its clips can be used
    clip_ids: list[int]  # in the order of rows
    durations_s: list[float | None]  # of those clips; None: not known
    skipped: dict[int, str]  # clip id -> reason
    noted: dict[int, str]


def load_libraries() -> None:
    """Load what `make_shard` needs, which takes a worker a second."""
    for name in ("mindspore.mindrecord", "mindspore.dataset", "scipy.fft", "scipy.sparse"):
        importlib.import_module(name)


def make_shard(job: ShardJob, filters: MelFilters | None) -> None:
    """Make one shard and note what became of its clips; runs in a worker process with one BLAS thread.

    `filters`: computed once by the parent, since librosa is slow to import. Raises OSError or DataError when the shard cannot be
    written; what is wrong with a clip is part of the notes.
    """
    from threadpoolctl import threadpool_limits

    durations_s: list[float | None] = []
    skipped: dict[int, str] = {}
    noted: dict[int, str] = {}

    def iter_clips() -> Iterator[Row]:
        for clip, label in zip(job.clips, job.labels, strict=True):
            try:
                feature, duration_s, note = _load_feature(clip, job.spec, filters)
            except UnusableClipError as error:
                skipped[clip.clip_id] = str(error)
                continue
            durations_s.append(duration_s)
            if note is not None:
                noted[clip.clip_id] = note
            yield Row(clip.clip_id, feature.reshape(job.spec.shape).astype(job.spec.dtype, copy=False), label)

    with threadpool_limits(1):
        written = write_shard(job.file, iter_clips(), job.most_clips, job.row_format, job.siblings)
    clip_ids = [clip.clip_id for clip in job.clips if clip.clip_id not in skipped]
    notes = ShardNotes(
        key=job.key, written=written, clip_ids=clip_ids, durations_s=durations_s, skipped=skipped, noted=noted
    )
    save_text(job.notes, notes.model_dump_json())


def _load_feature(
    clip: ClipFile, spec: FeatureSpec, filters: MelFilters | None
) -> tuple[NDArray[np.float32], float | None, str | None]:
    """Return a clip's log-mel spectrogram, its length, and what the ledger should say of it. Raises UnusableClipError."""
    if spec.source == "npy":
        return load_mel_npy(clip.file, spec.mel), None, None
    loaded = load_clip(clip.file, spec.mel.sample_rate_hz, spec.mel.num_stored_samples)
    note = loaded.note
    if note is None and abs(loaded.duration_s - clip.listed_s) > NOTED_S:
        word = "short" if loaded.duration_s < clip.listed_s else "long"
        note = f"{word}: {loaded.duration_s:.1f} s decoded, {clip.listed_s:.1f} s listed"
    return log_mel(loaded.wave, spec.mel, filters), loaded.duration_s, note


def find_notes(job: ShardJob) -> ShardNotes | None:
    """Return the notes of a shard that an earlier run finished with the same inputs; None where it is to be made.

    A clip that could not be read may be readable today with no trace in its name: its shard is made again.
    """
    try:
        notes = ShardNotes.model_validate_json(job.notes.read_bytes())
        if notes.key != job.key or any(reason.startswith(IO_FAILURE) for reason in notes.skipped.values()):
            return None
        if notes.written is None:
            return notes
        is_whole = job.file.stat().st_size == notes.written.num_bytes and job.index.is_file()
        return notes if is_whole else None
    except (OSError, ValidationError):
        return None


def end_with(parent: int) -> None:
    """End this process when `parent` does: what a pool's worker does first, which else outlives a kill -9 by minutes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
