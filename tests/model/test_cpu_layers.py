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


def gradients_of(form: str, *, is_frozen: bool = False, input_norm: str = "none") -> dict[str, np.ndarray]:
    """Return loss, gradients and moving statistics after one forward and backward pass; every second gamma is negative."""
    import mindspore as ms
    from mindspore import ops

    from fcn4dist.model import cpu_layers

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    model = MODEL.model_copy(update={"input_norm": input_norm})
    network = getattr(cpu_layers, form)(model, 3, 24)
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

    def loss_of(mel_db: Any) -> Any:
        return ops.binary_cross_entropy_with_logits(
            network(mel_db), labels, ops.ones_like(labels), ops.ones_like(labels)
        )

    weights = network.trainable_params()
    loss, gradients = ms.jit(ops.value_and_grad(loss_of, None, weights))(ms.Tensor(clips_with_silence()))
    found = {weight.name: gradient.asnumpy() for weight, gradient in zip(weights, gradients, strict=True)}
    moving = {p.name: p.asnumpy() for p in network.get_parameters() if "moving" in p.name}
    return {"loss": loss.asnumpy(), **found, **moving}


@pytest.mark.parametrize("input_norm", ["none", "batch"])
@pytest.mark.parametrize("is_frozen", [False, True])
def test_the_form_for_cpu_has_the_gradients_and_statistics_of_the_plain_one(is_frozen: bool, input_norm: str) -> None:
    plain = gradients_of("FCN4", is_frozen=is_frozen, input_norm=input_norm)
    found = gradients_of("FCN4ForCPU", is_frozen=is_frozen, input_norm=input_norm)
    assert found.keys() == plain.keys()
    for name, values in plain.items():
        # oneDNN's batch norm over a whole map loses up to a percent of a gradient that nearly cancels (docs/log.md)
        tolerance = (0.03 if name in ("bn1.beta", "conv1.weight") else 3e-4) * np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=0, atol=tolerance, err_msg=name)


def test_patch_statistics_are_those_of_all_zero_padded_patches() -> None:
    import mindspore as ms

    from fcn4dist.model.cpu_layers import PatchStatistics

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    mel_db = clips_with_silence()
    mean, covariance = (t.asnumpy() for t in PatchStatistics()(ms.Tensor(mel_db)))
    padded = np.pad(mel_db[:, 0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    patches = sliding_window_view(padded, (3, 3), (1, 2)).reshape(-1, 9)
    np.testing.assert_allclose(mean[:, 0], patches.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(patches.T, bias=True), rtol=1e-4, atol=1e-2)


def test_mixed_precision_takes_the_plain_form() -> None:
    import mindspore as ms

    from fcn4dist.model.cpu_layers import FCN4ForCPU, build_network

    ms.set_device("CPU")
    assert type(build_network(MODEL, 3, "O0")) is FCN4ForCPU
    assert type(build_network(MODEL, 3, "O2")) is not FCN4ForCPU
