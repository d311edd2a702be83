"""What must hold before a run goes on: it is not finished, its data is the same, and the config differs in harmless keys only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn4dist.config import RunConfig, build_config, load_config, parse_override
from fcn4dist.errors import ConfigError, DataError
from fcn4dist.run.checkpoints import State, find_newest, has_checkpoint
from fcn4dist.run.folder import RunDir

if TYPE_CHECKING:
    from fcn4dist.data.dataset import DataSet

# These change neither the clips of a step nor its arithmetic. data.records_dir: the set may have moved, its clips are checked.
HARMLESS = {
    "train.epochs",  # but under a schedule that ends with them: see _effect_on_rate
    "train.max_steps",
    "train.device_batch",
    "train.early_stop_epochs",
    "train.max_overflows",
    "train.max_diverged_steps",
    "data.records_dir",
    "data.verify",
    "data.num_workers",
}
HARMLESS_SECTIONS = {"checkpoint", "evaluate", "launch"}
# The cursor, the weights, the optimizer's values and the features of a run mean nothing under another one of these: not even
# --force. The moving average of the weights may decay at another rate, but not come or go (`_is_fixed`).
FIXED = {"train.global_batch", "train.seed", "train.optimizer", "model.channels", "model.pools", "model.input_norm"}
FIXED_SECTIONS = {"mel"}


def load_config_to_resume(
    run: RunDir, config_file: Path | None, overrides: Iterable[str], *, force: bool = False
) -> RunConfig:
    """Return the run's own config with what `config_file` and `overrides` change of it.

    Raises ConfigError when there is no run, and when keys differ that a run may not change, all of them listed.
    """
    if not run.config.is_file():
        seeds = sorted(int(path.name[5:]) for path in run.path.glob("seed-*") if path.name[5:].isdecimal())
        hint = f"; a folder of seeds: add --seeds {','.join(map(str, seeds))}" if seeds else ""
        raise ConfigError(f"--resume {run.path}: no run here (no {run.config.name}){hint}")
    own = load_config(run.config)
    values = own.model_dump(exclude_unset=True)
    given: dict[str, dict[str, Any]] = {}
    if config_file is not None:
        given = load_config(config_file).model_dump(exclude_unset=True)
    for override in overrides:
        (section, key), value = parse_override(override)
        given.setdefault(section, {})[key] = value
    for section, keys in given.items():
        values.setdefault(section, {}).update(keys)
    wanted = build_config(values, where=f"--resume {run.path}")
    check_changes(own, wanted, force=force)
    return wanted


def check_changes(own: RunConfig, wanted: RunConfig, *, force: bool = False) -> None:
    """Raise ConfigError listing the keys that a resumed run may not change; `force` allows what does not break it."""
    refused, forceable = [], []
    for key, before, after in differing_keys(own, wanted):
        section = key.split(".")[0]
        effect = _effect_on_rate(key, own)
        if (key in HARMLESS or section in HARMLESS_SECTIONS) and effect is None:
            continue
        line = f"  {key}: the run has {before!r}, asked for is {after!r}" + (f"; {effect}" if effect else "")
        if section in FIXED_SECTIONS or _is_fixed(key, before, after):
            refused.append(line)
        elif not force:
            forceable.append(line)
    if refused:
        raise ConfigError("\n".join(["--resume: a run goes on with its own values of these keys:", *refused]))
    if forceable:
        head = (
            "--resume: these keys differ from the run's; leave them out, or add --force to go on with the new values:"
        )
        raise ConfigError("\n".join([head, *forceable]))


def _effect_on_rate(key: str, own: RunConfig) -> str | None:
    """Return what a key that is harmless in itself does to the learning rate of this run; None: nothing."""
    if key == "train.epochs" and own.train.schedule == "cosine":
        return "its cosine schedule ends with its epochs, so the learning rate would jump"
    if key in ("evaluate.split", "evaluate.every_epochs") and own.train.schedule == "plateau":
        return "its plateau schedule goes by the evaluations"
    return None


def _is_fixed(key: str, before: object, after: object) -> bool:
    return key in FIXED or (key == "train.ema_decay" and (before is None or after is None))


def differing_keys(own: RunConfig, wanted: RunConfig) -> list[tuple[str, Any, Any]]:
    """Return (section.key, own value, wanted value) of each key that differs."""
    before, after = own.model_dump(mode="json"), wanted.model_dump(mode="json")
    return [
        (f"{section}.{key}", value, after[section][key])
        for section, keys in before.items()
        for key, value in keys.items()
        if value != after[section][key]
    ]


def check_resumable(run: RunDir, config: RunConfig, data: DataSet) -> State | None:
    """Return the state that the run goes on from with `data`; None when it has no checkpoint and so starts anew.

    Raises CheckpointError when none is whole or the newest is of a newer format, DataError for another data set, and
    ConfigError when the run is finished.
    """
    if not has_checkpoint(run.checkpoints):
        return None
    path, state, _ = find_newest(run.checkpoints)
    expected = state.origin.train_clips
    found = data.train_checksum()
    if expected is not None and found != expected:
        raise DataError(
            f"{data.path}: not the data set that {run.path} trained on: other clips, labels, features or tags (checksum {found}, "
            f"expected {expected})"
        )
    num_steps = count_steps(config, state)
    progress = state.progress
    if num_steps is not None and progress.step > num_steps:
        raise ConfigError(
            f"--resume {run.path}: {_describe_done(config, state)}; leave it out, or raise it to train on"
        )
    if _is_done_early(config, state):
        raise ConfigError(
            f"--resume {run.path}: finished: stopped early after epoch {progress.epoch}, last checkpoint {path.name}; "
            "to train on, raise the limit: --set train.early_stop_epochs=N"
        )
    if num_steps is not None and progress.step == num_steps and progress.is_evaluated:
        limit = "train.epochs" if config.train.max_steps is None else "train.max_steps"
        raise ConfigError(
            f"--resume {run.path}: finished: {progress.step} of {num_steps} steps, last checkpoint {path.name}; "
            f"to train on, raise the limit: --set {limit}=N"
        )
    return state


def is_finished(run: RunDir, config: RunConfig) -> bool:
    """Return whether nothing is left of a run under `config`. Raises CheckpointError as `check_resumable`."""
    if not has_checkpoint(run.checkpoints):
        return False
    _, state, _ = find_newest(run.checkpoints)
    num_steps = count_steps(config, state)
    is_last = num_steps is not None and state.progress.step >= num_steps and state.progress.is_evaluated
    return is_last or _is_done_early(config, state)


def _is_done_early(config: RunConfig, state: State) -> bool:
    return state.progress.is_evaluated and state.progress.is_stopped_early(config.train.early_stop_epochs)


def _describe_done(config: RunConfig, state: State) -> str:
    """Say which limit is behind where the run stands."""
    done, steps_per_epoch = state.progress.step, state.origin.steps_per_epoch or 1
    if config.train.max_steps is not None and config.train.max_steps < min(done, config.train.epochs * steps_per_epoch):
        return f"train.max_steps {config.train.max_steps} is less than the {done} steps that are done"
    epochs, rest = divmod(done, steps_per_epoch)
    whole = f"{epochs} and {rest} of {steps_per_epoch} steps" if rest else str(epochs)
    return f"train.epochs {config.train.epochs} is less than the {whole} that are done ({done} steps)"


def count_steps(config: RunConfig, state: State) -> int | None:
    """Return the steps of the whole run under `config`; None for a checkpoint that does not say how long an epoch is."""
    if state.origin.steps_per_epoch is None:
        return None
    steps = config.train.epochs * state.origin.steps_per_epoch
    return min(steps, config.train.max_steps or steps)
