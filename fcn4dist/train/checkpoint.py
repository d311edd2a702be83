"""Checkpoints are folders that appear whole: written beside, synced, digested, renamed; loaded only if the digests hold.

    checkpoints/step-00000120/weights.safetensors     the network's parameters, under ModelZoo's names
                              optimizer.safetensors   Adam's moments, the loss scale and its counter
                              state.json              where the run stands, what the network is, and a SHA-256 a file
    checkpoints/latest, checkpoints/best              the name of one folder

With `checkpoint.format: ckpt` the files end in .ckpt.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import mindspore as ms
from mindspore import Parameter
from pydantic import BaseModel, ConfigDict, ValidationError

from fcn4dist import __version__
from fcn4dist.config import CheckpointConfig, MelConfig, ModelConfig
from fcn4dist.errors import CheckpointError
from fcn4dist.files import digest_file, save_json, save_text, sync_directory

FORMAT_VERSION = 1
STATE = "state.json"
Format = Literal["ckpt", "safetensors"]


class ModelCard(BaseModel):
    """What is needed to build the network of a checkpoint and to feed it."""

    model_config = ConfigDict(frozen=True)

    name: str  # checkpoint.prefix
    model: ModelConfig
    mel: MelConfig
    tags: list[str]  # in the order of the outputs
    split_name: str  # how its training clips were chosen


class Progress(BaseModel):
    """Where a run stands; with the weights, all that a resumed run needs."""

    model_config = ConfigDict(frozen=True)

    step: int = 0  # finished steps
    epoch: int = 0  # 0-based epoch of the next step
    cursor: int = 0  # clips of that epoch that are used up
    global_batch: int
    seed: int
    num_overflows: int = 0
    best_score: float | None = None  # highest validation ROC-AUC so far
    best_step: int | None = None


class State(BaseModel):
    """state.json."""

    model_config = ConfigDict(frozen=True)

    format_version: int
    fcn4dist: str
    mindspore: str
    config_digest: str
    card: ModelCard
    progress: Progress
    sha256: dict[str, str]


class Checkpoints:
    """The checkpoints of one run; only the chief writes."""

    def __init__(self, folder: Path, config: CheckpointConfig, card: ModelCard, config_digest: str) -> None:
        self._folder = folder
        self._config = config
        self._card = card
        self._config_digest = config_digest

    def save(self, progress: Progress, weights: Sequence[Parameter], optimizer: Sequence[Parameter]) -> Path:
        """Write the checkpoint of `progress.step`, point `latest` to it and drop what is too old.

        Raises OSError when the disk refuses; `latest` then still names the one before.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / step_name(progress.step)
        temporary = self._folder / f".{target.name}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            for name, parameters in (("weights", weights), ("optimizer", optimizer)):
                _save_parameters(temporary, name, parameters, self._config.format)
            digests = {file.name: digest_file(file) for file in sorted(temporary.iterdir())}
            state = State(
                format_version=FORMAT_VERSION,
                fcn4dist=__version__,
                mindspore=ms.__version__,
                config_digest=self._config_digest,
                card=self._card,
                progress=progress,
                sha256=digests,
            )
            save_json(temporary / STATE, state.model_dump(mode="json"))
            sync_directory(temporary)
            shutil.rmtree(target, ignore_errors=True)  # only a resumed run writes a step again
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_directory(self._folder)
        save_text(self._folder / "latest", target.name + "\n")
        self._drop_old()
        return target

    def mark_best(self, step: int) -> None:
        """Point `best` to the checkpoint of `step`, which is then kept."""
        save_text(self._folder / "best", step_name(step) + "\n")
        self._drop_old()

    def _drop_old(self) -> None:
        kept = {named(self._folder, "best"), named(self._folder, "latest")}
        for old in list_checkpoints(self._folder)[: -self._config.keep]:
            if old not in kept:
                shutil.rmtree(old, ignore_errors=True)


def step_name(step: int) -> str:
    """Return the folder name of a step: "step-00000120"."""
    return f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint folders, oldest first; unfinished ones have other names."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run has written a checkpoint, whole or not: a new run has none, so what has one is resumed."""
    return bool(list_checkpoints(folder))


