"""Weights and moments as a checkpoint folder holds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mindspore import Parameter

from fcn4dist.model.parameters import read_parameters, set_parameters


def load_weights(path: Path, parameters: Sequence[Parameter]) -> None:
    """Set the network's `parameters` to the weights in the checkpoint folder `path`."""
    _load_parameters(path, "weights", parameters)


def load_optimizer(path: Path, parameters: Sequence[Parameter]) -> None:
    """Set the moments and the loss scale to those in the checkpoint folder `path`."""
    _load_parameters(path, "optimizer", parameters)


def _load_parameters(folder: Path, name: str, parameters: Sequence[Parameter]) -> None:
    files = [folder / f"{name}.{suffix}" for suffix in ("ckpt", "safetensors")]
    file = next((file for file in files if file.is_file()), files[0])
    set_parameters(read_parameters(file), parameters, str(file))
