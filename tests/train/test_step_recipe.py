"""What a recipe switches on, against the same in NumPy and float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy_step import NumpyStep

from fcn4dist.config import BatchPlan, ModelConfig, TrainConfig
from fcn4dist.data.augment import dropout_masks

POOLS = [(2, 2), (2, 3), (2, 2)]
MODEL = ModelConfig(channels=[3, 4, 5, 6], pools=POOLS)
NUM_TAGS, GLOBAL_BATCH = 5, 8


def build(accumulation: int = 1, **train: Any) -> Any:
    import mindspore as ms

    from fcn4dist.model.cpu_layers import build_network
    from fcn4dist.train.step import TrainStep

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(3)
    network = build_network(MODEL, NUM_TAGS, train.get("amp", "O0"))
    return TrainStep(network, TrainConfig(**train), BatchPlan(GLOBAL_BATCH, 1, accumulation))


def clips(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mel_db = rng.normal(-40, 15, (GLOBAL_BATCH, 1, 24, 30)).astype(np.float32)
    return mel_db, (rng.random((GLOBAL_BATCH, NUM_TAGS)) < 0.3).astype(np.int32)


def values_of(parameters: Any) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy().copy() for parameter in parameters}


@pytest.mark.parametrize(
    ("accumulation", "train", "dropout"),
    [
        (1, {"optimizer": "adam", "weight_decay": 0.1, "clip_norm": 0.05}, 0.0),
        (2, {"optimizer": "adamw", "weight_decay": 2.0, "ema_decay": 0.5}, 0.0),
        (
            4,
            {"optimizer": "sgd", "weight_decay": 0.01, "clip_norm": 0.3, "ema_decay": 0.9, "loss_scale": "dynamic"},
            0.5,
        ),
    ],
)
def test_optimizers_decay_clipping_average_and_dropout_are_those_of_numpy(
    accumulation: int, train: dict[str, Any], dropout: float
) -> None:
    step = build(accumulation, **train)
    start = values_of(step.network.get_parameters())
    names = {"optimizer": "optimizer", "decay": "weight_decay", "clip_norm": "clip_norm", "ema_decay": "ema_decay"}
    chosen = {name: train[key] for name, key in names.items() if key in train}
    oracle = NumpyStep(start, POOLS, GLOBAL_BATCH // accumulation, **chosen)
    for i in range(6):
        keep = dropout_masks(np.arange(8 * i, 8 * i + 8), 6, dropout, seed=1, epoch=0) if dropout else None
        rate = 0.01 / (i + 1)
        expected = oracle(*clips(i), rate, keep)
        result = step(*clips(i), rate, keep=keep)
        assert result.loss == pytest.approx(expected, rel=1e-5)
    for name, value in values_of(step.network.get_parameters()).items():
        scale = np.abs(oracle.weights[name]).max()
        np.testing.assert_allclose(value, oracle.weights[name], rtol=0, atol=1e-4 * scale, err_msg=name)
    averages = {name.removeprefix("ema."): value for name, value in values_of(step.weights).items() if "ema." in name}
    assert len(averages) == (14 if "ema_decay" in train else 0)  # not of the statistics
    for name, value in averages.items():
        scale = np.abs(oracle.averages[name]).max()
        np.testing.assert_allclose(value, oracle.averages[name], rtol=0, atol=1e-4 * scale, err_msg=name)


def test_an_overflow_leaves_average_and_moments_alone() -> None:
    step = build(optimizer="sgd", weight_decay=0.01, ema_decay=0.9, clip_norm=1.0)
    step(*clips(0), 0.01)
    before = values_of([*step.weights, *step.state])
    mel_db, labels = clips(1)
    mel_db[2, 0, 3, 3] = np.inf
    assert step(mel_db, labels, 0.01).is_overflow
    for name, value in values_of([*step.weights, *step.state]).items():
        if name != "learning_rate":
            np.testing.assert_array_equal(value, before[name], err_msg=name)
