"""Save checkpoints so that they appear whole, and load them: written beside, synced, digested, renamed.

What a checkpoint holds and how it proves itself: `checkpoint_folder.py`. With `checkpoint.format: ckpt` the files end in .ckpt.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mindspore as ms
import numpy as np
from mindspore import Parameter
from numpy.typing import NDArray

from fcn4dist import __version__
from fcn4dist.config import CheckpointConfig
from fcn4dist.files import digest_file, save_text, sync_directory
from fcn4dist.model.parameters import read_parameters, set_parameters, stored_name
from fcn4dist.model.stored import load_optimizer, load_weights
from fcn4dist.run.checkpoints import (
    FORMAT_VERSION,
    STATE,
    Best,
    ModelCard,
    Origin,
    Progress,
    State,
    find_newest,
    format_state,
    has_checkpoint,
    list_checkpoints,
    load_evaluated,
    load_state,
    named,
    remove_checkpoint,
    remove_leftovers,
    save_evaluated,
    step_name,
)

__all__ = [
    "STATE", "Checkpoints", "ModelCard", "Origin", "Progress", "Snapshot", "State", "find_newest", "has_checkpoint",
    "list_checkpoints", "load_evaluated", "load_optimizer", "load_state", "load_weights", "named", "read_parameters",
    "set_parameters", "step_name",
]  # fmt: skip

Format = Literal["ckpt", "safetensors"]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """A run at one step, copied out of the network, so that training may go on while it is written."""

    progress: Progress
    weights: Arrays
    optimizer: Arrays

    @classmethod
    def take(cls, progress: Progress, weights: Sequence[Parameter], optimizer: Sequence[Parameter]) -> Snapshot:
        """Copy the parameters to host memory."""
        return cls(progress, _copy(weights), _copy(optimizer))


def _copy(parameters: Sequence[Parameter]) -> Arrays:
    return {stored_name(parameter): np.array(parameter.asnumpy()) for parameter in parameters}


class Checkpoints:
    """The checkpoints of one run; only the chief writes."""

    def __init__(
        self, folder: Path, config: CheckpointConfig, card: ModelCard, config_digest: str, origin: Origin | None = None
    ) -> None:
        self._folder = folder
        self._config = config
        self._card = card
        self._config_digest = config_digest
        self._origin = origin or Origin()
        self._damaged: set[Path] = set()  # they do not count as kept

    def save(self, progress: Progress, weights: Sequence[Parameter], optimizer: Sequence[Parameter]) -> Path:
        """Take a snapshot and write it; see `write`."""
        return self.write(Snapshot.take(progress, weights, optimizer))

    def write(self, snapshot: Snapshot) -> Path:
        """Write the checkpoint of `snapshot.progress.step`, point `latest` to it and drop what is too old.

        Raises OSError when the disk refuses; all earlier checkpoints are then untouched.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / step_name(snapshot.progress.step)
        temporary = self._folder / f".{target.name}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            self._write_into(temporary, snapshot)
            if target.exists():  # a damaged one: training goes on from what is whole, so a good one is not met
                remove_checkpoint(target)
            evaluated = load_evaluated(self._folder)
            if evaluated.pop(target.name, None) is not None:  # of the damaged one
                save_evaluated(self._folder, evaluated)
            temporary.rename(target)
            self._damaged.discard(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_directory(self._folder)
        save_text(self._folder / "latest", target.name + "\n")
        self._drop_old()
        return target

    def note_evaluation(self, progress: Progress) -> None:
        """Note that the checkpoint of `progress.step` is evaluated, beside it: the checkpoint itself stays as it is.

        Points `best` to the best checkpoint before, so that no note is there without it. Raises OSError.
        """
        if progress.best_step is not None and (self._folder / step_name(progress.best_step)).is_dir():
            self.mark_best(progress.best_step)
        best = Best(**{key: getattr(progress, key) for key in Best.model_fields})
        save_evaluated(self._folder, {**load_evaluated(self._folder), step_name(progress.step): best})

    def _write_into(self, folder: Path, snapshot: Snapshot) -> None:
        for name, arrays in (("weights", snapshot.weights), ("optimizer", snapshot.optimizer)):
            _save_arrays(folder, name, arrays, self._config.format)
        state = State(
            format_version=FORMAT_VERSION,
            fcn4dist=__version__,
            mindspore=ms.__version__,
            config_digest=self._config_digest,
            card=self._card,
            progress=snapshot.progress,
            origin=self._origin,
            sha256={file.name: digest_file(file) for file in sorted(folder.iterdir())},
        )
        save_text(folder / STATE, format_state(state))
        sync_directory(folder)

    def mark_best(self, step: int) -> None:
        """Point `best` to the checkpoint of `step`, which is then kept."""
        if named(self._folder, "best") != self._folder / step_name(step):
            save_text(self._folder / "best", step_name(step) + "\n")

    def clean(self) -> None:
        """Remove what a killed writer left half-done; call it once, before anything is written."""
        remove_leftovers(self._folder)

    def go_on_from(self, path: Path) -> None:
        """Take all that is newer than `path` for damaged: it is the newest whole one."""
        found = list_checkpoints(self._folder)
        self._damaged = set(found[found.index(path) + 1 :])

    def _drop_old(self) -> None:
        kept = {named(self._folder, "best"), named(self._folder, "latest")}
        found = list_checkpoints(self._folder)
        oldest = [path for path in found if path not in self._damaged][-self._config.keep :][0]
        for old in found[: found.index(oldest)]:
            if old not in kept:
                remove_checkpoint(old)


def _save_arrays(folder: Path, name: str, arrays: Arrays, file_format: Format) -> None:
    file = folder / f"{name}.{file_format}"
    entries = [{"name": key, "data": ms.Tensor.from_numpy(array)} for key, array in arrays.items()]  # no second copy
    try:
        ms.save_checkpoint(entries, str(file), format=file_format)
    except Exception as error:  # MindSpore raises bare RuntimeError or OSError for a full disk
        raise OSError(f"{file}: cannot be written: {error}") from error
    file.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)  # MindSpore leaves 0400
    with file.open("rb") as written:
        os.fsync(written.fileno())
