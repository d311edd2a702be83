"""A network with an input norm leaves under PyTorch's names and scores alike in every format, also in plain NumPy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcn4dist.config import MelConfig, ModelConfig, load_config
from fcn4dist.errors import CheckpointError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export-and-tag.md"
POOLS = [(2, 2), (2, 2), (2, 2)]
MEL = MelConfig(sample_rate_hz=8000, n_mels=24, clip_s=2.0)
MODEL = ModelConfig(channels=[4, 4, 6, 8], pools=POOLS, input_norm="batch")


@pytest.fixture(scope="module")
def network() -> Any:
    import mindspore as ms

    from fcn4dist.model.fcn4 import FCN4

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    network = FCN4(MODEL, 3, MEL.n_mels)
    rng = np.random.default_rng(3)
    for parameter in network.get_parameters():
        values = rng.normal(0, 0.4, parameter.shape)
        values = np.abs(values) + 0.5 if parameter.name.endswith("variance") else values
        if parameter.name == "bn0.moving_mean":  # of decibels
            values = rng.normal(-30, 5, parameter.shape)
        parameter.set_data(ms.Tensor(values, ms.float32))
    network.set_train(False)
    return network


def clips(batch: int, frames: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(-30, 2, (batch, 1, MEL.n_mels, frames)).astype(np.float32)


def test_every_format_scores_as_the_network_does(network: Any, tmp_path: Path) -> None:
    import mindspore as ms
    import onnxruntime
    from scipy.special import expit

    from fcn4dist.export.graphs import write_mindir, write_onnx
    from fcn4dist.export.weights import load_safetensors, write_safetensors
    from fcn4dist.model.fcn4 import FCN4

    write_onnx(network, MEL, tmp_path / "m.onnx")
    write_mindir(network, MEL, tmp_path / "m.mindir")
    write_safetensors(network, tmp_path / "m.safetensors")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    graph = ms.nn.GraphCell(ms.load(str(tmp_path / "m.mindir")))
    again = FCN4(MODEL, 3, MEL.n_mels)
    load_safetensors(tmp_path / "m.safetensors", again)
    again.set_train(False)
    for batch, frames in ((1, MEL.num_frames), (3, 40)):
        mel_db = clips(batch, frames)
        expected = expit(network(ms.Tensor(mel_db)).asnumpy())
        assert expected.std() > 0.01
        np.testing.assert_allclose(session.run(["scores"], {"mel_db": mel_db})[0], expected, atol=1e-5)
        np.testing.assert_allclose(graph(ms.Tensor(mel_db)).asnumpy(), expected, atol=1e-5)
        np.testing.assert_allclose(expit(again(ms.Tensor(mel_db)).asnumpy()), expected, atol=1e-6)


def test_the_module_of_the_docs_loads_and_scores_both(network: Any, tmp_path: Path) -> None:
    """With an input norm and without."""
    torch = pytest.importorskip("torch", reason="torch is not installed (the extra bench)")
    import mindspore as ms
    from safetensors.torch import load_file
    from scipy.special import expit

    from fcn4dist.export.weights import write_safetensors
    from fcn4dist.model.fcn4 import FCN4

    (code,) = re.findall(r"```python\n(class FCN4.*?)```", DOCS.read_text(), re.DOTALL)
    names: dict[str, Any] = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    exec(code, names)
    plain = FCN4(ModelConfig(channels=MODEL.channels, pools=POOLS), 3, MEL.n_mels)
    plain.set_train(False)
    for ours, bands in ((network, {"input_bands": MEL.n_mels}), (plain, {})):
        module = names["FCN4"](3, MODEL.channels, MODEL.pools, **bands)
        write_safetensors(ours, tmp_path / "m.safetensors")
        module.load_state_dict(load_file(tmp_path / "m.safetensors"))
        module.eval()
        with torch.no_grad():
            scores = module(torch.from_numpy(clips(3, 40))).numpy()
        np.testing.assert_allclose(scores, expit(ours(ms.Tensor(clips(3, 40))).asnumpy()), atol=1e-5)


def test_a_file_of_weights_with_an_input_norm_is_opened_as_such(network: Any, tmp_path: Path) -> None:
    import mindspore as ms

    from fcn4dist.model.trained import open_model

    file = tmp_path / "w.ckpt"
    ms.save_checkpoint(network, str(file))
    shape = ["model.pools=[[2, 2], [2, 2], [2, 2]]", "mel.n_mels=24", "mel.sample_rate_hz=8000", "mel.clip_s=2"]
    model = open_model(file, load_config(None, [*shape, "data.tags=[a, b, c]"]))
    assert model.card.model.input_norm == "batch"
    found = model.build_network().set_train(False)
    np.testing.assert_array_equal(found(ms.Tensor(clips(1, 40))).asnumpy(), network(ms.Tensor(clips(1, 40))).asnumpy())
    with pytest.raises(CheckpointError, match=r"w\.ckpt: has an input norm, model\.input_norm says none"):
        open_model(file, load_config(None, [*shape, "model.input_norm=none"]))
    with pytest.raises(CheckpointError, match=r"an input norm of 24 mel bands, mel\.n_mels is 96"):
        open_model(file, load_config())
