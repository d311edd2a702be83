"""Features of all clips, chunk by chunk, over the processes that joblib gives."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from fcn4dist.data.chunks import Chunk, DamagedChunkError, FeatureSpec, compute_chunk, load_skipped
from fcn4dist.data.manifest import SkippedClip
from fcn4dist.data.mel import build_filters
from fcn4dist.errors import DataError, JobError


class Progress(Protocol):
    """What prepare tells while it works."""

    def start(self, what: str, total: int, done: int) -> None:
        """Begin a stage of `total` clips, `done` of them by an earlier run."""

    def advance(self, num_clips: int) -> None:
        """Count clips as done."""


class SilentProgress:
    """Tells nothing."""

    def start(self, what: str, total: int, done: int) -> None:
        """Ignore the stage."""

    def advance(self, num_clips: int) -> None:
        """Ignore the clips."""


def compute_features(chunks: Sequence[Chunk], spec: FeatureSpec, num_workers: int, progress: Progress) -> int:
    """Compute the chunks that are not there yet; return how many clips were.

    A chunk with skipped clips is computed again, since what was wrong may have been mended without a trace in its name.
    `num_workers` 0: what a surrounding `joblib.parallel_config` says, else one process a core.
    Raises JobError when a worker is killed, OSError when a chunk cannot be written.
    """
    from joblib import Parallel, delayed

    missing = [chunk for chunk in chunks if not _is_reusable(chunk)]
    num_clips = sum(len(chunk.clips) for chunk in chunks)
    num_reused = num_clips - sum(len(chunk.clips) for chunk in missing)
    progress.start("features", num_clips, num_reused)
    if not missing:
        return num_reused
    filters = build_filters(spec.mel) if spec.source == "audio" else None
    run = Parallel(n_jobs=_num_jobs(num_workers), return_as="generator_unordered", max_nbytes=None)
    try:
        with _shielded_from_ctrl_c():  # Ctrl-C in a terminal goes to all its processes: workers leave it to us
            done = run(delayed(compute_chunk)(chunk, spec, os.getpid(), filters) for chunk in missing)
        for chunk in done:
            progress.advance(len(chunk.clips))
    except BrokenProcessPool as error:
        raise JobError(
            f"a worker process of prepare was killed (out of memory?): {error}. Run it again to go on from here, "
            "perhaps with fewer workers (data.num_workers)"
        ) from None
    return num_reused


def list_skipped(chunks: Sequence[Chunk]) -> list[SkippedClip]:
    """Return the clips that could not be used, in ascending order of clip_id."""
    skipped = []
    for chunk in chunks:
        with explain_damaged_chunk(chunk):
            reasons = load_skipped(chunk)
        paths = {clip.clip_id: clip.mp3_path for clip in chunk.clips}
        skipped += [SkippedClip(clip_id=i, mp3_path=paths[i], reason=reason) for i, reason in reasons.items()]
    return sorted(skipped, key=lambda clip: clip.clip_id)


@contextlib.contextmanager
def explain_damaged_chunk(chunk: Chunk) -> Iterator[None]:
    """Remove a chunk that turns out damaged, and say so as a DataError."""
    try:
        yield
    except DamagedChunkError as error:
        chunk.file.unlink(missing_ok=True)
        raise DataError(f"{error}. It was removed: run prepare again to compute it anew") from None


def _is_reusable(chunk: Chunk) -> bool:
    try:
        return chunk.file.is_file() and not load_skipped(chunk)
    except DamagedChunkError:
        return False


@contextlib.contextmanager
def _shielded_from_ctrl_c() -> Iterator[None]:
    """Hold SIGINT back for this block and, since they inherit it, for the processes started in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _num_jobs(num_workers: int) -> int | None:
    """Return joblib's n_jobs: as configured, else what a surrounding `parallel_config` says, else one a core."""
    from joblib import cpu_count
    from joblib.parallel import get_active_backend

    if num_workers:
        return num_workers
    backend, num_configured = get_active_backend()
    is_default = type(backend).__name__ == "LokyBackend" and num_configured in (None, 1)
    return int(cpu_count()) if is_default else None
