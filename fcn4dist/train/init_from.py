"""Weights to start from: ours, or ModelZoo's FCN-4 checkpoints, which name the same parameters beside an optimizer's.

Outputs are matched by the names of their tags; tags that the other network does not know begin anew (model/transfer.py).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mindspore import Parameter

from fcn4dist.data.dataset import DataSet
from fcn4dist.errors import CheckpointError
from fcn4dist.model.modelzoo import ModelZooWeights, check_number, load_modelzoo, name_outputs
from fcn4dist.model.parameters import set_parameters
from fcn4dist.model.transfer import match_tags, transfer_weights
from fcn4dist.run.best import resolve_checkpoint
from fcn4dist.train.checkpoint import STATE, load_state

logger = logging.getLogger(__name__)


def load_initial_weights(
    path: Path, parameters: Sequence[Parameter], data: DataSet, named: Sequence[str] | None = None
) -> None:
    """Set the network's `parameters` from a checkpoint folder, a run directory, or a .ckpt/.safetensors file.

    A file may hold more than the network (ModelZoo's holds Adam's moments): an optimizer's values are left alone. It does not say
    which tag each output is: those are `named` (data.tags), else ModelZoo's own where it is known to be ModelZoo's. Says what was
    taken and what is new. Raises CheckpointError where nobody says that, and when a parameter of the network is missing or of
    another shape.
    """
    folder, own = resolve_checkpoint(path), list(data.tags)
    if folder.is_file() and (folder.parent / STATE).is_file():  # the weights inside one of our checkpoint folders
        folder = folder.parent
    if (folder / STATE).is_file():
        other = load_state(folder).card.tags
        file = next(file for suffix in ("safetensors", "ckpt") if (file := folder / f"weights.{suffix}").is_file())
    else:
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such checkpoint; expected a checkpoint folder, a run directory or a .ckpt file"
            )
        file, other = path, None
    weights = load_modelzoo(file)
    match = match_tags(own, other or _name_outputs(weights, named, data))
    fresh = {parameter.name: parameter.asnumpy() for parameter in parameters}
    set_parameters(transfer_weights(weights.values, fresh, match, str(path)), parameters, str(path))
    logger.info("train.init_from %s: %s", path, match.describe())


def _name_outputs(weights: ModelZooWeights, named: Sequence[str] | None, data: DataSet) -> list[str]:
    """Return the tags of a file's outputs, which it does not say itself."""
    if (outputs := name_outputs(weights, named, data.tags)) is not None:
        return outputs
    if data.manifest is not None:
        raise CheckpointError(
            f"{weights.file}: does not say which tag each of its {weights.num_tags} outputs is; start from one of our checkpoint "
            "folders, or name them in their order: --set data.tags=.../tag.txt"
        )
    check_number(weights, data.tags, f"{data.path} has")
    logger.warning("%s: neither it nor %s names its tags: outputs are taken in their places", weights.file, data.path)
    return list(data.tags)
