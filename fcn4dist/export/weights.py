"""Weights under PyTorch's names: as safetensors, and as one digest that every exported format shares.

ModelZoo's names are those of MindSpore; they differ from PyTorch's in the four values of a batch norm alone, and no array
changes its layout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mindspore import Parameter, Tensor
from numpy.typing import NDArray

from fcn4dist.errors import CheckpointError, DeviceError, pip_install
from fcn4dist.model.fcn4 import FCN4

Weights = dict[str, NDArray[np.float32]]
LEAVES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
NO_SAFETENSORS = f"safetensors is not installed for this Python; expected: {pip_install('export')}"


def torch_name(name: str) -> str:
    """Return PyTorch's name of a parameter: "bn1.gamma" is "bn1.weight"."""
    layer, _, leaf = name.rpartition(".")
    return f"{layer}.{LEAVES.get(leaf, leaf)}"


def read_weights(network: FCN4) -> Weights:
    """Return the network's parameters, batch-norm statistics included, under PyTorch's names."""
    parameters: list[Parameter] = list(network.get_parameters())
    return {torch_name(parameter.name): parameter.asnumpy().astype(np.float32) for parameter in parameters}


def digest_weights(weights: Mapping[str, NDArray[np.float32]]) -> str:
    """Return one SHA-256 of all weights.

    In the order of names, each: its name, a space, its shape as "128x1x3x3", a newline, and its values as little-endian
    float32 in C order.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name], "<f4")
        digest.update(f"{name} {'x'.join(map(str, array.shape))}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_safetensors(network: FCN4, file: Path) -> None:
    """Write the weights; `torch.load_state_dict` of the module in docs/export-and-tag.md takes them. Raises DeviceError."""
    try:
        from safetensors.numpy import save_file
    except ModuleNotFoundError:
        raise DeviceError(NO_SAFETENSORS) from None
    save_file(read_weights(network), file, metadata={"format": "pt"})


def load_safetensors(file: Path, network: FCN4) -> None:
    """Set the parameters of `network` from what `write_safetensors` wrote. Raises CheckpointError where they do not fit."""
    from safetensors.numpy import load_file

    found = load_file(file)
    parameters = list(network.get_parameters())
    expected = {torch_name(parameter.name): tuple(parameter.shape) for parameter in parameters}
    if shapes := {name: array.shape for name, array in found.items()} != expected:
        raise CheckpointError(f"{file}: holds {shapes}, the network has {expected}")
    for parameter in parameters:
        parameter.set_data(Tensor(found[torch_name(parameter.name)], parameter.dtype))
