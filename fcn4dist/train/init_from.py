"""Weights to start from: ours, or ModelZoo's FCN-4 checkpoints, which name the same parameters beside an optimizer's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mindspore import Parameter

from fcn4dist.errors import CheckpointError
from fcn4dist.model.modelzoo import load_modelzoo
from fcn4dist.model.parameters import set_parameters
from fcn4dist.train.checkpoint import STATE, load_state, load_weights, resolve_checkpoint


def load_initial_weights(path: Path, parameters: Sequence[Parameter]) -> None:
    """Set the network's `parameters` from a checkpoint folder, a run directory, or a .ckpt/.safetensors file.

    A file may hold more than the network (ModelZoo's holds Adam's moments): an optimizer's values are left alone.
    Raises CheckpointError when a parameter of the network is missing or of another shape.
    """
    folder = resolve_checkpoint(path)
    if (folder / STATE).is_file():
        load_state(folder)
        load_weights(folder, parameters)
        return
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such checkpoint; expected a checkpoint folder, a run directory or a .ckpt file"
        )
    set_parameters(load_modelzoo(path).values, parameters, str(path))
