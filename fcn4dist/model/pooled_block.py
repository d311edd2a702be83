"""FCN-4 whose first block pools before it normalizes; same parameters and, but for rounding, the same numbers.

The first block's maps are eight times as large as the second's, and batch norm reads and writes them whole in both directions.
The maximum and an increasing function commute, so an eighth is left to normalize when the pool comes first. The statistics need
no pass over the map either: a convolution of one channel is linear in nine inputs, so their mean and covariance give the mean
and variance of all its outputs.

Everything here but the layers of `model/cpu_layers.py` is made of operators that the Ascend back end has: slices, concat, batched
matrix product, sums, max pool, multiply and add. It was compiled for Ascend and never run there.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from fcn4dist.config import ModelConfig
from fcn4dist.model.fcn4 import FCN4

# what patches are multiplied by: so the sums of their products stay within float16, in which the 910A multiplies matrices; a
# power of two, so that nothing changes in float32
UNIT = 2.0**-9


class SlicedPatches(nn.Cell):
    """The 3x3 patches that a zero-padded convolution of one channel sees, minus `center`, in units; exact on every device."""

    def construct(self, mel_db: Tensor, center: Tensor) -> Tensor:
        """Return (N, 9, H, W) of (N, 1, H, W)."""
        num, _, height, width = mel_db.shape
        beside = ops.zeros((num, 1, height, 1), ms.float32)
        above = ops.zeros((num, 1, 1, width + 2), ms.float32)
        padded = ops.concat((above, ops.concat((beside, mel_db, beside), 3), above), 2)
        padded = (padded - center) * UNIT
        patches: tuple[Tensor, ...] = ()
        for row in range(3):
            for column in range(3):
                patches = (*patches, padded[:, :, row : row + height, column : column + width])
        return ops.concat(patches, 1)


class ScaleAndShift(nn.Cell):
    """Multiply and add, a number a channel."""

    def construct(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return (N, C, H, W)."""
        return x * ops.reshape(scale, (1, -1, 1, 1)) + ops.reshape(shift, (1, -1, 1, 1))


class PatchStatistics(nn.Cell):
    """Mean and covariance of the patches; the input has no gradient, so they have none."""

    def __init__(self, take_patches: nn.Cell) -> None:
        super().__init__()
        self.take_patches = take_patches
        # primitives: ops.matmul becomes MatMulExt, of which no adapter to GE (910A) was found
        self.times, self.times_transposed = ops.BatchMatMul(), ops.BatchMatMul(transpose_b=True)

    def construct(self, mel_db: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean (9, 1) and covariance (9, 9) over all positions of (N, 1, H, W)."""
        num, _, height, width = mel_db.shape
        center = ops.mean(mel_db)  # the two sums below lose nothing to a large common level
        patches = ops.reshape(self.take_patches(mel_db, center), (num, 9, height * width))
        count = num * height * width
        mean = ops.reduce_sum(self.times(patches, ops.ones((num, height * width, 1), ms.float32)), 0) / count / UNIT
        second = ops.reduce_sum(self.times_transposed(patches, patches), 0) / count / (UNIT * UNIT)
        covariance = second - ops.MatMul(transpose_b=True)(mean, mean)
        mean = mean + center
        return ops.stop_gradient(mean), ops.stop_gradient(covariance)


class PooledNorm(nn.BatchNorm2d):
    """The first block's batch norm, after the pool. As a BatchNorm2d it keeps float32 in O2, by MindSpore's own list."""

    def __init__(self, channels: int, take_patches: nn.Cell, affine: nn.Cell) -> None:
        super().__init__(channels)
        self.patch_statistics = PatchStatistics(take_patches)
        self.scale_and_shift = affine
        self.times = ops.MatMul()

    def construct(self, pooled: Tensor, sign: Tensor, mel_db: Tensor, weight: Tensor) -> Tensor:
        """Normalize `pooled`, the maxima of the map of `mel_db` by `weight` times `sign`, (C,)."""
        mean, variance = self.moving_mean, self.moving_variance
        if self.training:
            mean, variance = self.batch_statistics(mel_db, weight)
        scale = self.gamma / ops.sqrt(variance + self.eps)
        shift = self.beta - mean * scale
        return self.scale_and_shift(pooled, scale * sign, shift)

    def batch_statistics(self, mel_db: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance (C,) of the first convolution's output and note them in the moving statistics."""
        patch_mean, patch_covariance = self.patch_statistics(mel_db)
        weight = ops.reshape(weight, (-1, 9))
        mean = ops.reshape(self.times(weight, patch_mean), (-1,))
        variance = ops.reduce_sum(self.times(weight, patch_covariance) * weight, 1)
        fresh = self.momentum
        unbiased = ops.stop_gradient(variance) * (mel_db.size / (mel_db.size - 1))
        ops.assign(self.moving_mean, self.moving_mean * (1.0 - fresh) + ops.stop_gradient(mean) * fresh)
        ops.assign(self.moving_variance, self.moving_variance * (1.0 - fresh) + unbiased * fresh)
        return mean, variance


class PooledFCN4(FCN4):
    """FCN-4 with the pooled first block, in float32 or O2; without an input norm."""

    def __init__(self, model: ModelConfig, num_tags: int, norm: PooledNorm | None = None) -> None:
        """Build the network; `norm` is the first block's, in another form than the one for every device."""
        super().__init__(model, num_tags)
        self.bn1 = norm or PooledNorm(model.channels[0], SlicedPatches(), ScaleAndShift())
        # O2 puts bn1 into a cell that does not show its parameters; in a list gamma keeps its name
        self.gammas = [self.bn1.gamma]
        self.signed_conv = ops.Conv2D(model.channels[0], 3, pad_mode="same")

    def first_block(self, mel_db: Tensor) -> Tensor:
        """Return relu(batch norm(pool(conv))), equal to relu(pool(batch norm(conv))).

        Where gamma is negative, batch norm turns the order around: the sign is turned before the pool and again after it.
        """
        gamma, weight = self.gammas[0], ops.cast(self.conv1.weight, mel_db.dtype)
        ones = ops.ones_like(gamma)
        sign = ops.stop_gradient(ops.select(gamma >= 0, ones, -ones))
        pooled = self.pool1(self.signed_conv(mel_db, weight * ops.cast(ops.reshape(sign, (-1, 1, 1, 1)), weight.dtype)))
        return self.relu(self.bn1(pooled, sign, mel_db, weight))
