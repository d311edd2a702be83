"""How long a rank's AllReduce takes inside the compiled step: the wait for slower ranks and the exchange itself.

A step is one graph, so Python sees only its beginning and its end. On CPU a graph may call back into Python: the clock is read
when the gradients are ready and again when their sum is there, through two values that depend on them. On Ascend a graph
cannot call back, so there is no such figure.
"""

from __future__ import annotations

import os
import time
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops


class ReduceClock(nn.Cell):
    """Wraps the AllReduce of a flat tensor and reads the clock around it, where that can be done."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.reduce = ops.AllReduce(ops.ReduceOp.SUM)
        self._times_s: list[float] = []
        # a graph from the compiler's cache would call functions of the process that compiled it
        has_cache = os.environ.get("MS_COMPILER_CACHE_ENABLE", "0") not in ("", "0")
        self.is_timed = ms.get_context("device_target") == "CPU" and not has_cache
        if self.is_timed:
            self.stamp = ops.Custom(self._stamp, lambda shape: shape, lambda dtype: dtype, func_type="pyfunc")

    def _stamp(self, values: Any) -> Any:
        self._times_s.append(time.perf_counter())
        return values

    def construct(self, flat: Tensor) -> Tensor:
        """Return the sum over ranks of `flat`, whose last value stands for all of them being there."""
        if self.is_timed:
            flat = ops.depend(flat, self.stamp(flat[-1:]))
        flat = self.reduce(flat)
        if self.is_timed:
            flat = ops.depend(flat, self.stamp(flat[-1:]))
        return flat

    def take(self) -> float | None:
        """Return the seconds of the AllReduce since the last call; none where it is not timed."""
        times, self._times_s = self._times_s, []
        return times[-1] - times[0] if len(times) == 2 else None
