"""Two real ranks, one of which overflows: both skip the step, also where only that rank's own flag tells."""

from __future__ import annotations

import json
from pathlib import Path

from rank_children import run_ranks

MEMBER = """
import hashlib, json, os
import mindspore as ms
import numpy as np
from mindspore import Tensor, amp, ops
from fcn4dist.config import BatchPlan, ModelConfig, TrainConfig
from fcn4dist.model.cpu_layers import build_network
from fcn4dist.train.device import start_device
from fcn4dist.train.step import TrainStep
from rank_children import join

start_device("CPU", 0)
join(2)  # the scheduler's process stays in here
rank = int(os.environ["RANK_ID"])
rng = np.random.default_rng(rank)
mel_db, labels = rng.normal(-40, 15, (4, 1, 24, 30)), rng.integers(0, 2, (4, 5))
model = ModelConfig(channels=[3, 4, 5, 6], pools=[(2, 2), (2, 3), (2, 2)])
all_finite = amp.all_finite


def register_is_set(values):  # of an Ascend 910, whose numbers saturate: they are finite, the flag is not
    return ops.logical_and(all_finite(values), Tensor(False))


def build():
    ms.set_seed(3)
    return TrainStep(build_network(model, 5, "O0"), TrainConfig(loss_scale="dynamic"), BatchPlan(8, 2))


def weights_of(step):
    return hashlib.sha256(b"".join(p.asnumpy().tobytes() for p in step.network.get_parameters())).hexdigest()


def run(step, mel_db):
    before = weights_of(step)
    result = step(mel_db, labels, 0.01)
    after = weights_of(step)
    return [result.is_overflow, after != before, float(step.scaler.scale.asnumpy()), after]


flagged, plain, infinite = build(), build(), mel_db.copy()
infinite[0, 0, 3, 3] = np.inf
if rank == 1:
    amp.all_finite = register_is_set
print(json.dumps(run(flagged, mel_db)))
amp.all_finite = all_finite
for clips in (mel_db, infinite if rank == 1 else mel_db, mel_db):
    print(json.dumps(run(plain, clips)))
# gradients of 1e20 and more are finite, their squares, which Adam keeps, are not
ops.assign(plain.network.bn4.beta, Tensor(np.full(6, 1e21), ms.float32))
print(json.dumps(run(plain, mel_db)))
"""


def test_a_rank_that_alone_overflows_makes_all_skip(tmp_path: Path) -> None:
    printed = run_ranks(tmp_path, MEMBER, 2)
    zero, one = ([json.loads(line) for line in text.splitlines()] for text in printed)
    assert [step[:3] for step in zero] == [
        [True, False, 2.0**15],  # the flag of rank 1 alone
        [False, True, 2.0**16],
        [True, False, 2.0**15],  # an infinite clip of rank 1
        [False, True, 2.0**15],
        [True, False, 2.0**14],  # squares
    ]
    assert one == zero  # the weights too, bit for bit