def named(folder: Path, pointer: str) -> Path | None:
    """Return the checkpoint that the file `latest` or `best` names; none where there is no such file."""
    try:
        return folder / (folder / pointer).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def find_newest(folder: Path) -> tuple[Path, State, list[str]]:
    """Return the newest checkpoint that proves whole, its state, and a line for each newer one that did not.

    Raises CheckpointError when none is whole.
    """
    damaged: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return path, load_state(path), damaged
        except CheckpointError as error:
            damaged.append(str(error))
    detail = "\n".join(damaged)
    raise CheckpointError(f"{folder}: no whole checkpoint here{': ' if detail else ''}{detail}")


def load_state(path: Path) -> State:
    """Read state.json of the checkpoint folder `path` and prove its files by their digests.

    `path` may also be a run directory or its checkpoints folder: then `latest`. Raises CheckpointError.
    """
    file = path / STATE
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{file}: {error.strerror}; expected a checkpoint folder such as RUN/checkpoints/step-00000120"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{file}: damaged: {error}") from None
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{file}: format_version {version!r}; this fcn4dist reads {FORMAT_VERSION}")
    try:
        state = State.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for name, expected in state.sha256.items():
        member = path / name
        if not member.is_file():
            raise CheckpointError(f"{member}: missing; {STATE} lists it")
        if digest_file(member) != expected:
            raise CheckpointError(f"{member}: damaged: its SHA-256 is not the one in {STATE}")
    return state


def resolve_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that `path` means: itself, or the best or latest one of a run directory."""
    for folder in (path / "checkpoints", path):
        for pointer in ("best", "latest"):
            if (found := named(folder, pointer)) is not None:
                return found
    return path


def load_weights(path: Path, parameters: Sequence[Parameter]) -> None:
    """Set the network's `parameters` to the weights in the checkpoint folder `path`."""
    _load_parameters(path, "weights", parameters)


def load_optimizer(path: Path, parameters: Sequence[Parameter]) -> None:
    """Set the moments and the loss scale to those in the checkpoint folder `path`."""
    _load_parameters(path, "optimizer", parameters)


def set_parameters(values: Mapping[str, Any], parameters: Sequence[Parameter], where: str) -> None:
    """Set each of `parameters` to the array of its name.

    Raises CheckpointError naming the first parameter that is missing, left over or of another shape; nothing is set then.
    """
    names = {parameter.name for parameter in parameters}
    if missing := sorted(names - values.keys()):
        raise CheckpointError(f"{where}: no parameter {missing[0]!r} (and {len(missing) - 1} more missing)")
    if extra := sorted(values.keys() - names):
        raise CheckpointError(f"{where}: unknown parameter {extra[0]!r} (and {len(extra) - 1} more)")
    for parameter in parameters:
        found = tuple(values[parameter.name].shape)
        if found != tuple(parameter.shape):
            raise CheckpointError(
                f"{where}: {parameter.name} has shape {found}, the network's is {tuple(parameter.shape)}"
            )
    for parameter in parameters:
        parameter.set_data(ms.Tensor(values[parameter.name].asnumpy(), parameter.dtype))


def _save_parameters(folder: Path, name: str, parameters: Sequence[Parameter], file_format: Format) -> None:
    file = folder / f"{name}.{file_format}"
    entries = [{"name": parameter.name, "data": ms.Tensor(parameter.asnumpy())} for parameter in parameters]
    try:
        ms.save_checkpoint(entries, str(file), format=file_format)
    except Exception as error:  # MindSpore raises bare RuntimeError or OSError for a full disk
        raise OSError(f"{file}: cannot be written: {error}") from error
    file.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)  # MindSpore leaves 0400
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _load_parameters(folder: Path, name: str, parameters: Sequence[Parameter]) -> None:
    files = [folder / f"{name}.{suffix}" for suffix in ("ckpt", "safetensors")]
    file = next((file for file in files if file.is_file()), files[0])
    set_parameters(read_parameters(file), parameters, str(file))


def read_parameters(file: Path) -> dict[str, Parameter]:
    """Read a .ckpt or .safetensors file; raises CheckpointError where it is not one."""
    file_format = "safetensors" if file.suffix == ".safetensors" else "ckpt"
    try:
        values: dict[str, Parameter] = ms.load_checkpoint(str(file), format=file_format)
    except Exception as error:  # ValueError, RuntimeError or protobuf's own, depending on the damage
        raise CheckpointError(f"{file}: not a MindSpore checkpoint: {str(error).strip().splitlines()[0]}") from None
    return values
