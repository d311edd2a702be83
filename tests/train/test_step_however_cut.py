"""A step gives the same weights and batch-norm statistics however its global batch is cut; NumPy says which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy_step import NumpyStep
from rank_children import run_ranks

NUM_STEPS, MICRO_BATCH, GLOBAL_BATCH, LR = 10, 2, 16, 0.001
POOLS = [(2, 2), (2, 3), (2, 2)]
MEMBER = f"""
import os, sys
import mindspore as ms
import numpy as np
from fcn4dist.config import BatchPlan, ModelConfig, TrainConfig
from fcn4dist.model.cpu_layers import build_network
from fcn4dist.train.device import start_device
from fcn4dist.train.step import TrainStep
from rank_children import join
from test_step_however_cut import global_batch

rank, world_size = int(os.environ["RANK_ID"]), int(os.environ["RANK_SIZE"])
start_device("CPU", 0)
if world_size > 1:
    join(world_size)  # the scheduler's process stays in here
ms.set_seed(3)
model = ModelConfig(channels=[3, 4, 5, 6], pools={POOLS})
plan = BatchPlan({GLOBAL_BATCH}, world_size, {GLOBAL_BATCH // MICRO_BATCH} // world_size)
network = build_network(model, 5, "O0")
for i, parameter in enumerate(network.get_parameters()):
    if parameter.name.endswith(("gamma", "beta")):  # as in the midst of a training; some scales are negative
        parameter.set_data(ms.Tensor(np.random.default_rng(i).normal(0, 0.5, parameter.shape), ms.float32))
step = TrainStep(network, TrainConfig(), plan)
values = lambda: {{p.name: p.asnumpy() for p in step.network.get_parameters()}}
found = {{f"before.{{name}}": value.copy() for name, value in values().items()}}
losses = []
for i in range({NUM_STEPS}):
    mine = slice(rank * plan.rank_batch, (rank + 1) * plan.rank_batch)
    mel_db, labels = (part[mine] for part in global_batch(i))
    losses.append(step(mel_db, labels, {LR}).loss)
np.savez(os.path.join(sys.argv[1], f"{{world_size}}-{{rank}}.npz"), losses=losses, **found, **values())
"""


def global_batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips that differ in loudness, so micro-batches differ in their statistics; a fifth of the labels is unknown."""
    rng = np.random.default_rng(step)
    mel_db = rng.normal(-40, 15, (GLOBAL_BATCH, 1, 24, 30)) + rng.normal(0, 5, (GLOBAL_BATCH, 1, 1, 1))
    labels = (rng.random((GLOBAL_BATCH, 5)) < 0.3).astype(np.int32)
    labels[rng.random(labels.shape) < 0.2] = -1
    return mel_db.astype(np.float32), labels


@pytest.mark.parametrize("world_sizes", [(1, 2), pytest.param((1, 4, 8), marks=pytest.mark.slow)])
def test_any_number_of_ranks_gives_the_weights_and_statistics_that_numpy_gives(
    world_sizes: tuple[int, ...], tmp_path: Path
) -> None:
    """1 x 8, 2 x 4, 4 x 2 and 8 x 1 (ranks x micro-batches of two clips), batch norm in training."""
    ends = {}
    for world_size in world_sizes:
        run_ranks(tmp_path, MEMBER, world_size, tmp_path)
        ranks = [dict(np.load(tmp_path / f"{world_size}-{rank}.npz")) for rank in range(world_size)]
        for other in ranks[1:]:  # all ranks of a job hold the same bits
            for name, value in ranks[0].items():
                np.testing.assert_array_equal(other[name], value, err_msg=name)
        ends[world_size] = ranks[0]
    worst: dict[int, float] = {}
    for world_size, end in ends.items():
        found = {
            name: np.abs(end[name] - value).max() / np.abs(value).max()
            for name, value in ends[1].items()
            if value.any()
        }
        worst[world_size] = max(found.values())
        assert worst[world_size] <= 1e-6, (world_size, found)
    before = {name.removeprefix("before."): value for name, value in ends[1].items() if name.startswith("before.")}
    oracle = NumpyStep(before, POOLS, MICRO_BATCH)
    losses = [oracle(*global_batch(i), LR) for i in range(NUM_STEPS)]
    np.testing.assert_allclose(ends[1]["losses"], losses, rtol=1e-6)
    of_numpy = {name: np.abs(ends[1][name] - v).max() / np.abs(v).max() for name, v in oracle.weights.items()}
    assert max(of_numpy.values()) <= 1e-4, of_numpy
