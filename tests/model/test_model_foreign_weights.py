from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcn4dist.errors import CheckpointError
from fcn4dist.model.modelzoo import load_modelzoo


def test_our_own_export_for_pytorch_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    file = tmp_path / "m.safetensors"
    save_file({"bn1.running_mean": np.zeros(4, np.float32), "bn1.weight": np.ones(4, np.float32)}, file)
    with pytest.raises(CheckpointError, match="an export under PyTorch's names; expected the checkpoint"):
        load_modelzoo(file)
