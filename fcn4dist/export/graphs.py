"""The network with its sigmoid as a file: ONNX and MINDIR of any batch and length, AIR of one.

MindSpore writes all three. Its ONNX file is right but for one word: the graph's output is declared with the batch of the
example, so that is set free here, and onnx's own checker has the last word.
"""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from fcn4dist.config import MelConfig
from fcn4dist.errors import DeviceError, pip_install
from fcn4dist.export.card import INPUT, OUTPUT
from fcn4dist.model.fcn4 import FCN4

MINDSPORE = str(ms.__version__)
NO_ONNX = f"onnx is not installed for this Python; expected: {pip_install('export')}"


class ScoringNetwork(nn.Cell):
    """FCN-4 and the sigmoid that turns its logits into scores."""

    def __init__(self, network: FCN4) -> None:
        super().__init__(auto_prefix=False)  # parameters keep their names
        self.network = network
        self.sigmoid = ops.Sigmoid()
        self.set_train(False)

    def construct(self, mel_db: Tensor) -> Tensor:
        """Return scores (N, num_tags), 0..1, of clips (N, 1, n_mels, frames)."""
        return self.sigmoid(self.network(mel_db))


def write_onnx(network: FCN4, mel: MelConfig, file: Path) -> None:
    """Write `file`, a .onnx; both the batch and the number of frames are free. Raises DeviceError without onnx."""
    try:
        import onnx
    except ModuleNotFoundError:
        raise DeviceError(NO_ONNX) from None
    import mindspore.onnx

    mindspore.onnx.export(
        ScoringNetwork(network),
        _example(mel),
        file_name=str(file),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch", 3: "frames"}, OUTPUT: {0: "batch"}},
    )
    graph = onnx.load(file)
    graph.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.graph.name = "FCN4"
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, file)


def write_mindir(network: FCN4, mel: MelConfig, file: Path) -> None:
    """Write `file`, a .mindir; both the batch and the number of frames are free."""
    free = Tensor(shape=[None, 1, mel.n_mels, None], dtype=ms.float32)
    cell = ScoringNetwork(network)
    cell.set_inputs(free)
    ms.export(cell, free, file_name=str(file), file_format="MINDIR")


def write_air(network: FCN4, mel: MelConfig, file: Path) -> None:
    """Write `file`, a .air, for one clip of mel.clip_s at a time; only on Ascend, since CANN's graph engine does it."""
    ms.export(ScoringNetwork(network), _example(mel), file_name=str(file), file_format="AIR")


def _example(mel: MelConfig) -> Tensor:
    return Tensor(np.zeros((1, 1, mel.n_mels, mel.num_frames), np.float32))
