"""FCN-4, the tagger of Choi, Fazekas and Sandler (ISMIR 2016, https://arxiv.org/abs/1606.00298).

Names and sizes are those of MindSpore ModelZoo's `MusicTaggerCNN` (conv1..4 without bias, bn1..4, dense), so its checkpoints
load. Two deviations change no number: ReLU comes after the pool (maximum and ReLU commute; a fifth less memory), and the
sigmoid is left to whoever wants scores, since the loss is steadier on logits.

Two parts are there where the config asks for them. `model.input_norm: batch` is a batch norm before everything
else, a scale and a shift a mel band. The networks that Choi published later have one in the same place, by their name for
frequencies too ("bn_0_freq" in keunwoochoi/music-auto_tagging-keras), but on the axis of time: a scale and a shift a frame, so
their weights do not fit here. `model.dropout` drops
values before the last layer, as the FCN of minzwon/sota-music-tagging-models does; what is dropped comes in as a mask
(data/augment.py), so that it depends on the clip and not on the device, the rank or the steps before.
"""

from __future__ import annotations

from math import prod

from mindspore import Tensor, nn, ops

from fcn4dist.config import ModelConfig
from fcn4dist.errors import DataError


class FCN4(nn.Cell):
    """Map log-mel clips to one logit a tag.

    Input: float (N, 1, n_mels, frames); any number of frames that survives the pools, and with an input norm its own number of
    bands, else any. Output: float (N, num_tags). 17,362,610 trainable parameters for the default channels and 50 tags, and two a
    mel band of the input norm. The shapes on the right are for 96 x 1366.
    """

    def __init__(self, model: ModelConfig, num_tags: int, n_mels: int | None = None) -> None:
        """Build the network; `n_mels` is needed with model.input_norm alone."""
        super().__init__()
        self.has_input_norm = model.input_norm == "batch"
        if self.has_input_norm:
            assert n_mels is not None, "an input norm has a scale and a shift for each of so many mel bands"
            self.bn0 = nn.BatchNorm2d(n_mels)
        c1, c2, c3, c4 = model.channels
        p1, p2, p3 = model.pools
        self.conv1 = nn.Conv2d(1, c1, 3)  # 3x3, zero padded to the same size, no bias: batch norm has one
        self.conv2 = nn.Conv2d(c1, c2, 3)
        self.conv3 = nn.Conv2d(c2, c3, 3)
        self.conv4 = nn.Conv2d(c3, c4, 3)
        self.bn1 = nn.BatchNorm2d(c1)
        self.bn2 = nn.BatchNorm2d(c2)
        self.bn3 = nn.BatchNorm2d(c3)
        self.bn4 = nn.BatchNorm2d(c4)
        self.pool1 = nn.MaxPool2d(p1, p1)
        self.pool2 = nn.MaxPool2d(p2, p2)
        self.pool3 = nn.MaxPool2d(p3, p3)
        self.global_pool = ops.ReduceMax()
        self.relu = nn.ReLU()
        self.dense = nn.Dense(c4, num_tags)

    def construct(self, mel_db: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the logits; `keep` (N, 2048) is dropout's mask: what the values before the last layer are multiplied by."""
        if self.has_input_norm:
            mel_db = self.normalized(mel_db)
        x = self.first_block(mel_db)  # (N, 128, 48, 341)
        x = self.relu(self.pool2(self.bn2(self.conv2(x))))  # (N, 384, 12, 68)
        x = self.relu(self.pool3(self.bn3(self.conv3(x))))  # (N, 768, 4, 8)
        x = self.relu(self.global_pool(self.bn4(self.conv4(x)), (2, 3)))  # (N, 2048)
        if keep is not None:
            x = x * keep
        return self.dense(x)  # (N, num_tags)

    def normalized(self, mel_db: Tensor) -> Tensor:
        """Return the input (N, 1, n_mels, frames) with mean and variance of each mel band by the input norm."""
        bands = self.bn0(ops.transpose(mel_db, (0, 2, 1, 3)))  # (N, 96, 1, 1366)
        return ops.transpose(bands, (0, 2, 1, 3))

    def first_block(self, mel_db: Tensor) -> Tensor:
        """Return the first map; `FCN4ForCPU` makes it in another way."""
        return self.relu(self.pool1(self.bn1(self.conv1(mel_db))))


def batch_norms(network: FCN4) -> list[nn.BatchNorm2d]:
    """Return the batch norms in the order of the layers, the input norm first where there is one."""
    first = [network.bn0] if network.has_input_norm else []
    return [*first, network.bn1, network.bn2, network.bn3, network.bn4]


def check_input(model: ModelConfig, n_mels: int, num_frames: int) -> None:
    """Raise DataError when clips of `n_mels` x `num_frames` do not survive the pools."""
    bands, frames = (prod(sizes) for sizes in zip(*model.pools, strict=True))
    if n_mels < bands or num_frames < frames:
        raise DataError(
            f"clips of {n_mels} mel bands x {num_frames} frames are too small for model.pools "
            f"{[list(pool) for pool in model.pools]}, which need at least {bands} x {frames}"
        )
