"""Layers in a form that MindSpore's CPU kernels are fast at; same parameters, same numbers but for rounding.

Profiles (docs/lab/log.md) showed that a step spent a third of its time outside the convolutions, nearly all of it in the first
block. Pooling before batch norm (model/pooled_block.py) is half of the cure; the other half is here:

- the gradient of MaxPool repeats the forward pass in oneDNN's reference code; that of MaxPoolWithArgmax does not;
- slices are six times as slow as a convolution that copies, and multiply-and-add is slower than a batch norm in float32.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from fcn4dist.config import ModelConfig
from fcn4dist.model.fcn4 import FCN4
from fcn4dist.model.pooled_block import UNIT, PooledFCN4, PooledNorm

AFFINE_EPS = 1e-5


class ArgmaxPool(nn.Cell):
    """Max pooling without overlap or padding; among equals the first wins, as with MaxPool."""

    def __init__(self, sizes: tuple[int, int]) -> None:
        super().__init__()
        self.pool = ops.MaxPoolWithArgmax(sizes, sizes, "valid")

    def construct(self, x: Tensor) -> Tensor:
        """Return (N, C, H // sizes[0], W // sizes[1])."""
        return self.pool(x)[0]


class ConvolvedPatches(nn.Cell):
    """As `pooled_block.SlicedPatches`, by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.take_patches = ops.Conv2D(9, 3, pad_mode="valid")
        self.one_each = Tensor(np.eye(9).reshape(9, 1, 3, 3), ms.float32)

    def construct(self, mel_db: Tensor, center: Tensor) -> Tensor:
        """Return (N, 9, H, W) of (N, 1, H, W)."""
        return self.take_patches((ops.pad(mel_db, (1, 1, 1, 1)) - center) * UNIT, self.one_each)


class NormAsAffine(nn.Cell):
    """Scale and shift by a batch norm that has nothing to normalize: its gradient is one pass of oneDNN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.affine = ops.BatchNorm(is_training=False, epsilon=AFFINE_EPS)
        self.no_mean = Tensor(np.zeros(channels), ms.float32)
        self.no_variance = Tensor(np.full(channels, 1 - AFFINE_EPS), ms.float32)

    def construct(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return (N, C, H, W)."""
        return self.affine(x, scale, shift, self.no_mean, self.no_variance)[0]


class FCN4ForCPU(FCN4):
    """FCN-4 for training in float32 on CPU, with the plain first block."""

    def __init__(self, model: ModelConfig, num_tags: int, n_mels: int | None = None) -> None:
        super().__init__(model, num_tags, n_mels)
        self.pool1, self.pool2, self.pool3 = (ArgmaxPool(sizes) for sizes in model.pools)


class PooledFCN4ForCPU(PooledFCN4):
    """Likewise, with the pooled one."""

    def __init__(self, model: ModelConfig, num_tags: int) -> None:
        channels = model.channels[0]
        super().__init__(model, num_tags, PooledNorm(channels, ConvolvedPatches(), NormAsAffine(channels)))
        self.pool1, self.pool2, self.pool3 = (ArgmaxPool(sizes) for sizes in model.pools)


def build_network(model: ModelConfig, num_tags: int, amp: str, n_mels: int | None = None) -> FCN4:
    """Return the network in the form for the selected device; mixed precision knows MindSpore's own layers only."""
    target = ms.get_context("device_target")
    is_for_cpu = target == "CPU" and amp == "O0"
    if model.pools_first(target, amp):
        return (PooledFCN4ForCPU if is_for_cpu else PooledFCN4)(model, num_tags)
    return (FCN4ForCPU if is_for_cpu else FCN4)(model, num_tags, n_mels)
