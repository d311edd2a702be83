"""The first layers of FCN-4 in a form that MindSpore's CPU kernels are fast at; same parameters, same numbers but for rounding.

Profiles (docs/log.md) showed that a step spent a third of its time outside the convolutions, nearly all of it in the first
block, whose maps are eight times as large as the second's:

- the gradient of MaxPool repeats the forward pass in oneDNN's reference code; that of MaxPoolWithArgmax does not;
- batch norm reads and writes the whole map in both directions. The maximum and an increasing function commute, so the first
  block pools first and normalizes an eighth. Its statistics need no pass over the map either: a convolution of one channel
  is linear in nine inputs, so their mean and covariance give the mean and variance of all its outputs.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from fcn4dist.config import ModelConfig
from fcn4dist.model.fcn4 import FCN4

AFFINE_EPS = 1e-5


class ArgmaxPool(nn.Cell):
    """Max pooling without overlap or padding; among equals the first wins, as with MaxPool."""

    def __init__(self, sizes: tuple[int, int]) -> None:
        super().__init__()
        self.pool = ops.MaxPoolWithArgmax(sizes, sizes, "valid")

    def construct(self, x: Tensor) -> Tensor:
        """Return (N, C, H // sizes[0], W // sizes[1])."""
        return self.pool(x)[0]


class PatchStatistics(nn.Cell):
    """Mean and covariance of the 3x3 patches that a zero-padded convolution of one channel sees; the input has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        # patches are taken by a convolution, since MindSpore's slices are six times as slow
        self.take_patches = ops.Conv2D(9, 3, pad_mode="valid")
        self.one_each = Tensor(np.eye(9).reshape(9, 1, 3, 3), ms.float32)
        self.times_transposed = ops.BatchMatMul(transpose_b=True)

    def construct(self, mel_db: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean (9, 1) and covariance (9, 9) over all positions of (N, 1, H, W)."""
        num, _, height, width = mel_db.shape
        center = ops.mean(mel_db)  # the two sums below lose nothing to a large common level
        padded = ops.pad(mel_db, (1, 1, 1, 1)) - center
        patches = ops.reshape(self.take_patches(padded, self.one_each), (num, 9, height * width))
        count = num * height * width
        mean = ops.reduce_sum(ops.matmul(patches, ops.ones((num, height * width, 1), ms.float32)), 0) / count
        second = ops.reduce_sum(self.times_transposed(patches, patches), 0) / count
        covariance = second - ops.MatMul(transpose_b=True)(mean, mean)
        mean = mean + center
        return ops.stop_gradient(mean), ops.stop_gradient(covariance)


class FCN4ForCPU(FCN4):
    """FCN-4 with the same parameters and, but for rounding, the same numbers; for training in float32 on CPU."""

    def __init__(self, model: ModelConfig, num_tags: int, n_mels: int | None = None) -> None:
        super().__init__(model, num_tags, n_mels)
        p1, p2, p3 = model.pools
        self.pool1, self.pool2, self.pool3 = ArgmaxPool(p1), ArgmaxPool(p2), ArgmaxPool(p3)
        channels = model.channels[0]
        self.signed_conv = ops.Conv2D(channels, 3, pad_mode="same")
        self.patch_statistics = PatchStatistics()
        # scales and shifts by a batch norm that has nothing to normalize: its gradient is one pass of oneDNN
        self.affine = ops.BatchNorm(is_training=False, epsilon=AFFINE_EPS)
        self.no_mean = Tensor(np.zeros(channels), ms.float32)
        self.no_variance = Tensor(np.full(channels, 1 - AFFINE_EPS), ms.float32)

    def first_block(self, mel_db: Tensor) -> Tensor:
        """Return relu(batch norm(pool(conv))), equal to relu(pool(batch norm(conv))).

        Where gamma is negative, batch norm turns the order around: the sign is turned before the pool and again after it.
        """
        # with a gradient of patch statistics MindSpore 2.10 hangs in the 18th step (docs/log.md)
        if self.has_input_norm:
            return super().first_block(mel_db)
        norm = self.bn1
        ones = ops.ones_like(norm.gamma)
        sign = ops.stop_gradient(ops.select(norm.gamma >= 0, ones, -ones))
        mean, variance = norm.moving_mean, norm.moving_variance
        if norm.training:
            mean, variance = self.batch_statistics(mel_db)
        scale = norm.gamma / ops.sqrt(variance + norm.eps)
        shift = norm.beta - mean * scale
        pooled = self.pool1(self.signed_conv(mel_db, self.conv1.weight * ops.reshape(sign, (-1, 1, 1, 1))))
        return self.relu(self.affine(pooled, scale * sign, shift, self.no_mean, self.no_variance)[0])

    def batch_statistics(self, mel_db: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance (C,) of the first convolution's output and note them in the moving statistics."""
        norm = self.bn1
        patch_mean, patch_covariance = self.patch_statistics(mel_db)
        weight = ops.reshape(self.conv1.weight, (-1, 9))
        mean = ops.reshape(ops.matmul(weight, patch_mean), (-1,))
        variance = ops.reduce_sum(ops.matmul(weight, patch_covariance) * weight, 1)
        fresh = norm.momentum
        unbiased = ops.stop_gradient(variance) * (mel_db.size / (mel_db.size - 1))
        ops.assign(norm.moving_mean, norm.moving_mean * (1.0 - fresh) + ops.stop_gradient(mean) * fresh)
        ops.assign(norm.moving_variance, norm.moving_variance * (1.0 - fresh) + unbiased * fresh)
        return mean, variance


def build_network(model: ModelConfig, num_tags: int, amp: str, n_mels: int | None = None) -> FCN4:
    """Return the network in the form for the selected device; mixed precision knows MindSpore's own layers only."""
    if ms.get_context("device_target") == "CPU" and amp == "O0":
        return FCN4ForCPU(model, num_tags, n_mels)
    return FCN4(model, num_tags, n_mels)
