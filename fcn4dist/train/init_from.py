"""Weights to start from: ours, or ModelZoo's FCN-4 checkpoints, which name the same parameters beside an optimizer's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mindspore import Parameter

from fcn4dist.data.dataset import DataSet
from fcn4dist.data.tags import is_rarest_first
from fcn4dist.errors import CheckpointError
from fcn4dist.model.modelzoo import load_modelzoo
from fcn4dist.model.parameters import set_parameters
from fcn4dist.train.checkpoint import STATE, load_state, load_weights, resolve_checkpoint

logger = logging.getLogger(__name__)


def load_initial_weights(path: Path, parameters: Sequence[Parameter], data: DataSet | None = None) -> None:
    """Set the network's `parameters` from a checkpoint folder, a run directory, or a .ckpt/.safetensors file.

    A file may hold more than the network (ModelZoo's holds Adam's moments): an optimizer's values are left alone. Warns
    where the tags of `data` are in another order than the checkpoint's outputs. Raises
    CheckpointError when a parameter of the network is missing or of another shape.
    """
    folder = resolve_checkpoint(path)
    if (folder / STATE).is_file():
        _check_order(path, load_state(folder).card.tags, data)
        load_weights(folder, parameters)
        return
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such checkpoint; expected a checkpoint folder, a run directory or a .ckpt file"
        )
    set_parameters(load_modelzoo(path).values, parameters, str(path))
    _check_order(path, None, data)


def _check_order(path: Path, tags: list[str] | None, data: DataSet | None) -> None:
    """Warn where outputs would go on under other names; `tags` None: ModelZoo's order, the rarest first."""
    if data is None or data.positives is None:
        return
    is_in_order = is_rarest_first(data.positives) if tags is None else tags == list(data.tags)
    if not is_in_order:
        found = "begin with the rarest tag" if tags is None else "have other tags, or in another order"
        logger.warning(
            "%s: its outputs %s; the last layer of the network has much to unlearn on %s", path, found, data.path
        )
