from __future__ import annotations

import pytest

from fcn4dist.config import TrainConfig
from fcn4dist.train.schedule import learning_rate


def test_constant() -> None:
    assert {learning_rate(TrainConfig(lr=0.1), step, 100) for step in range(100)} == {0.1}


def test_warmup_is_linear_and_ends_at_the_full_rate() -> None:
    train = TrainConfig(lr=0.1, warmup_steps=4)
    assert [learning_rate(train, step, 100) for step in range(5)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


def test_cosine_falls_from_the_full_rate_through_half_to_nothing() -> None:
    train = TrainConfig(lr=0.2, schedule="cosine", warmup_steps=10)
    assert learning_rate(train, 10, 110) == pytest.approx(0.2)
    assert learning_rate(train, 60, 110) == pytest.approx(0.1)
    assert learning_rate(train, 110, 110) == pytest.approx(0.0)
    assert learning_rate(train, 35, 110) == pytest.approx(0.2 * (2 + 2**0.5) / 4)
