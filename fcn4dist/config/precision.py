"""Which half precision a device computes in; known only once the device is."""

from __future__ import annotations

from fcn4dist.config.schema import TrainConfig
from fcn4dist.errors import ConfigError

NO_BFLOAT16 = ("910", "310p3")  # chips as ascend/tools.py names them: 910 is 910A; 910B and later have it


def check_precision(train: TrainConfig, target: str, chip: str | None = None) -> None:
    """Raise ConfigError where `target` (Ascend or CPU) cannot train in train.amp_dtype; `chip` None: not known, so let be."""
    if train.amp_dtype != "bfloat16":
        return
    if target == "CPU" or chip in NO_BFLOAT16:
        found = "the CPU trains in float32 or float16" if target == "CPU" else f"this NPU is an Ascend {chip}"
        raise ConfigError(
            f"train.amp_dtype: bfloat16, which an Ascend 910B or a later one computes in, but {found}; use float16"
        )
