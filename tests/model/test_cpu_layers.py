"""The other forms of the network against the plain one, made of MindSpore's own layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from fcn4dist.config import ModelConfig

MODEL = ModelConfig(channels=[5, 4, 4, 6], pools=[(2, 4), (2, 3), (2, 2)])


def clips_with_silence() -> np.ndarray:
    """Three clips; the first has a stretch at the floor, where all values of a pool's window are equal."""
    mel_db = np.random.default_rng(0).normal(-30, 10, (3, 1, 24, 90)).astype(np.float32)
    mel_db[0, :, :, 20:60] = -80
    return mel_db


def gradients_of(form: str, *, is_frozen: bool = False, input_norm: str = "none", amp: str = "O0") -> dict[str, Any]:
    """Return loss, gradients and moving statistics after one forward and backward pass; every second gamma is negative."""
    import mindspore as ms
    from mindspore import ops
    from mindspore.amp import auto_mixed_precision

    from fcn4dist.model import cpu_layers

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    model = MODEL.model_copy(update={"input_norm": input_norm})
    network = getattr(cpu_layers, form)(model, 3, *([] if form.startswith("Pooled") else [24]))
    network.set_train(True)
    if is_frozen:
        network.bn1.set_train(False)
    rng = np.random.default_rng(1)
    for parameter in network.get_parameters():
        values = rng.normal(0, 0.3, parameter.shape)
        if parameter.name.endswith("gamma"):
            values = np.resize([0.8, -1.2], parameter.shape)
        elif parameter.name.endswith("variance"):
            values = np.abs(values) + 0.5
        parameter.set_data(ms.Tensor(values, ms.float32))
    labels = ms.Tensor(np.eye(3), ms.float32)
    weights, parameters = network.trainable_params(), list(network.get_parameters())
    mixed = network if amp == "O0" else auto_mixed_precision(network, amp)

    def loss_of(mel_db: Any) -> Any:
        logits = ops.cast(mixed(mel_db), ms.float32)
        return ops.binary_cross_entropy_with_logits(logits, labels, ops.ones_like(labels), ops.ones_like(labels))

    loss, gradients = ms.jit(ops.value_and_grad(loss_of, None, weights))(ms.Tensor(clips_with_silence()))
    found = {weight.name: gradient.asnumpy() for weight, gradient in zip(weights, gradients, strict=True)}
    moving = {p.name: p.asnumpy() for p in parameters if "moving" in p.name}
    return {"loss": loss.asnumpy(), **found, **moving}


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize(
    ("form", "input_norm"),
    [("PooledFCN4ForCPU", "none"), ("PooledFCN4", "none"), ("FCN4ForCPU", "none"), ("FCN4ForCPU", "batch")],
)
def test_every_form_has_the_gradients_and_statistics_of_the_plain_one(
    form: str, input_norm: str, is_frozen: bool
) -> None:
    plain = gradients_of("FCN4", is_frozen=is_frozen, input_norm=input_norm)
    found = gradients_of(form, is_frozen=is_frozen, input_norm=input_norm)
    assert found.keys() == plain.keys()
    for name, values in plain.items():
        # oneDNN's batch norm over a whole map loses up to a percent of a gradient that nearly cancels (docs/lab/log.md)
        tolerance = (0.03 if name in ("bn1.beta", "conv1.weight") else 3e-4) * np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=0, atol=tolerance, err_msg=name)


def test_the_pooled_block_keeps_its_statistics_in_float32_under_o2() -> None:
    """Half precision has 11 bits; statistics from sums in it would be off by far more, or infinite."""
    exact, mixed = gradients_of("FCN4"), gradients_of("PooledFCN4", amp="O2")
    for name in ("loss", "bn1.moving_mean", "bn1.moving_variance"):
        assert mixed[name].dtype == np.float32
        tolerance = 2e-3 * np.abs(exact[name]).max()
        np.testing.assert_allclose(mixed[name], exact[name], rtol=0, atol=tolerance, err_msg=name)
    off = {name: np.abs(mixed[name] - exact[name]).max() / np.abs(exact[name]).max() for name in exact}
    plain = gradients_of("FCN4", amp="O2")
    for name in off:  # no further off than the plain form is in O2
        plain_off = np.abs(plain[name] - exact[name]).max() / np.abs(exact[name]).max()
        assert off[name] <= 2 * plain_off + 2e-2, name


@pytest.mark.parametrize("form", ["SlicedPatches", "ConvolvedPatches"])
def test_patch_statistics_are_those_of_all_zero_padded_patches(form: str) -> None:
    import mindspore as ms

    from fcn4dist.model import cpu_layers, pooled_block

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    mel_db = clips_with_silence()
    take_patches = getattr(cpu_layers if form == "ConvolvedPatches" else pooled_block, form)()
    mean, covariance = (t.asnumpy() for t in pooled_block.PatchStatistics(take_patches)(ms.Tensor(mel_db)))
    padded = np.pad(mel_db[:, 0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    patches = sliding_window_view(padded, (3, 3), (1, 2)).reshape(-1, 9)  # type: ignore[call-overload]
    np.testing.assert_allclose(mean[:, 0], patches.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(patches.T, bias=True), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("first_block", "input_norm", "amp", "form"),
    [
        ("auto", "none", "O0", "PooledFCN4ForCPU"),
        ("auto", "batch", "O0", "FCN4ForCPU"),
        ("auto", "none", "O2", "FCN4"),
        ("plain", "none", "O0", "FCN4ForCPU"),
        ("pooled", "none", "O2", "PooledFCN4"),
    ],
)
def test_the_form_follows_the_config_and_the_precision(first_block: str, input_norm: str, amp: str, form: str) -> None:
    import mindspore as ms

    from fcn4dist.model.cpu_layers import build_network

    ms.set_device("CPU")
    model = MODEL.model_copy(update={"first_block": first_block, "input_norm": input_norm})
    network = build_network(model, 3, amp, 24)
    assert type(network).__name__ == form
    plain = build_network(MODEL.model_copy(update={"first_block": "plain", "input_norm": input_norm}), 3, "O2", 24)
    assert [p.name for p in network.get_parameters()] == [p.name for p in plain.get_parameters()]
