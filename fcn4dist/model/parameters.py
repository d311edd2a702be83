"""Parameters between files and networks: read under their names, set only when names and shapes are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Parameter

from fcn4dist.errors import CheckpointError

EMA_PREFIX = "ema."  # of the moving average of a weight; in a file it has the weight's own name


def stored_name(parameter: Parameter) -> str:
    """Return the name under which files hold `parameter`: where a moving average takes a weight's place, the weight's."""
    name: str = parameter.name
    return name.removeprefix(EMA_PREFIX)


def set_parameters(values: Mapping[str, Any], parameters: Sequence[Parameter], where: str) -> None:
    """Set each of `parameters` to the value of its name: a Parameter or a NumPy array.

    Raises CheckpointError naming the first parameter that is missing, left over or of another shape; nothing is set then.
    """
    names = {stored_name(parameter) for parameter in parameters}
    if missing := sorted(names - values.keys()):
        raise CheckpointError(f"{where}: no parameter {missing[0]!r} (and {len(missing) - 1} more missing)")
    if extra := sorted(values.keys() - names):
        raise CheckpointError(f"{where}: unknown parameter {extra[0]!r} (and {len(extra) - 1} more)")
    for parameter in parameters:
        found = tuple(values[stored_name(parameter)].shape)
        if found != tuple(parameter.shape):
            raise CheckpointError(
                f"{where}: {parameter.name} has shape {found}, the network's is {tuple(parameter.shape)}"
            )
    for parameter in parameters:
        value = values[stored_name(parameter)]
        array = value.asnumpy() if isinstance(value, Parameter) else value
        parameter.set_data(ms.Tensor(array, parameter.dtype))


def read_parameters(file: Path) -> dict[str, Parameter]:
    """Read the tensors of a .ckpt or .safetensors file; raises CheckpointError where it is not one."""
    file_format = "safetensors" if file.suffix == ".safetensors" else "ckpt"
    try:
        values: dict[str, Parameter] = ms.load_checkpoint(str(file), format=file_format)
    except Exception as error:  # ValueError, RuntimeError or protobuf's own, depending on the damage
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        if "not enough memory" in reason:  # MindSpore 2.10 counts the page cache as used
            raise CheckpointError(
                f"{file}: MindSpore refuses a .ckpt that is larger than the memory that is free beside the page cache; "
                "free some (sync; echo 1 > /proc/sys/vm/drop_caches), or load it with MindSpore 2.9"
            ) from None
        raise CheckpointError(f"{file}: not a MindSpore checkpoint: {reason}") from None
    return {name: value for name, value in values.items() if isinstance(value, Parameter)}  # no texts of an append_dict
