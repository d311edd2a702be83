from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from scipy.signal import correlate2d

from fcn4dist.config import ModelConfig
from fcn4dist.errors import DataError


def plain_forward(
    weights: dict[str, np.ndarray],
    mel_db: np.ndarray,
    pools: list[tuple[int, int]],
    keep: np.ndarray | None = None,
) -> np.ndarray:
    """FCN-4 as the paper has it, in float64 NumPy: convolution, batch norm, ReLU, then pool.

    Where there is a bn0, it normalizes each mel band first; `keep` is dropout's mask.
    """
    clips = []
    for i, clip in enumerate(mel_db.astype(np.float64)):
        maps = clip
        if "bn0.gamma" in weights:
            mean, var, gamma, beta = (
                weights[f"bn0.{name}"][None, :, None] for name in ("moving_mean", "moving_variance", "gamma", "beta")
            )
            maps = (maps - mean) / np.sqrt(var + 1e-5) * gamma + beta
        for layer in range(1, 5):
            kernels = weights[f"conv{layer}.weight"]
            maps = np.array(
                [sum(correlate2d(m, k, "same") for m, k in zip(maps, kernel, strict=True)) for kernel in kernels]
            )
            mean, var, gamma, beta = (
                weights[f"bn{layer}.{name}"][:, None, None]
                for name in ("moving_mean", "moving_variance", "gamma", "beta")
            )
            maps = np.maximum((maps - mean) / np.sqrt(var + 1e-5) * gamma + beta, 0)
            if layer < 4:
                h, w = pools[layer - 1]
                bands, frames = maps.shape[1] // h, maps.shape[2] // w
                maps = maps[:, : bands * h, : frames * w].reshape(-1, bands, h, frames, w).max(axis=(2, 4))
        pooled = maps.max(axis=(1, 2)) * (1 if keep is None else keep[i])
        clips.append(weights["dense.weight"] @ pooled + weights["dense.bias"])
    return np.array(clips)


@pytest.mark.parametrize(
    ("form", "frames", "input_norm"),
    [
        *((form, frames, "none") for form in ("FCN4", "PooledFCN4", "PooledFCN4ForCPU") for frames in (37, 52)),
        *((form, 52, "batch") for form in ("FCN4", "FCN4ForCPU")),
    ],
)
def test_the_network_agrees_with_plain_numpy(frames: int, input_norm: Literal["none", "batch"], form: str) -> None:
    import mindspore as ms

    from fcn4dist.model import cpu_layers

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    pools = [(2, 2), (2, 3), (2, 2)]
    model = ModelConfig(channels=[3, 4, 5, 6], pools=pools, input_norm=input_norm)
    network = getattr(cpu_layers, form)(model, 7, *([24] if input_norm == "batch" else []))
    network.set_train(False)
    rng = np.random.default_rng(0)
    weights = {}
    for parameter in network.get_parameters():
        values = rng.normal(size=parameter.shape) * 0.5
        if parameter.name.endswith("variance"):
            values = np.abs(values) + 0.5
        weights[parameter.name] = values
        parameter.set_data(ms.Tensor(values, ms.float32))
    mel_db = rng.normal(size=(2, 1, 24, frames)).astype(np.float32)
    found = network(ms.Tensor(mel_db)).asnumpy()
    np.testing.assert_allclose(found, plain_forward(weights, mel_db, pools), rtol=1e-4, atol=1e-4)
    keep = (rng.random((2, 6)) < 0.5) * np.float32(2)
    dropped = network(ms.Tensor(mel_db), ms.Tensor(keep)).asnumpy()
    np.testing.assert_allclose(dropped, plain_forward(weights, mel_db, pools, keep), rtol=1e-4, atol=1e-4)
    assert not np.allclose(dropped, found)


def test_full_width_has_the_parameters_of_modelzoo() -> None:
    from fcn4dist.model.fcn4 import FCN4, batch_norms

    network = FCN4(ModelConfig(), num_tags=50)
    convolutions = sum(9 * i * o for i, o in [(1, 128), (128, 384), (384, 768), (768, 2048)])
    scales_and_shifts = 2 * (128 + 384 + 768 + 2048)
    assert (
        sum(p.size for p in network.trainable_params())
        == convolutions + scales_and_shifts + 2048 * 50 + 50
        == 17_362_610
    )
    layers = [f"conv{i}.weight" for i in range(1, 5)] + ["dense.weight", "dense.bias"]
    norms = [f"bn{i}.{n}" for i in range(1, 5) for n in ("moving_mean", "moving_variance", "gamma", "beta")]
    assert {p.name for p in network.get_parameters()} == set(layers + norms)
    with_input_norm = FCN4(ModelConfig(input_norm="batch"), num_tags=50, n_mels=96)
    assert sum(p.size for p in with_input_norm.trainable_params()) == 17_362_610 + 2 * 96
    assert batch_norms(with_input_norm)[0] is with_input_norm.bn0


def test_a_clip_that_does_not_survive_the_pools_is_refused() -> None:
    from fcn4dist.model.fcn4 import check_input

    check_input(ModelConfig(), 96, 160)
    with pytest.raises(DataError, match=r"96 mel bands x 159 frames.*at least 24 x 160"):
        check_input(ModelConfig(), 96, 159)
