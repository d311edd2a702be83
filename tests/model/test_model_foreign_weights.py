from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcn4dist.errors import CheckpointError
from fcn4dist.model.modelzoo import load_modelzoo
from fcn4dist.model.parameters import read_parameters


def test_our_own_export_for_pytorch_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    file = tmp_path / "m.safetensors"
    save_file({"bn1.running_mean": np.zeros(4, np.float32), "bn1.weight": np.ones(4, np.float32)}, file)
    with pytest.raises(CheckpointError, match="an export under PyTorch's names; expected the checkpoint"):
        load_modelzoo(file)


def test_texts_that_stand_beside_the_tensors_are_left_out(tmp_path: Path) -> None:
    import mindspore as ms

    file = tmp_path / "m.ckpt"
    weights = [ms.Parameter(ms.Tensor([1.0, 2.0], ms.float32), name="dense.bias")]
    ms.save_checkpoint(weights, str(file), append_dict={"note": "by hand", "epoch": 3})
    assert sorted(read_parameters(file)) == ["dense.bias", "epoch"]
    with pytest.raises(CheckpointError, match=r"m\.ckpt: no parameter 'conv1\.weight'"):
        load_modelzoo(file)
