"""prepare: a folder of audio and an annotation table become MindRecord shards with a manifest.

Features are computed over processes and kept chunk by chunk; then the shards are written from the chunks, read back,
and renamed into place. A run that was cut short, by Ctrl-C or kill -9, leaves its chunks to the next one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import RunConfig
from fcn4dist.data.chunks import Chunk, ClipFile, load_chunk
from fcn4dist.data.clip_list import ListedClip, digest_clip_list, format_clip_list
from fcn4dist.data.features import Progress, SilentProgress, compute_features, explain_damaged_chunk, list_skipped
from fcn4dist.data.leaks import LeakReport, find_leaks
from fcn4dist.data.manifest import (
    CLIPS,
    FORMAT_VERSION,
    MANIFEST,
    SPLITS,
    Manifest,
    Shard,
    SkippedClip,
    SplitCounts,
    SplitPart,
    check_shards,
    load_manifest,
)
from fcn4dist.data.plan import DataPlan, plan_data_set
from fcn4dist.data.row_format import Row, RowFormat
from fcn4dist.errors import DataError
from fcn4dist.files import digest_file, save_json, save_text

_log = logging.getLogger(__name__)

INPUTS = "inputs.json"  # digest of all that the data set was made from


@dataclass(frozen=True)
class PrepareReport:
    """What a run of prepare did."""

    records_dir: Path
    manifest: Manifest
    is_up_to_date: bool = False  # nothing had to be done
    num_reused: int = 0  # clips whose features an earlier run had left

    @property
    def summary(self) -> str:
        """The line that says what became of every clip."""
        m = self.manifest
        return f"{m.num_listed} listed, {m.num_written} written, {len(m.skipped)} skipped"


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
        if (report := _find_up_to_date(plan)) is not None:
            return report
        _check_target(target, force)
        with plan.work.lock():
            plan.work.restore()
            _check_target(target, force)
            plan.work.clear_shards()
            plan.work.chunks.mkdir(exist_ok=True)
            num_reused = compute_features(plan.all_chunks, plan.spec, config.data.num_workers, progress)
            skipped = list_skipped(plan.all_chunks)
            _check_skipped(plan, skipped)
            skipped = sorted([*skipped, *plan.known_bad], key=lambda clip: clip.clip_id)
            try:
                with _explain_mindrecord_errors(target):
                    manifest = _write_data_set(plan, skipped, progress)
                plan.work.publish()
            finally:
                plan.work.clear_shards()
    return PrepareReport(target, manifest, num_reused=num_reused)


def _find_up_to_date(plan: DataPlan) -> PrepareReport | None:
    target = plan.work.target
    try:
        inputs = json.loads((target / INPUTS).read_text())
        if inputs["inputs_sha256"] != plan.inputs_sha256:
            return None
        manifest = load_manifest(target)
        check_shards(target, manifest, plan.config.data.verify)
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        _log.info("%s is not up to date: %s", target, error)
        return None
    if plan.work.path.is_dir():  # a run that was killed between its last two steps
        with plan.work.lock():
            plan.work.remove()
    return PrepareReport(target, manifest, is_up_to_date=True)


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


def _check_skipped(plan: DataPlan, skipped: Sequence[SkippedClip]) -> None:
    total, allowed = plan.split.num_clips - len(plan.known_bad), plan.config.data.max_skipped_fraction
    if len(skipped) > allowed * total or len(skipped) == total:
        first = "\n".join(f"  {clip.mp3_path}: {clip.reason}" for clip in skipped[:5])
        more = f"\n  and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        raise DataError(
            f"{plan.config.data.source_dir}: {len(skipped)} of {total} clips cannot be used, more than "
            f"data.max_skipped_fraction {allowed:g} allows:\n{first}{more}"
        )


def _write_data_set(plan: DataPlan, skipped: list[SkippedClip], progress: Progress) -> Manifest:
    """Write shards, clips.tsv, inputs.json and the manifest into the work folder; return the manifest."""
    from fcn4dist.data.shards import write_part  # MindSpore loads here, after the workers' work

    folder = plan.work.shards
    folder.mkdir()
    labels = dict(zip(plan.annotations.clip_ids.tolist(), plan.annotations.labels.astype(np.int32), strict=True))
    left_out = {clip.clip_id for clip in skipped}
    row_format = RowFormat(plan.spec.shape, plan.spec.dtype, len(plan.annotations.tags))
    progress.start("shards", plan.split.num_clips - len(left_out), 0)
    durations: dict[int, float] = {}

    def iter_rows(chunks: list[Chunk]) -> Iterator[Row]:
        for chunk in chunks:
            with explain_damaged_chunk(chunk):
                loaded = load_chunk(chunk)
            durations.update(loaded.durations_s)
            for clip_id, feature in loaded.features.items():
                yield Row(clip_id, feature, labels[clip_id])
            progress.advance(len(loaded.features))

    shards: list[Shard] = []
    splits: dict[SplitPart, SplitCounts] = {}
    listed: list[ListedClip] = []
    for part in SPLITS:
        chunks = plan.chunks[part]
        clips = [clip for chunk in chunks for clip in chunk.clips if clip.clip_id not in left_out]
        written = write_part(
            folder, part, iter_rows(chunks), len(clips), plan.config.data.num_consumer or 4, row_format
        )
        shards += [_describe_shard(shard.file, part, shard.num_rows) for shard in written]
        splits[part] = _count_part(clips, labels, row_format.num_tags)
        listed += [_list_clip(clip, part, durations.get(clip.clip_id), labels[clip.clip_id]) for clip in clips]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        mel=plan.spec.mel,
        feature_dtype=plan.spec.dtype,
        feature_shape=plan.spec.shape,
        tags=plan.annotations.tags,
        split=plan.split.rule,
        splits=splits,
        shards=shards,
        num_listed=plan.split.num_clips,
        num_written=sum(counts.num_clips for counts in splits.values()),
        skipped=skipped,
        leaks=_find_leaks(plan, listed),
        synonyms=plan.synonyms,
    )
    save_text(folder / CLIPS, format_clip_list(listed))
    save_json(folder / INPUTS, {"inputs_sha256": plan.inputs_sha256})
    save_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    mode = (folder / MANIFEST).stat().st_mode  # MindRecord makes its files readable for their owner only
    for file in folder.iterdir():
        file.chmod(mode)
    return manifest


def _find_leaks(plan: DataPlan, listed: list[ListedClip]) -> LeakReport:
    row_of = {clip_id: row for row, clip_id in enumerate(plan.annotations.clip_ids.tolist())}
    rows = {part: [row_of[clip.clip_id] for clip in listed if clip.split == part] for part in SPLITS}
    return find_leaks({part: np.array(found, np.intp) for part, found in rows.items()}, plan.annotations.groups)


def _describe_shard(file: Path, part: SplitPart, num_rows: int) -> Shard:
    return Shard(
        file=file.name,
        split=part,
        num_rows=num_rows,
        num_bytes=file.stat().st_size,
        sha256=digest_file(file),
        index_sha256=digest_file(file.with_name(file.name + ".db")),
    )


def _list_clip(clip: ClipFile, part: SplitPart, duration_s: float | None, label: NDArray[np.int32]) -> ListedClip:
    return ListedClip(clip.clip_id, part, clip.mp3_path, duration_s, tuple(np.flatnonzero(label == 1).tolist()))


def _count_part(clips: list[ClipFile], labels: dict[int, Any], num_tags: int) -> SplitCounts:
    ids = sorted(clip.clip_id for clip in clips)
    positives = (
        np.sum([labels[clip_id] == 1 for clip_id in ids], axis=0, dtype=np.int64) if ids else np.zeros(num_tags, int)
    )
    return SplitCounts(num_clips=len(ids), clip_list_sha256=digest_clip_list(ids), positives=positives.tolist())


@contextlib.contextmanager
def _explain_disk_errors(target: Path) -> Iterator[None]:
    """Turn what the system says about a full or unwritable disk into one message."""
    try:
        yield
    except OSError as error:
        place = error.filename or target
        hint = "; what was computed is kept, make room and run prepare again" if _is_full(error.errno) else ""
        raise DataError(f"{place}: cannot write the data set: {error.strerror or error}{hint}") from None


@contextlib.contextmanager
def _explain_mindrecord_errors(target: Path) -> Iterator[None]:
    """MindRecord says RuntimeError for everything, a full disk included."""
    try:
        yield
    except RuntimeError as error:
        parent = next(folder for folder in target.parents if folder.is_dir())
        free = shutil.disk_usage(parent).free
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        reason = next((line for line in lines if line.startswith("[ERROR]")), lines[0])
        raise DataError(
            f"{target}: MindRecord cannot write the shards ({free >> 20} MB are free on this disk): "
            f"{reason.removeprefix('[ERROR]').strip()}"
        ) from error


def _is_full(number: int | None) -> bool:
    return number in (errno.ENOSPC, errno.EDQUOT)
