"""The data set, the run folder, and the disk under it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn4dist.config import BatchPlan, RunConfig, override_config
from fcn4dist.data.source import check_source
from fcn4dist.doctor.question import Check, format_bytes
from fcn4dist.errors import DataError, Fcn4distError
from fcn4dist.launch.training_data import adopt_data, check_data, lay_demo_under
from fcn4dist.model.memory_estimate import count_parameters, count_tags
from fcn4dist.run.folder import RunDir

SAMPLED_CLIPS = 20  # whose headers are asked for their length
SPARE_BYTES = 512 << 20  # logs, metrics, reports


@dataclass(frozen=True)
class DataFound:
    """What the config's data are, and how much is still to be written for them."""

    check: Check
    bytes_to_prepare: int = 0


def config_to_be_used(config: RunConfig, run_dir: Path, world_size: int = 1, *, demo: bool = False) -> RunConfig:
    """Return the config that a run would have: the demo's values, or what a data set says of itself.

    `demo` as for `check_source`. Raises ConfigError for a config that `launch` would refuse.
    """
    try:
        if check_source(config, demo=demo) == "demo":
            return lay_demo_under(
                config, RunDir(run_dir), demo_set=Path("demo-set"), num_ranks=world_size
            )  # named, not made
        return adopt_data(config)
    except (ImportError, DataError):  # said by the checks of NumPy and of the data
        return config


def examine_data(config: RunConfig, batches: BatchPlan, *, is_quick: bool, demo: bool = False) -> DataFound:
    """Check that the data that the config names can be read: shards by their digests, or audio and annotations."""
    try:
        source = check_source(config, demo=demo)
        if source == "demo":
            return DataFound(Check("data", "ok", "the embedded demo set will be used"))
        return _examine_shards(config, batches, is_quick) if source == "shards" else _examine_audio(config)
    except Fcn4distError as error:
        remedy = "name another folder with --data, or run `fcn4dist prepare` again"
        if config.data.records_dir is None:
            remedy = "correct data.audio_dir, data.annotations or the table"
        return DataFound(Check("data", "error", str(error), remedy))


def _examine_shards(config: RunConfig, batches: BatchPlan, is_quick: bool) -> DataFound:
    folder = config.data.records_dir
    assert folder is not None
    if is_quick:
        config = override_config(config, data={"verify": "size"})
    data = check_data(adopt_data(config), batches)
    found = f"{folder}: {data.num_rows('train')} clips to train on"
    if data.manifest is None:
        return DataFound(Check("data", "ok", f"{found}, no manifest (ModelZoo's shards): nothing to check them by"))
    found += f", {'sizes' if config.data.verify == 'size' else 'digests'} match the manifest"
    if (note := data.length_note) is not None:
        return DataFound(Check("data", "warning", f"{found}; {note}", "prepare again with clips as long as they are"))
    return DataFound(Check("data", "ok", found))


def _examine_audio(config: RunConfig) -> DataFound:
    audio_dir, annotations = config.data.source_dir, config.data.annotations
    assert audio_dir is not None, "check_source comes first"
    assert annotations is not None, "check_source comes first"
    from fcn4dist.data.annotations import (
        load_chosen_annotations,
        locate_clips,  # NumPy loads here
    )
    from fcn4dist.data.dataset import describe_lengths

    table, _ = load_chosen_annotations(config.data)
    clips = locate_clips(table, audio_dir, config.data.source_suffix)
    unreadable = [clip for clip in clips if not os.access(clip, os.R_OK)]
    item_bytes = 4 if config.data.feature_dtype == "float32" else 2
    to_write = len(clips) * config.mel.n_mels * config.mel.num_stored_frames * item_bytes
    share = len(unreadable) / max(1, len(clips))
    found = f"{annotations}: {len(clips)} clips, {len(table.tags)} tags"
    if not unreadable:
        found += f", all in {audio_dir}; will be prepared into {format_bytes(to_write)}"
        lengths_s = _sample_lengths(clips) if table.durations_s is None else table.durations_s
        if config.data.npy_dir is None and (note := describe_lengths(lengths_s, config.mel)) is not None:
            return DataFound(Check("data", "warning", f"{found}; {note}", "set mel.clip_s or mel.stored_s"), to_write)
        return DataFound(Check("data", "ok", found), to_write)
    found += f"; {len(unreadable)} cannot be read, the first: {unreadable[0]}"
    is_fatal = share > config.data.max_skipped_fraction
    if is_fatal:
        return DataFound(Check("data", "error", found, "put the audio there, or correct data.audio_dir"), to_write)
    return DataFound(Check("data", "warning", found, "put the audio there, or they will be skipped"), to_write)


def _sample_lengths(clips: Sequence[Path]) -> Any:
    """Return the lengths in seconds of some of the files, as their headers say; NaN where they do not."""
    import numpy as np
    import soundfile

    lengths_s = []
    for clip in clips[:: max(1, len(clips) // SAMPLED_CLIPS)]:
        with contextlib.suppress(OSError, soundfile.SoundFileError):
            lengths_s.append(soundfile.info(clip).duration)
    return np.array(lengths_s, np.float64)


def existing_parent(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def check_run_folder(run_dir: Path) -> Check:
    """Check that a run can be written at `run_dir`; a file is made there (or in the nearest parent) and removed."""
    place = existing_parent(run_dir)
    if not place.is_dir():
        return Check("run-dir", "error", f"{place} is not a folder", "name another folder with --run-dir")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"fcn4dist")
    except OSError as error:
        found = f"{place}: cannot be written: {error.strerror or error}"
        return Check("run-dir", "error", found, "name another folder with --run-dir, or change its owner")
    if RunDir(run_dir).config.is_file():
        found = f"{run_dir} holds a run already; --resume {run_dir} continues it, a new run needs another folder"
        return Check("run-dir", "ok", found)
    return Check("run-dir", "ok", f"{run_dir} can be written")


def check_disk(config: RunConfig, run_dir: Path, bytes_to_prepare: int) -> Check:
    """Compare the disk under the run folder with what the run will write: checkpoints and prepared data."""
    place = existing_parent(run_dir)
    free = shutil.disk_usage(place).free
    one = 3 * 4 * count_parameters(config.model, count_tags(config))  # weights and Adam's two moments
    kept = config.checkpoint.keep + 2  # the best, and the one being written
    needed = kept * one + bytes_to_prepare + SPARE_BYTES
    found = f"{format_bytes(free)} free at {place}, up to {format_bytes(needed)} needed"
    found += f" ({kept} checkpoints of {format_bytes(one)}" + (", prepared data)" if bytes_to_prepare else ")")
    if free >= needed:
        return Check("disk", "ok", found)
    fatal = free < 2 * one + bytes_to_prepare
    remedy = "free some space, keep fewer (checkpoint.keep), or name another disk with --run-dir"
    return Check("disk", "error" if fatal else "warning", found, remedy)
