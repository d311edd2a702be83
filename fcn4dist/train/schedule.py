"""The learning rate of every step: a pure function, so a resumed run needs nothing but its step number."""

from __future__ import annotations

import math

from fcn4dist.config import TrainConfig


def learning_rate(train: TrainConfig, step: int, num_steps: int) -> float:
    """Return the learning rate of `step` (0-based) in a run of `num_steps`.

    Warm-up is linear: step i of w has (i + 1) / w of the full rate. Cosine falls from the full rate after the warm-up to 0 at
    `num_steps` (Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, without restarts).
    """
    if step < train.warmup_steps:
        return train.lr * (step + 1) / train.warmup_steps
    if train.schedule == "constant":
        return train.lr
    progress = (step - train.warmup_steps) / max(1, num_steps - train.warmup_steps)
    return train.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
