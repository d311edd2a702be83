"""Chunks of features: a few clips computed together and kept in one file, named by what went into it.

The name is a digest of the parameters and of every clip's path, size and time of change, so a second run finds the
chunks of the first, and never the chunk of another input.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig
from fcn4dist.data.audio import UnusableClipError, load_clip
from fcn4dist.data.mel import MelFilters, log_mel
from fcn4dist.data.mel_npy import load_mel_npy
from fcn4dist.files import save_atomically

CHUNK_CLIPS = 16
FEATURE_VERSION = 4  # raise it when the same audio gives other features
Source = Literal["audio", "npy"]  # what a clip's file holds: sound, or its log-mel spectrogram
LIBRARIES = ("numpy", "scipy", "soxr", "soundfile", "librosa")  # that may change the last bits


def feature_versions() -> list[int | str]:
    """Return the versions of the code that makes features: ours, and those of the libraries."""
    return [FEATURE_VERSION, *(version(name) for name in LIBRARIES)]


class DamagedChunkError(Exception):
    """A chunk's file is missing or not what was written."""


@dataclass(frozen=True)
class ClipFile:
    """One clip's audio file, as it was when prepare began."""

    clip_id: int
    mp3_path: str
    file: Path
    size: int  # bytes; -1: not there
    mtime_ns: int


@dataclass(frozen=True)
class FeatureSpec:
    """All that the features depend on beside the audio."""

    mel: MelConfig
    dtype: Literal["float32", "float16"]
    source: Source = "audio"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a clip's feature: (1, mel bands, frames)."""
        return (1, self.mel.n_mels, self.mel.num_stored_frames)


@dataclass(frozen=True)
class Chunk:
    """A few clips whose features share a file."""

    file: Path
    clips: tuple[ClipFile, ...]


@dataclass(frozen=True)
class ChunkFeatures:
    """What a chunk file holds."""

    features: dict[int, NDArray[Any]]  # clip_id -> (1, mel bands, frames)
    skipped: dict[int, str]  # clip_id -> reason
    durations_s: dict[int, float]  # clip_id -> length of its audio file, where it is known


def stat_clip(clip_id: int, mp3_path: str, file: Path) -> ClipFile:
    """Note size and time of change of a clip's file."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return ClipFile(clip_id, mp3_path, file, -1, 0)
    return ClipFile(clip_id, mp3_path, file, status.st_size, status.st_mtime_ns)


def plan_chunks(clips: Sequence[ClipFile], spec: FeatureSpec, folder: Path) -> list[Chunk]:
    """Cut `clips` into chunks, each with the file it belongs in."""
    common: dict[str, Any] = {
        "version": feature_versions(),
        "mel": spec.mel.model_dump(mode="json"),
        "dtype": spec.dtype,
    }
    if spec.source != "audio":
        common["source"] = spec.source
    start = hashlib.sha256(json.dumps(common, sort_keys=True).encode())
    chunks = []
    for first in range(0, len(clips), CHUNK_CLIPS):
        members = tuple(clips[first : first + CHUNK_CLIPS])
        digest = start.copy()
        for clip in members:
            digest.update(json.dumps([clip.clip_id, clip.mp3_path, clip.size, clip.mtime_ns]).encode())
        chunks.append(Chunk(folder / f"{digest.hexdigest()}.npz", members))
    return chunks


def compute_chunk(chunk: Chunk, spec: FeatureSpec, parent: int, filters: MelFilters | None = None) -> Chunk:
    """Compute the features of a chunk and write its file; runs in a worker process with one BLAS thread.

    `parent` is the process id of prepare: a worker that it started ends with it, even after a kill -9.
    Raises OSError when the file cannot be written; what is wrong with a clip is part of the result.
    """
    from threadpoolctl import threadpool_limits

    _end_with(parent)
    features, skipped, durations_s = {}, {}, []
    with threadpool_limits(1):
        for clip in chunk.clips:
            try:
                mel_db, duration_s = load_mel(clip.file, spec, filters)
            except UnusableClipError as error:
                skipped[clip.clip_id] = str(error)
            else:
                features[clip.clip_id] = mel_db.reshape(spec.shape).astype(spec.dtype)
                durations_s.append(duration_s)
    stacked = np.stack(list(features.values())) if features else np.empty((0, *spec.shape), spec.dtype)
    reasons = json.dumps(list(skipped.items()))
    clip_ids = np.array(list(features), np.int32)
    arrays = {"clip_ids": clip_ids, "features": stacked, "skipped": np.array(reasons), "durations_s": durations_s}
    buffer = io.BytesIO()  # zip files complain from their destructor when a disk fills up under them
    np.savez(buffer, **arrays)
    save_atomically(chunk.file, lambda file: file.write(buffer.getbuffer()))
    return chunk


def load_mel(file: Path, spec: FeatureSpec, filters: MelFilters | None = None) -> tuple[NDArray[np.float32], float]:
    """Return the log-mel spectrogram of a clip's file, (mel bands, frames), and its seconds or NaN. Raises UnusableClipError."""
    if spec.source == "npy":
        return load_mel_npy(file, spec.mel), np.nan
    clip = load_clip(file, spec.mel.sample_rate_hz, spec.mel.num_stored_samples)
    return log_mel(clip.wave, spec.mel, filters), clip.duration_s


def load_chunk(chunk: Chunk) -> ChunkFeatures:
    """Read a chunk's file, features and all; its CRC is checked. Raises DamagedChunkError."""
    with _explain_damage(chunk), np.load(chunk.file, allow_pickle=False) as arrays:
        clip_ids = arrays["clip_ids"].tolist()
        features = dict(zip(clip_ids, arrays["features"], strict=True))
        skipped = _parse_skipped(arrays)
        lengths = (
            arrays["durations_s"].tolist() if "durations_s" in arrays else [np.nan] * len(clip_ids)
        )  # an older chunk
        durations_s = {
            clip_id: length for clip_id, length in zip(clip_ids, lengths, strict=True) if np.isfinite(length)
        }
    if {clip.clip_id for clip in chunk.clips} != features.keys() | skipped.keys():
        raise DamagedChunkError(f"{chunk.file}: holds other clips than its name says")
    return ChunkFeatures(features, skipped, durations_s)


def load_skipped(chunk: Chunk) -> dict[int, str]:
    """Read which clips of a chunk could not be used, and why; the features stay on disk. Raises DamagedChunkError."""
    with _explain_damage(chunk), np.load(chunk.file, allow_pickle=False) as arrays:
        return _parse_skipped(arrays)


def _parse_skipped(arrays: Any) -> dict[int, str]:
    return {int(clip_id): str(reason) for clip_id, reason in json.loads(str(arrays["skipped"]))}


@contextlib.contextmanager
def _explain_damage(chunk: Chunk) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedChunkError(f"{chunk.file}: {error}") from None


_watched: set[int] = set()


def _end_with(parent: int) -> None:
    """End this process when `parent` does, if it is the parent: a pool's worker outlives a kill -9 by minutes else."""
    if os.getpid() == parent or os.getppid() != parent or parent in _watched:
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
