"""Steps that are compiled once a form, which takes seconds: the tests of the loop train one small network again and again."""

from __future__ import annotations

import json
from typing import Any

from fcn4dist.config import BatchPlan, TrainConfig

OF_THE_LOOP = {
    "lr",
    "epochs",
    "max_steps",
    "warmup_steps",
    "max_diverged_steps",
    "global_batch",
}  # no part of the graph
_steps: dict[tuple[Any, ...], tuple[Any, list[Any]]] = {}


def compiled_step(network: Any, train: TrainConfig, plan: BatchPlan) -> Any:
    """Return the `TrainStep` of these arguments: one of that form that is there, with this network's values, or a new one.

    Not for a run that is resumed: a checkpoint is loaded into a step that has not been compiled yet.
    """
    from mindspore import Tensor, ops

    from fcn4dist.train.step import TrainStep

    shapes = tuple(parameter.shape for parameter in network.get_parameters())
    form = (json.dumps(train.model_dump(mode="json", exclude=OF_THE_LOOP)), plan, shapes)
    if form not in _steps:
        step = TrainStep(network, train, plan)
        _steps[form] = step, [parameter.asnumpy().copy() for parameter in step.state]
        return step
    step, first = _steps[form]
    for own, new in zip(step.network.get_parameters(), network.get_parameters(), strict=True):
        ops.assign(own, Tensor(new.asnumpy()))
    for own, values in zip(step.state, first, strict=True):
        ops.assign(own, Tensor(values))
    return step
