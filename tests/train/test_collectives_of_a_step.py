from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMPILE = """
import mindspore as ms
from fcn4dist.config import BatchPlan, ModelConfig, TrainConfig
from fcn4dist.model.cpu_layers import build_network
from fcn4dist.train.step import TrainStep

ms.set_device("CPU")
ms.set_context(mode=ms.GRAPH_MODE)
ms.set_auto_parallel_context(parallel_mode="data_parallel", device_num=8, global_rank=0, gradients_mean=True)
model = ModelConfig(channels=[3, 4, 5, 6], pools=[(2, 2), (2, 3), (2, 2)])
step = TrainStep(build_network(model, 5, "O0"), TrainConfig(), BatchPlan(16, 8))
zeros = lambda *shape: ms.ops.zeros(shape, ms.float32)
step._step.compile(zeros(2, 1, 24, 30), zeros(2, 5), zeros(), zeros())
"""


@pytest.mark.slow
def test_a_step_of_eight_ranks_has_one_allreduce_of_everything(tmp_path: Path) -> None:
    """The graph of 8 ranks, compiled in one process and not run: all of it in one tensor."""
    graphs = {"MS_DEV_SAVE_GRAPHS": "2", "MS_DEV_SAVE_GRAPHS_PATH": str(tmp_path / "ir"), "GLOG_v": "3"}
    environment = {**os.environ, **graphs, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", COMPILE], check=True, env=environment, cwd=tmp_path)
    final = sorted((tmp_path / "ir").rglob("*validate*.ir"))[-1].read_text()
    assert len(re.findall(r"= AllReduce\(", final)) == 1
    weights = 9 * (1 * 3 + 3 * 4 + 4 * 5 + 5 * 6) + 2 * (3 + 4 + 5 + 6) + 6 * 5 + 5
    statistics = 2 * (3 + 4 + 5 + 6)
    reduced = final[final.index("= AllReduce(") :].splitlines()[1]
    assert f"({weights + statistics + 4})" in reduced  # and the loss, the known labels, the wish to stop, the overflow
    assert not re.search(r"= (AllGather|ReduceScatter|Broadcast)\(", final)
