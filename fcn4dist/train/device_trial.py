"""What a training step needs of a device, each once and checked: a collective, a convolution, and the question for overflows."""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, amp, nn, ops

from fcn4dist.errors import JobError
from fcn4dist.job.rank import Rank

REDUCED = 1 << 20  # float32 values, 4 MB


class _Reduce(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.reduce = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, part: Tensor) -> Tensor:
        return self.reduce(part)


class _Convolve(nn.Cell):
    def construct(self, image: Tensor, kernel: Tensor) -> Tensor:
        return ops.conv2d(image, kernel)


class _IsFinite(nn.Cell):
    def construct(self, values: Tensor) -> Tensor:
        return amp.all_finite((values,))


def try_operations(rank: Rank, note: Callable[[str], None]) -> None:
    """Do each operation as a compiled graph; `note(name)` is called before each, the first of a kind compiles.

    Raises JobError when a result is wrong.
    """
    note("allreduce")
    reduce, part = _Reduce(), Tensor(np.full(REDUCED, rank.index + 1, np.float32))
    expected = rank.world_size * (rank.world_size + 1) / 2
    _check("allreduce", reduce(part), expected)
    note("allreduce again")
    _check("allreduce", reduce(part), expected)
    note("convolution")
    image, kernel = np.ones((2, 3, 16, 16), np.float32), np.ones((4, 3, 3, 3), np.float32)
    _check("convolution", _Convolve()(Tensor(image), Tensor(kernel)), 27.0)  # a sum of 3 x 3 x 3 ones
    note("all_finite")
    _check("all_finite", ops.cast(_IsFinite()(Tensor(image)), ms.float32), 1.0)


def _check(name: str, found: Tensor, expected: float) -> None:
    """Raise JobError unless all of `found` is `expected`; small whole numbers are exact in every precision."""
    values = found.asnumpy()
    if not (values == expected).all():
        raise JobError(f"{name}: {values.min()} to {values.max()}; expected {expected:g} everywhere")
