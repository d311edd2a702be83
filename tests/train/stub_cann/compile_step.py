"""Compile the training step of rank 0 of 8 for the chip STUB_SOC: compile_step.py LEVEL FORM...; FORM is AMP:MICRO_BATCHES.

At MindSpore's simulation level 0 graphs are compiled up to the end of its front end, at 1 also for the chip, until CANN's own
operators are missing. Prints a line of JSON a form: the graphs that it left, kernels that were launched outside of a graph, what
ended it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

NUM_RANKS, NUM_TAGS = 8, 5


def main() -> None:
    """Compile each form."""
    import mindspore as ms

    from fcn4dist.train.device import join_job, start_device

    level, *forms = sys.argv[1:]
    start_device("Ascend", 0, is_deterministic=True)
    os.environ["MS_SIMULATION_LEVEL"] = level  # not before: a simulated device has no name
    os.environ |= {"RANK_SIZE": str(NUM_RANKS), "RANK_ID": "0"}
    join_job(NUM_RANKS)
    from mindspore._c_expression import MSContext

    from fcn4dist.config import ModelConfig, TrainConfig, plan_batches
    from fcn4dist.model.cpu_layers import build_network
    from fcn4dist.train.step import TrainStep

    soc = MSContext.get_instance().get_ascend_soc_version()
    tell({"soc": soc, "deterministic": os.environ.get("HCCL_DETERMINISTIC")})
    for form in forms:
        amp, accumulation = form.split(":")
        size = 2 * NUM_RANKS * int(accumulation)
        train = TrainConfig(global_batch=size, device_batch=2, amp=amp, loss_scale="dynamic")
        plan = plan_batches(train, NUM_RANKS)
        ms.set_seed(1)
        step = TrainStep(build_network(ModelConfig(channels=[4, 4, 4, 4]), NUM_TAGS, amp), train, plan)
        mel_db = np.zeros((plan.rank_batch, 1, 96, 1366), np.float32)
        graphs, kernels, error = set(graph_files()), num_single_kernels(), ""
        try:
            step.begin(mel_db, np.zeros((plan.rank_batch, NUM_TAGS), np.int32), 0.001)
        except Exception as found:
            error = str(found).splitlines()[0]
        made = sorted(set(graph_files()) - graphs)
        tell({"form": form, "graphs": made, "kernels": num_single_kernels() - kernels, "error": error})


def graph_files() -> list[str]:
    """Return the graphs that MindSpore has written so far."""
    return [str(path) for path in Path(os.environ["MS_DEV_SAVE_GRAPHS_PATH"]).rglob("*.ir")]


def num_single_kernels() -> int:
    """Return how many kernels ran as graphs of their own, outside of all that is compiled."""
    return len([path for path in graph_files() if "end_opt_acl_graph_after_kernel_select_4" in path])


def tell(line: dict[str, Any]) -> None:
    """Print a line of JSON."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


main()
os._exit(0)  # the back end would wait for threads of CANN that are not there
