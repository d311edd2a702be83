"""ModelZoo's FCN-4 checkpoints: a file with our parameters' names, beside those of the optimizer that trained them.

Its network is ours (see fcn4.py), its outputs are in the order of its tag.txt: the tag with the fewest clips first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config.modelzoo_tags import MODELZOO_TAGS
from fcn4dist.errors import CheckpointError
from fcn4dist.model.parameters import read_parameters

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
INPUT_NORM = tuple(f"bn0.{name}" for name in BATCH_NORM)  # of ours; ModelZoo's has none
NAMES = (
    *(f"conv{i}.weight" for i in range(1, 5)),
    *(f"bn{i}.{name}" for i in range(1, 5) for name in BATCH_NORM),
    "dense.weight",
    "dense.bias",
)
SUFFIXES = (".ckpt", ".safetensors")


@dataclass(frozen=True)
class ModelZooWeights:
    """The weights of an FCN-4 without a word about its tags, its mel or its pools."""

    file: Path
    values: dict[str, NDArray[np.float32]]  # NAMES, and INPUT_NORM where it has one -> array
    has_optimizer: bool = (
        False  # whether the file holds Adam's moments too, as those of ModelZoo's training do, and ours do not
    )

    @property
    def channels(self) -> list[int]:
        """Maps after each convolution: [128, 384, 768, 2048] in ModelZoo."""
        return [self.values[f"conv{i}.weight"].shape[0] for i in range(1, 5)]

    @property
    def num_tags(self) -> int:
        """Outputs: 50 in ModelZoo."""
        return self.values["dense.weight"].shape[0]

    @property
    def input_bands(self) -> int | None:
        """Mel bands of the input norm; none where there is no input norm."""
        return self.values["bn0.gamma"].shape[0] if "bn0.gamma" in self.values else None

    def reordered(self, order: Sequence[int]) -> ModelZooWeights:
        """Return the weights with output `order[i]` as output i."""
        chosen = np.array(order, np.intp)
        dense = {name: self.values[name][chosen] for name in ("dense.weight", "dense.bias")}
        return replace(self, values={**self.values, **dense})


def name_outputs(
    weights: ModelZooWeights, named: Sequence[str] | None, data_tags: Sequence[str] | None
) -> list[str] | None:
    """Return the tags of a file's outputs in their order: those that the user `named`, else ModelZoo's own; None: not known.

    A file is ModelZoo's own where its training wrote it (Adam's moments are in it), it has 50 outputs, and the data set has the
    very tags of ModelZoo's tag.txt, in whatever order. Raises CheckpointError for another number of names than outputs.
    """
    if named is not None:
        check_number(weights, named, "data.tags names")
        return list(named)
    is_modelzoos = weights.has_optimizer and weights.num_tags == len(MODELZOO_TAGS)
    return list(MODELZOO_TAGS) if is_modelzoos and set(data_tags or ()) == set(MODELZOO_TAGS) else None


def check_number(weights: ModelZooWeights, tags: Sequence[str], who: str) -> None:
    """Raise CheckpointError unless there is one of `tags` for each output."""
    if len(tags) != weights.num_tags:
        raise CheckpointError(f"{weights.file}: {weights.num_tags} outputs (dense.weight), but {who} {len(tags)} tags")


def load_modelzoo(path: Path) -> ModelZooWeights:
    """Read the network's parameters from a .ckpt or .safetensors file and check that they are an FCN-4's.

    What the optimizer keeps (moments, step, learning rate) is left out. Raises CheckpointError naming the parameter that
    is missing, of another shape or not finite, or that FCN-4 does not have.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: expected a file that ends in {' or '.join(SUFFIXES)}, or a checkpoint folder")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    stored = read_parameters(path)
    if "bn1.running_mean" in stored:
        raise CheckpointError(
            f"{path}: an export under PyTorch's names; expected the checkpoint that it was made from, or its .onnx or .mindir"
        )
    if missing := [name for name in NAMES if name not in stored]:
        raise CheckpointError(
            f"{path}: no parameter {missing[0]!r} (and {len(missing) - 1} more missing); expected an FCN-4, as MindSpore "
            "ModelZoo's or one of ours"
        )
    names = (*INPUT_NORM, *NAMES) if "bn0.gamma" in stored else NAMES
    if missing := [name for name in names if name not in stored]:
        raise CheckpointError(
            f"{path}: no parameter {missing[0]!r}; expected those of an input norm: {', '.join(INPUT_NORM)}"
        )
    for name, parameter in stored.items():
        if not _is_known(name, parameter.size):
            raise CheckpointError(f"{path}: {name} {_shape(parameter.shape)}: FCN-4 has no such parameter")
    values = {name: stored[name].asnumpy().astype(np.float32) for name in names}
    weights = ModelZooWeights(path, values, has_optimizer=f"moment1.{NAMES[0]}" in stored)
    _check_shapes(weights)
    for name, value in weights.values.items():
        if not np.isfinite(value).all():
            raise CheckpointError(f"{path}: {name} holds NaN or infinite values")
    return weights


def _is_known(name: str, size: int) -> bool:
    """Whether `name` is a parameter of the network, an optimizer's slot for one ("moment1.conv1.weight") or a counter."""
    own_names = (*INPUT_NORM, *NAMES)
    return name in own_names or size <= 1 or any(name.endswith(f".{own}") for own in own_names)


def _check_shapes(weights: ModelZooWeights) -> None:
    inputs = 1
    expected: dict[str, tuple[int, ...]] = {}
    for i in range(1, 5):
        outputs = weights.values[f"conv{i}.weight"].shape[0]
        expected[f"conv{i}.weight"] = (outputs, inputs, 3, 3)
        expected |= {f"bn{i}.{name}": (outputs,) for name in BATCH_NORM}
        inputs = outputs
    if weights.input_bands is not None:
        expected |= dict.fromkeys(INPUT_NORM, (weights.input_bands,))
    num_tags = weights.values["dense.weight"].shape[0]
    expected |= {"dense.weight": (num_tags, inputs), "dense.bias": (num_tags,)}
    for name, shape in expected.items():
        if (found := weights.values[name].shape) != shape:
            raise CheckpointError(f"{weights.file}: {name} has shape {_shape(found)}, expected {_shape(shape)}")


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "()"
