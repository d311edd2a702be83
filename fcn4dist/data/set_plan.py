"""The plan of a data set: which clips, tags and parts, and which shard each clip goes into, before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from fcn4dist.config import RunConfig, override_config
from fcn4dist.data.annotations import load_chosen_annotations, locate_clips
from fcn4dist.data.annotations.magnatagatune import explain_known_bad
from fcn4dist.data.annotations.tagged_clips import Annotations
from fcn4dist.data.manifest import LedgerClip
from fcn4dist.data.shard_job import ClipFile, FeatureSpec, ShardJob
from fcn4dist.data.shards import RowFormat
from fcn4dist.data.source import check_source
from fcn4dist.data.splits import Split, SplitPart, split_clips
from fcn4dist.data.work_folder import WorkFolder
from fcn4dist.errors import ConfigError, DataError

MIN_SHARDS, MAX_SHARDS, SHARD_BYTES = 4, 1000, 256 << 20  # of a part, where the user does not say


@dataclass(frozen=True)
class DataPlan:
    """All that a run of prepare will do."""

    config: RunConfig
    annotations: Annotations
    split: Split
    work: WorkFolder
    spec: FeatureSpec
    jobs: list[ShardJob] = field(repr=False)  # by part, in the order of their numbers
    left_out: list[LedgerClip]  # without a look at their audio: known bad, or no file
    num_known_bad: int
    synonyms: list[list[str]] | None

    @property
    def inputs_sha256(self) -> str:
        """Digest of everything the data set follows from."""
        facts: list[Any] = [self.annotations.tags, self.split.rule.model_dump(), self.synonyms]
        facts += [self.annotations.source_ids, sorted(self.annotations.groups.items())]
        facts += [clip.model_dump() for clip in self.left_out]
        digest = hashlib.sha256(json.dumps(facts).encode())
        digest.update("".join(job.file.name + job.key for job in self.jobs).encode())
        return digest.hexdigest()


def plan_data_set(config: RunConfig, unusable: Sequence[LedgerClip] = ()) -> DataPlan:
    """Read the annotations, divide the clips, look at their files, and deal them to shards.

    `unusable`: clips that turned out so before, which are left out. Raises ConfigError for a missing key, DataError for a table,
    tags, a split or a folder that cannot be used, and where more files are missing than data.max_skipped_fraction allows.
    """
    data = config.data
    check_source(override_config(config, data={"records_dir": None}), is_preparing=True)  # records_dir: where it goes
    if data.records_dir is None:
        raise ConfigError("data.records_dir: not given; set it in the config or with --output")
    annotations, synonyms = load_chosen_annotations(data)
    files = locate_clips(annotations, cast(Path, data.source_dir), data.source_suffix)
    split = split_clips(annotations, data.split, data.seed, clean=data.clean)
    work = WorkFolder(Path(os.path.realpath(data.records_dir)))
    spec = FeatureSpec(config.mel, data.feature_dtype, "audio" if data.npy_dir is None else "npy")
    reasons = {clip.clip_id: clip.reason for clip in unusable}
    jobs: list[ShardJob] = []
    left_out, missing, num_known_bad = list(unusable), [], 0
    for part, rows in split.parts.items():
        clips = []
        for row in rows.tolist():
            clip = _stat_clip(annotations, row, files[row])
            if (reason := explain_known_bad(clip.clip_id, clip.path)) is not None:
                num_known_bad += 1
                left_out.append(LedgerClip(clip_id=clip.clip_id, mp3_path=clip.path, reason=reason))
            elif clip.size < 0:
                missing.append(clip)
            elif clip.clip_id not in reasons:
                clips.append(clip)
        jobs += _deal(clips, part, annotations.labels, work, spec, data.num_consumer)
    _check_missing(config, annotations, missing, split.num_clips - num_known_bad)
    left_out += [LedgerClip(clip_id=clip.clip_id, mp3_path=clip.path, reason="no such file") for clip in missing]
    left_out.sort(key=lambda clip: clip.clip_id)
    return DataPlan(config, annotations, split, work, spec, jobs, left_out, num_known_bad, synonyms)


def count_shards(num_clips: int, row_bytes: int, wanted: int | None) -> int:
    """Return the shards of a part: as many as wanted, else about one for each 256 MB, at least 4; never more than clips."""
    by_size = min(MAX_SHARDS, max(MIN_SHARDS, -(-num_clips * row_bytes // SHARD_BYTES)))
    return min(num_clips, wanted or by_size)


def _stat_clip(annotations: Annotations, row: int, file: Path) -> ClipFile:
    listed = annotations.durations_s
    clip_id, path, listed_s = int(annotations.clip_ids[row]), annotations.paths[row], float("nan")
    if listed is not None:
        listed_s = round(float(listed[row]), 3)
    try:
        status = file.stat()
    except (OSError, ValueError):
        return ClipFile(row, clip_id, path, file, -1, 0, listed_s)
    return ClipFile(row, clip_id, path, file, status.st_size, status.st_mtime_ns, listed_s)


def _deal(
    clips: Sequence[ClipFile],
    part: SplitPart,
    labels: NDArray[Any],
    work: WorkFolder,
    spec: FeatureSpec,
    wanted: int | None,
) -> list[ShardJob]:
    """Deal the clips of a part to shards of nearly the same size, in their order."""
    row_bytes = RowFormat(spec.shape, spec.dtype, labels.shape[1]).row_bytes
    num_shards = count_shards(len(clips), row_bytes, wanted)
    siblings = tuple(f"{part}.mindrecord{number}" for number in range(num_shards))
    most_clips = -(-len(clips) // max(1, num_shards))
    jobs = []
    for number, name in enumerate(siblings):
        members = tuple(clips[number * len(clips) // num_shards : (number + 1) * len(clips) // num_shards])
        own = labels[[clip.row for clip in members]]
        jobs.append(
            ShardJob(work.shards / name, work.notes / f"{name}.json", part, members, own, siblings, most_clips, spec)
        )
    return jobs


def _check_missing(config: RunConfig, annotations: Annotations, missing: Sequence[ClipFile], total: int) -> None:
    if len(missing) <= config.data.max_skipped_fraction * total and len(missing) < max(1, total):
        return
    first = "\n".join(f"  {clip.file}" for clip in missing[:3])
    raise DataError(
        f"{config.data.source_dir}: {len(missing)} of {total} clips have no file here, more than data.max_skipped_fraction "
        f"{config.data.max_skipped_fraction:g} allows. Tried {annotations.path_rule}:\n{first}"
        + (f"\n  and {len(missing) - 3} more" if len(missing) > 3 else "")
        + "\nName the folder that these paths start from (data.audio_dir), or say where audio is with data.path_template"
    )
