from __future__ import annotations

from dataclasses import replace

import pytest

from fcn4dist.config import BatchPlan, MelConfig, ModelConfig, TrainConfig
from fcn4dist.model.memory_estimate import count_activations, count_parameters, estimate_memory, format_memory


def test_parameters_are_those_of_fcn4() -> None:
    assert count_parameters(ModelConfig(), 50) == 17_362_610  # model/fcn4.py, counted by MindSpore
    assert count_parameters(ModelConfig(input_norm="batch"), 50, 96) == 17_362_610 + 2 * 96  # likewise


def test_activations_follow_from_the_shapes() -> None:
    """The shapes after every block as model/fcn4.py has them, 96 x 1366 in."""
    before = [128 * 96 * 1366, 384 * 48 * 341, 768 * 12 * 68, 2048 * 4 * 8]
    after = [128 * 48 * 341, 384 * 12 * 68, 768 * 4 * 8, 2048]
    assert count_activations(ModelConfig(), MelConfig()) == 96 * 1366 + 2 * (sum(before) + sum(after))


def test_what_changes_the_estimate() -> None:
    model, mel, train = ModelConfig(), MelConfig(), TrainConfig()
    whole = BatchPlan(64, 2)
    base = estimate_memory(model, mel, train, whole, 50, "Ascend")
    assert base.optimizer_bytes == 2 * 4 * 17_362_610
    halves = estimate_memory(model, mel, train, replace(whole, accumulation=4), 50, "Ascend")
    assert halves.activations_bytes * 4 == pytest.approx(base.activations_bytes)
    assert halves.gradients_bytes > base.gradients_bytes
    assert estimate_memory(model, mel, train, whole, 50, "CPU").activations_bytes < base.activations_bytes
    mixed = estimate_memory(model, mel, TrainConfig(amp="O3"), whole, 50, "Ascend")
    assert mixed.activations_bytes * 2 == pytest.approx(base.activations_bytes)
    assert estimate_memory(model, mel, train, BatchPlan(32, 1), 50, "Ascend").gradients_bytes == 4 * 17_362_610
    sgd = estimate_memory(model, mel, TrainConfig(optimizer="sgd"), whole, 50, "Ascend")
    assert sgd.optimizer_bytes * 2 == base.optimizer_bytes
    average = estimate_memory(model, mel, TrainConfig(ema_decay=0.99), whole, 50, "Ascend")
    assert average.optimizer_bytes * 2 == base.optimizer_bytes * 3
    normed = estimate_memory(ModelConfig(input_norm="batch"), mel, train, whole, 50, "Ascend")
    assert normed.weights_bytes - base.weights_bytes == 4 * (2 + 4) * 96
    assert base.to_json()["total_bytes"] == base.total_bytes
    assert "memory a device: about 12.5 GB" in format_memory(base)
