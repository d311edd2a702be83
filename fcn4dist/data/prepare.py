"""prepare: a folder of audio and its annotations become MindRecord shards with a manifest.

A worker process makes a shard from beginning to end: it decodes the shard's clips, writes it, reads it back, and notes what
became of every clip. A run that was cut short, by Ctrl-C or kill -9, leaves its finished shards to the next
one. The last steps, manifest and clips.tsv, take no look at features.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from fcn4dist.config import RunConfig
from fcn4dist.data.dataset import DataSet, open_dataset
from fcn4dist.data.leaks import find_leaks
from fcn4dist.data.manifest import (
    CLIPS,
    FORMAT_VERSION,
    MANIFEST,
    ClipTable,
    LedgerClip,
    Manifest,
    Shard,
    SplitCounts,
    digest_clip_list,
    format_clip_tables,
)
from fcn4dist.data.mel import MelFilters
from fcn4dist.data.set_plan import DataPlan, plan_data_set
from fcn4dist.data.shard_job import ShardJob, ShardNotes, end_with, find_notes, load_libraries, make_shard
from fcn4dist.data.shards import WrittenShard
from fcn4dist.data.splits import SPLITS
from fcn4dist.errors import DataError, JobError
from fcn4dist.files import save_json, save_text

_log = logging.getLogger(__name__)

TELL_EVERY_S = 0.5
INPUTS = "inputs.json"  # digest of all that the data set was made from


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


class PrepareReport(NamedTuple):
    """What a run of prepare did."""

    data: DataSet
    is_up_to_date: bool = False  # nothing had to be done
    num_reused: int = 0  # clips that an earlier run had finished

    @property
    def manifest(self) -> Manifest:
        """The manifest of the data set."""
        assert self.data.manifest is not None
        return self.data.manifest

    @property
    def summary(self) -> str:
        """The line that says what became of every clip."""
        m = self.manifest
        noted = f", {len(m.noted)} noted" if m.noted else ""
        return f"{m.num_listed} listed, {m.num_written} written, {len(m.skipped)} skipped{noted}"


def prepare(config: RunConfig, *, force: bool = False, progress: Progress | None = None) -> PrepareReport:
    """Prepare the data set that `config` describes at data.records_dir.

    Processes come from joblib: `with joblib.parallel_config(backend="dask"):` around this call carries the work over a
    cluster whose workers see the audio and the work folder. An up-to-date data set is left alone; another one is
    replaced only with `force`; a folder that prepare did not write never is.
    Raises ConfigError for a missing key, DataError for anything wrong with the data or the disk, JobError when a
    worker process was killed.
    """
    progress = progress or SilentProgress()
    plan = plan_data_set(config)
    target = plan.work.target
    with _explain_disk_errors(target):
        if (data := _find_up_to_date(plan)) is not None:
            return PrepareReport(data, is_up_to_date=True)
        _check_target(target, force)
        with plan.work.lock():
            plan.work.restore()
            _check_target(target, force)
            plan.work.shards.mkdir(exist_ok=True)
            plan.work.notes.mkdir(exist_ok=True)
            num_reused = 0
            unusable: list[LedgerClip] = []
            while True:
                notes, reused = _make_shards(plan, progress)
                num_reused = max(num_reused, reused)
                skipped = [clip for job in plan.jobs for clip in _ledger(job, notes[job.file.name].skipped)]
                _check_skipped(plan, skipped)
                if all(found.written for found in notes.values()):
                    break
                unusable += skipped  # a shard without a row: deal the other clips again
                plan = plan_data_set(config, unusable)
            _write_manifest(plan, notes, skipped)
            plan.work.publish()
    return PrepareReport(open_dataset(target), num_reused=num_reused)


def _make_shards(plan: DataPlan, progress: Progress) -> tuple[dict[str, ShardNotes], int]:
    """Make the shards that are not there yet; return the notes of all, by file name, and how many clips were there.

    data.num_workers 0: what a surrounding `joblib.parallel_config` says, else one process a core. Raises JobError when a worker
    is killed, OSError or DataError when a shard cannot be written.
    """
    from joblib import delayed

    from fcn4dist.data.mel import build_filters

    notes = {job.file.name: found for job in plan.jobs if (found := find_notes(job)) is not None}
    missing = [job for job in plan.jobs if job.file.name not in notes]
    _clear(plan.work.shards, keep=notes)
    num_clips = sum(len(job.clips) for job in plan.jobs)
    num_reused = num_clips - sum(len(job.clips) for job in missing)
    progress.start("preparing", num_clips, num_reused)
    if not missing:
        return notes, num_reused
    missing.sort(key=lambda job: -len(job.clips))  # the largest first, so that all workers end together
    run, num_workers = _build_pool(plan.config.data.num_workers)
    try:
        # Ctrl-C in a terminal goes to all its processes: workers leave it to us
        with _shielded_from_ctrl_c(), ThreadPoolExecutor(1) as thread:
            building = thread.submit(build_filters, plan.spec.mel) if plan.spec.source == "audio" else None
            for _ in run(delayed(load_libraries)() for _ in range(num_workers)):  # meanwhile: 0.6 s of a run
                pass
            filters = None if building is None else building.result()
            done = run(delayed(_make)(job, filters) for job in missing)
        by_name = {job.file.name: job for job in missing}
        with _telling(progress, missing, notes):
            for name in done:
                job = by_name[name]
                found = find_notes(job)
                if found is None:
                    raise DataError(
                        f"{job.file}: a worker wrote it, but it is not here: do all workers see this folder?"
                    )
                _sync(job)
                notes[name] = found
    except BrokenProcessPool as error:
        raise JobError(
            f"a worker process of prepare was killed (out of memory?): {error}. Run it again to go on from here, "
            "perhaps with fewer workers (data.num_workers)"
        ) from None
    return notes, num_reused


@contextlib.contextmanager
def _telling(progress: Progress, jobs: Sequence[ShardJob], notes: Mapping[str, ShardNotes]) -> Iterator[None]:
    """Tell of the clips of `jobs` while the block runs: those of finished shards, and those that files in work have grown by."""
    is_over = threading.Event()

    def tell() -> None:
        told, is_last = 0, False
        while not is_last:
            is_last = is_over.wait(TELL_EVERY_S)
            count = sum(len(job.clips) if job.file.name in notes else job.count_written() for job in jobs)
            if count > told:
                progress.advance(count - told)
                told = count

    with ThreadPoolExecutor(1) as thread:
        telling = thread.submit(tell)
        try:
            yield
        finally:
            is_over.set()
        telling.result()


def _make(job: ShardJob, filters: MelFilters | None) -> str:
    make_shard(job, filters)
    return job.file.name


def _clear(folder: Path, keep: dict[str, ShardNotes]) -> None:
    """Remove what an earlier run left of the data set, but the shards of `keep`."""
    kept = {name + suffix for name in keep for suffix in ("", ".db")}
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sync(job: ShardJob) -> None:
    """Have the disk hold a finished shard; the parent waits for it while its workers are at the next ones."""
    for path in (job.file, job.index):
        if path.is_file():
            with path.open("rb") as opened:
                os.fsync(opened.fileno())


def _ledger(job: ShardJob, reasons: dict[int, str]) -> list[LedgerClip]:
    paths = {clip.clip_id: clip.path for clip in job.clips}
    return [LedgerClip(clip_id=i, mp3_path=paths[i], reason=reason) for i, reason in reasons.items()]


def _find_up_to_date(plan: DataPlan) -> DataSet | None:
    target = plan.work.target
    try:
        inputs = json.loads((target / INPUTS).read_text())
        if inputs["inputs_sha256"] != plan.inputs_sha256:
            return None
        data = open_dataset(target)
        data.check(plan.config.data.verify)
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        _log.info("%s is not up to date: %s", target, error)
        return None
    if plan.work.path.is_dir():  # a run that was killed between its last two steps
        with plan.work.lock():
            plan.work.remove()
    return data


def _check_target(target: Path, force: bool) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise DataError(f"{target}: is a file; expected a folder to create (data.records_dir)")
    if not any(target.iterdir()):
        return
    if not (target / MANIFEST).is_file():
        raise DataError(f"{target}: holds files that prepare did not write; name another folder (data.records_dir)")
    if not force:
        raise DataError(f"{target}: holds a data set made from other inputs, or a damaged one; --force replaces it")


def _check_skipped(plan: DataPlan, skipped: Sequence[LedgerClip]) -> None:
    total, allowed = plan.split.num_clips - plan.num_known_bad, plan.config.data.max_skipped_fraction
    num_skipped = len(skipped) + len(plan.left_out) - plan.num_known_bad
    if num_skipped > allowed * total or num_skipped == total:
        first = "\n".join(f"  {clip.mp3_path}: {clip.reason}" for clip in [*skipped, *plan.left_out][:5])
        more = f"\n  and {num_skipped - 5} more" if num_skipped > 5 else ""
        raise DataError(
            f"{plan.config.data.source_dir}: {num_skipped} of {total} clips cannot be used, more than "
            f"data.max_skipped_fraction {allowed:g} allows:\n{first}{more}"
        )


def _write_manifest(plan: DataPlan, notes: dict[str, ShardNotes], skipped: list[LedgerClip]) -> None:
    """Write clips.tsv, inputs.json and the manifest beside the shards, and remove the workers' notes."""
    folder, annotations = plan.work.shards, plan.annotations
    shards: list[Shard] = []
    splits: dict[Any, SplitCounts] = {}
    tables: dict[Any, ClipTable] = {}
    rows_of = {clip.clip_id: clip.row for job in plan.jobs for clip in job.clips}
    for part in SPLITS:
        found = [(job, notes[job.file.name]) for job in plan.jobs if job.part == part]
        shards += [_describe_shard(job, note.written) for job, note in found if note.written]
        durations = [np.nan if s is None else s for _, note in found for s in note.durations_s]
        rows = np.array([rows_of[clip_id] for _, note in found for clip_id in note.clip_ids], np.int64)
        tables[part] = table = ClipTable(
            annotations.clip_ids,
            annotations.source_ids,
            annotations.paths,
            annotations.labels,
            np.full(annotations.num_clips, np.nan, np.float32),
            annotations.groups,
        ).take(rows)
        table.durations_s[:] = durations
        checksums = [checksum for _, note in found if note.written for checksum in note.written.checksums]
        lines = "".join(f"{i} {checksum}\n" for i, checksum in zip(table.clip_ids.tolist(), checksums, strict=True))
        splits[part] = SplitCounts(
            num_clips=len(rows),
            clip_list_sha256=digest_clip_list(table.clip_ids.tolist()),
            labels_sha256=hashlib.sha256(table.labels.tobytes()).hexdigest(),
            features_sha256=hashlib.sha256(lines.encode()).hexdigest(),
            positives=(table.labels == 1).sum(axis=0).tolist(),
        )
    noted = [clip for job in plan.jobs for clip in _ledger(job, notes[job.file.name].noted)]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        mel=plan.spec.mel,
        feature_dtype=plan.spec.dtype,
        feature_shape=plan.spec.shape,
        tags=annotations.tags,
        split=plan.split.rule,
        splits=splits,
        shards=shards,
        num_listed=plan.split.num_clips,
        num_written=sum(counts.num_clips for counts in splits.values()),
        skipped=sorted([*skipped, *plan.left_out], key=lambda clip: clip.clip_id),
        noted=sorted(noted, key=lambda clip: clip.clip_id),
        leaks=find_leaks(
            {part: np.array([rows_of[i] for i in table.clip_ids.tolist()], np.intp) for part, table in tables.items()},
            annotations.groups,
        ),
        synonyms=plan.synonyms,
    )
    save_text(folder / CLIPS, format_clip_tables(tables))
    save_json(folder / INPUTS, {"inputs_sha256": plan.inputs_sha256})
    save_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    mode = (folder / MANIFEST).stat().st_mode  # MindRecord makes its files readable for their owner only
    for file in folder.iterdir():
        file.chmod(mode)


