"""What ranks tell each other beside the gradients; without a job around it, a process is its own only peer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from numpy.typing import NDArray

from fcn4dist.job.rank import Rank


class _FromChief(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.broadcast = ops.Broadcast(0)

    def construct(self, flat: Tensor) -> Tensor:
        return self.broadcast((flat,))[0]


class _FromAll(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.gather = ops.AllGather()

    def construct(self, part: Tensor) -> Tensor:
        return self.gather(part)


@cache  # a new cell is compiled anew; one that is kept, only where a shape is new
def _from_chief() -> nn.Cell:
    return _FromChief()


@cache
def _from_all() -> nn.Cell:
    return _FromAll()


WORD_BITS = 20  # of a whole number that travels in float32 words, which are exact up to 2**24
NUM_WORDS = 3


def broadcast_state(parameters: Sequence[Parameter], numbers: Sequence[int], rank: Rank) -> list[int]:
    """Give every rank the chief's values of `parameters`, and return the chief's `numbers` (0 to 2**60 - 1); one collective.

    Integer parameters travel as float32, which is exact up to 2**24: step counters and the scaler's window stay below that.
    """
    if rank.world_size == 1:
        return list(numbers)
    arrays = [parameter.asnumpy() for parameter in parameters]
    words = [(number >> WORD_BITS * i) % (1 << WORD_BITS) for number in numbers for i in range(NUM_WORDS)]
    flat = np.concatenate([*(array.astype(np.float32).ravel() for array in arrays), np.array(words, np.float32)])
    received = _from_chief()(Tensor(flat)).asnumpy()
    start = 0
    for parameter, array in zip(parameters, arrays, strict=True):
        values = received[start : start + array.size].reshape(array.shape).astype(array.dtype)
        parameter.set_data(Tensor(values, parameter.dtype))
        start += array.size
    rows = received[start:].astype(np.int64).reshape(len(numbers), NUM_WORDS)
    return [sum(int(word) << WORD_BITS * i for i, word in enumerate(row)) for row in rows]


def gather_rows(part: NDArray[Any], num_rows: int, rank: Rank) -> NDArray[np.float32]:
    """Collect the float rows that ranks hold of `evaluation_part`s, as (num_rows, columns) on every rank.

    Row i of rank r is row i * world_size + r of the whole.
    """
    if rank.world_size == 1:
        return part.astype(np.float32)
    most = -(-num_rows // rank.world_size)
    padded = np.zeros((most, part.shape[1]), np.float32)
    padded[: len(part)] = part
    gathered = _from_all()(Tensor(padded, ms.float32)).asnumpy()  # (world_size * most, columns), rank after rank
    interleaved = gathered.reshape(rank.world_size, most, -1).swapaxes(0, 1).reshape(-1, part.shape[1])
    return np.ascontiguousarray(interleaved[:num_rows])


def meet(rank: Rank) -> None:
    """Return when every rank has come here; each then knows that all of them have done what stands above this call."""
    gather_rows(np.zeros((1, 1), np.float32), rank.world_size, rank)
