"""The step by itself: loss, gradients, unknown labels, overflows and the loss scale. Against NumPy: test_step_recipe.py."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from fcn4dist.config import BatchPlan, ModelConfig, TrainConfig

MODEL = ModelConfig(channels=[3, 4, 5, 6], pools=[(2, 2), (2, 3), (2, 2)])
NUM_TAGS = 5


@cache
def compiled(accumulation: int, window: int, train: tuple[tuple[str, Any], ...]) -> tuple[Any, list[Any]]:
    """Return the step of one form, which takes seconds to compile, and what its parameters hold at first."""
    import mindspore as ms

    from fcn4dist.model.cpu_layers import build_network
    from fcn4dist.train import step as room

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(3)
    settings = dict(train)
    network = build_network(MODEL, NUM_TAGS, settings.get("amp", "O0"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "DYNAMIC_WINDOW", window)
        step = room.TrainStep(network, TrainConfig(**settings), BatchPlan(8, 1, accumulation))
    parameters = [*network.get_parameters(), *step.state, *step._update.kept]
    return step, [(parameter, parameter.asnumpy().copy()) for parameter in parameters]


def build(accumulation: int = 1, *, window: int = 1000, scale: float | None = None, **train: Any) -> Any:
    """Return a step as it is before its first call, with another loss scale where `scale` says so."""
    import mindspore as ms

    step, first = compiled(accumulation, window, tuple(sorted(train.items())))
    for parameter, values in first:
        ms.ops.assign(parameter, ms.Tensor(values))
    if scale is not None:
        ms.ops.assign(step.scaler.scale, ms.Tensor(scale, ms.float32))
    return step


def clips(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mel_db = rng.normal(-40, 15, (8, 1, 24, 30)).astype(np.float32)
    return mel_db, (rng.random((8, NUM_TAGS)) < 0.3).astype(np.int32)


def weights_of(step: Any) -> dict[str, np.ndarray]:
    return {p.name: p.asnumpy().copy() for p in step.network.get_parameters()}


def state_of(step: Any) -> dict[str, np.ndarray]:
    return {p.name: p.asnumpy().copy() for p in step.state}


def test_the_loss_is_the_mean_binary_cross_entropy_and_adam_moves_against_its_gradient() -> None:
    import mindspore as ms

    step = build(freeze_batch_norm=True)
    mel_db, labels = clips()
    logits = step.network(ms.Tensor(mel_db)).asnumpy().astype(np.float64)
    before = weights_of(step)
    result = step(mel_db, labels, 0.01)
    scores = expit(logits)
    expected = -(labels * np.log(scores) + (1 - labels) * np.log(1 - scores)).mean()
    assert result.loss == pytest.approx(expected, rel=1e-5)
    assert not result.is_overflow
    # Adam's first update is the learning rate against the sign of the gradient, which for the last bias is known
    moved = weights_of(step)["dense.bias"] - before["dense.bias"]
    np.testing.assert_allclose(moved, -0.01 * np.sign((scores - labels).mean(axis=0)), rtol=1e-3)


@pytest.mark.parametrize(
    ("accumulation", "amp", "dtype"), [(1, "O0", np.int32), (4, "O0", np.int8), (2, "auto", np.int8)]
)
def test_unknown_labels_are_in_neither_loss_nor_gradients(accumulation: int, amp: str, dtype: type) -> None:
    import mindspore as ms

    form: dict[str, Any] = {} if amp == "O0" else {"amp": amp}
    step = build(accumulation, freeze_batch_norm=True, **form)
    mel_db, labels = clips()
    labels[np.random.default_rng(1).random(labels.shape) < 0.4] = -1
    labels[:, 3], labels[4:6] = -1, -1  # a tag, and all clips of a micro-batch of two
    known = labels >= 0
    logits = build(freeze_batch_norm=True).network(ms.Tensor(mel_db)).asnumpy().astype(np.float64)
    scores = expit(logits)
    entropy = -np.where(labels > 0, np.log(scores), np.log1p(-scores))
    result = step(mel_db, labels.astype(dtype), 0.01)
    tolerance = 1e-5 if amp == "O0" else 1e-2
    assert result.loss == pytest.approx(entropy[known].mean(), rel=tolerance)
    # Adam's first moments are a tenth of the gradients
    gradients = {name: 10 * values for name, values in state_of(step).items() if name.startswith("moment1.")}
    expected = np.where(known, scores - labels, 0).sum(axis=0) / known.sum()
    np.testing.assert_allclose(gradients["moment1.dense.bias"], expected, rtol=tolerance, atol=tolerance)
    assert expected[3] == gradients["moment1.dense.bias"][3] == 0
    assert (gradients["moment1.dense.weight"][3] == 0).all()
    if amp == "O0":  # the whole batch at once gives the same everywhere
        whole = build(freeze_batch_norm=True, scale=1.0)
        whole(mel_db, labels, 0.01)
        for name, values in state_of(whole).items():
            if name.startswith("moment1."):
                np.testing.assert_allclose(gradients[name], 10 * values, rtol=1e-4, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_batch_without_a_known_label_teaches_nothing(accumulation: int) -> None:
    step = build(accumulation, freeze_batch_norm=True)
    before = weights_of(step)
    mel_db, labels = clips()
    result = step(mel_db, np.full_like(labels, -1), 0.01)
    assert (result.loss, result.is_overflow) == (0.0, False)
    for name, values in before.items():
        np.testing.assert_array_equal(weights_of(step)[name], values, err_msg=name)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_each_step_takes_its_own_learning_rate(accumulation: int) -> None:
    step = build(accumulation)
    mel_db, labels = clips()
    for rate in (0.01, 0.001, 0.0, 0.01):  # on the same clips, Adam's normalised step is near the rate itself
        before = weights_of(step)["dense.bias"]
        step(mel_db, labels, rate)
        moved = np.abs(weights_of(step)["dense.bias"] - before).max()
        assert moved == pytest.approx(rate, rel=0.1)


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    whole, parts = build(freeze_batch_norm=True), build(4, freeze_batch_norm=True)
    for seed in range(3):
        first, second = whole(*clips(seed), 0.001), parts(*clips(seed), 0.001)
        assert second.loss == pytest.approx(first.loss, rel=1e-5)
    for name, values in weights_of(whole).items():
        np.testing.assert_allclose(weights_of(parts)[name], values, rtol=1e-4, atol=2e-5, err_msg=name)


def test_a_power_of_two_as_loss_scale_changes_no_bit() -> None:
    def after_three_steps(scale: float) -> dict[str, np.ndarray]:
        step = build(scale=scale)
        assert {step(*clips(seed), 0.001).loss_scale for seed in range(3)} == {scale}
        return weights_of(step)

    plain, scaled = after_three_steps(1.0), after_three_steps(1024.0)
    for name, values in plain.items():
        np.testing.assert_array_equal(scaled[name], values, err_msg=name)


@pytest.mark.parametrize(("amp", "accumulation"), [("O0", 1), ("O2", 1), ("O3", 2), ("auto", 1)])
def test_an_overflow_changes_nothing_but_the_dynamic_scale(amp: str, accumulation: int) -> None:
    form: dict[str, Any] = {} if amp == "O0" else {"amp": amp}
    step = build(accumulation, loss_scale="dynamic", **form)
    mel_db, labels = clips()
    step(mel_db, labels, 0.001)
    weights, state = weights_of(step), state_of(step)
    broken = mel_db.copy()
    broken[0, 0, 3, 3] = np.inf
    result = step(broken, labels, 0.001)
    assert result.is_overflow
    for name, values in weights.items():
        np.testing.assert_array_equal(weights_of(step)[name], values, err_msg=name)
    after = state_of(step)
    changed = {name for name in state if not np.array_equal(after[name], state[name])}
    assert changed == {"loss_scale", "loss_scale_counter"}
    assert after["loss_scale"] == state["loss_scale"] / 2
    assert after["loss_scale_counter"] == 0
    assert not step(mel_db, labels, 0.001).is_overflow


def test_a_fixed_scale_stays_and_an_overflow_is_skipped() -> None:
    step = build(scale=3e38)
    before = weights_of(step)
    result = step(*clips(), 0.001)
    assert result.is_overflow
    assert result.loss_scale == pytest.approx(3e38)
    for name, values in before.items():
        np.testing.assert_array_equal(weights_of(step)[name], values, err_msg=name)


def test_the_dynamic_scale_grows_after_its_window() -> None:
    step = build(window=3, loss_scale="dynamic")
    scales = [step(*clips(), 0.001).loss_scale for _ in range(7)]
    assert scales == [2.0**16] * 3 + [2.0**17] * 3 + [2.0**18]


def test_frozen_statistics_stay() -> None:
    step = build(freeze_batch_norm=True)
    step(*clips(), 0.01)
    np.testing.assert_array_equal(weights_of(step)["bn2.moving_mean"], np.zeros(4))


@pytest.mark.parametrize(("amp", "accumulation"), [("O2", 1), ("O3", 2)])
def test_mixed_precision_learns_and_keeps_float32_weights(amp: str, accumulation: int) -> None:
    step = build(accumulation, amp=amp, loss_scale="dynamic")
    losses = [step(*clips(), 0.01).loss for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    assert {values.dtype for values in weights_of(step).values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_wish_to_stop_comes_back_and_changes_no_number(accumulation: int) -> None:
    def after_three_steps(wishes: tuple[bool, ...]) -> dict[str, np.ndarray]:
        step = build(accumulation)
        results = [step(*clips(seed), 0.001, wants_stop=wish) for seed, wish in enumerate(wishes)]
        assert tuple(result.is_stop for result in results) == wishes
        return weights_of(step)

    plain, asked = after_three_steps((False, False, False)), after_three_steps((True, True, False))
    for name, values in plain.items():
        np.testing.assert_array_equal(asked[name], values, err_msg=name)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_gradient_whose_square_is_not_finite_is_an_overflow(accumulation: int) -> None:
    import mindspore as ms

    step = build(accumulation)
    ms.ops.assign(step.network.bn4.beta, ms.Tensor(np.full(6, 1e21), ms.float32))
    before = weights_of(step)
    result = step(*clips(0), 0.01)
    assert np.isfinite(result.loss)
    assert result.is_overflow
    for name, value in weights_of(step).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@pytest.mark.parametrize("start", [2.0**63, np.inf])
def test_the_dynamic_scale_stays_finite(start: float) -> None:
    step = build(window=3, loss_scale="dynamic", scale=start)
    results = [step(*clips(i), 0.001) for i in range(10)][3:]  # at most three until it is grown or halved
    assert [result.loss_scale for result in results] == [2.0**64] * 7
    assert not any(result.is_overflow for result in results)


def test_the_dynamic_scale_is_at_least_one() -> None:
    step = build(loss_scale="dynamic", scale=1.5)
    mel_db, labels = clips(0)
    mel_db[0, 0, 3, 3] = np.nan
    for _ in range(3):
        assert step(mel_db, labels, 0.001).is_overflow
    assert step.scaler.scale.asnumpy() == 1.0