def _describe_shard(job: ShardJob, written: WrittenShard) -> Shard:
    return Shard(
        file=job.file.name,
        split=job.part,
        num_rows=written.num_rows,
        num_bytes=written.num_bytes,
        sha256=written.sha256,
        index_sha256=written.index_sha256,
    )


@contextlib.contextmanager
def _explain_disk_errors(target: Path) -> Iterator[None]:
    """Turn what the system says about a full or unwritable disk into one message."""
    try:
        yield
    except OSError as error:
        place = error.filename or target
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "; finished shards are kept, make room and run prepare again" if is_full else ""
        raise DataError(f"{place}: cannot write the data set: {error.strerror or error}{hint}") from None


@contextlib.contextmanager
def _shielded_from_ctrl_c() -> Iterator[None]:
    """Hold SIGINT back for this block and, since they inherit it, for the processes started in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _build_pool(num_workers: int) -> tuple[Any, int]:
    """Return joblib's pool and its size: as configured, else as a surrounding `parallel_config` says, else one process a core."""
    from joblib import Parallel, cpu_count, effective_n_jobs
    from joblib.parallel import get_active_backend

    backend, num_configured = get_active_backend()
    is_own = type(backend).__name__ == "LokyBackend"  # processes of ours, not of a cluster
    num_jobs = num_workers or (cpu_count() if is_own and num_configured in (None, 1) else None)
    first = {"initializer": end_with, "initargs": (os.getpid(),)} if is_own else {}
    pool = Parallel(n_jobs=num_jobs, batch_size=1, return_as="generator_unordered", max_nbytes=None, **first)
    return pool, effective_n_jobs(num_jobs)
