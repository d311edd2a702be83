"""The data set that a run trains on: a prepared one, audio that is prepared first, or the embedded demo set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fcn4dist.config import BatchPlan, RunConfig, build_config, override_config
from fcn4dist.data.demo import demo_config
from fcn4dist.data.manifest import MANIFEST, check_shards, load_manifest
from fcn4dist.errors import ConfigError, DataError
from fcn4dist.prepare import Progress, prepare
from fcn4dist.run_dir import RunDir

MODELZOO_FIRST_SHARD = "train.mindrecord0"  # what ModelZoo's own script writes, without a manifest


def is_demo(config: RunConfig) -> bool:
    """Whether no data is named at all, which means the embedded demo set."""
    return config.data.records_dir is None and config.data.audio_dir is None and config.data.annotations is None


def apply_under(config: RunConfig, values: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """Return `config` with `values` (section -> key -> value) in place of its defaults.

    What the user's file, `--set` or an option gave explicitly stays.
    """
    given = config.model_dump(exclude_unset=True)
    sections = {**values, **given}
    merged = {name: {**values.get(name, {}), **given.get(name, {})} for name in sections}
    return build_config(merged, where="the demo's config with yours over it")


def resolve_data(
    config: RunConfig, run_dir: RunDir, say: Callable[[str], None], progress: Progress | None = None
) -> RunConfig:
    """Return `config` with data.records_dir naming a prepared data set and `mel` as it was prepared with.

    What is missing is prepared first, and `progress` is told. Raises ConfigError for half-named data or a `mel` that
    contradicts the data set, and DataError when it cannot be prepared.
    """
    if is_demo(config):
        say("no data named: training on the embedded demo set (yours: --data, or data.audio_dir and data.annotations)")
        config = apply_under(config, demo_config())
        config = override_config(config, data={"records_dir": _demo_records(config)})
        prepare(config, progress=progress)
    elif config.data.records_dir is None:
        data = config.data
        if data.audio_dir is None or data.annotations is None:
            missing = "data.audio_dir" if data.audio_dir is None else "data.annotations"
            raise ConfigError(
                f"{missing}: not set; audio needs both data.audio_dir and data.annotations, or use --data DIR"
            )
        config = override_config(config, data={"records_dir": run_dir.path / "data"})
        say(f"preparing {data.audio_dir} into {config.data.records_dir}")
        prepare(config, progress=progress)
    assert config.data.records_dir is not None
    return adopt_mel(override_config(config, data={"records_dir": config.data.records_dir.absolute()}))


def _demo_records(config: RunConfig) -> Path:
    """Return where the prepared demo set is cached: one folder for each way of preparing it."""
    assert config.data.records_dir is not None
    key = build_config({"mel": config.mel.model_dump(), "data": config.data.model_dump()}, "demo").digest[:8]
    return config.data.records_dir.with_name(f"{config.data.records_dir.name}-{key}")


def adopt_mel(config: RunConfig) -> RunConfig:
    """Return `config` with the `mel` that its data set was prepared with.

    Raises ConfigError where the user asked for another one: features are computed by `prepare`, not by training.
    """
    folder = config.data.records_dir
    if folder is None or not (folder / MANIFEST).is_file():
        return config
    mel = load_manifest(folder).mel
    for key in sorted(config.mel.model_fields_set):
        wanted, found = getattr(config.mel, key), getattr(mel, key)
        if wanted != found:
            raise ConfigError(
                f"mel.{key}: {wanted}, but {folder} was prepared with {found}; prepare again, or leave mel.{key} out"
            )
    return override_config(config, mel=mel.model_dump())


def check_data(config: RunConfig, batches: BatchPlan) -> int | None:
    """Check the data set that data.records_dir names, and that it fills at least one step.

    Returns the number of clips to train on; None for ModelZoo's shards, which have no manifest: the workers count them.
    Raises DataError.
    """
    folder = config.data.records_dir
    assert folder is not None, "resolve_data comes first"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one that `fcn4dist prepare` wrote")
    if not (folder / MANIFEST).exists():
        if (folder / MODELZOO_FIRST_SHARD).is_file():
            return None
        raise DataError(f"{folder}: neither {MANIFEST} nor {MODELZOO_FIRST_SHARD} here; run `fcn4dist prepare` first")
    manifest = load_manifest(folder)
    check_shards(folder, manifest, config.data.verify)
    train = manifest.splits.get("train")
    num_clips = 0 if train is None else train.num_clips
    if batches.steps_per_epoch(num_clips) < 1:
        raise DataError(
            f"{folder}: {num_clips} clips to train on are fewer than one global batch of {batches.global_batch}; "
            "set a smaller train.global_batch"
        )
    return num_clips
