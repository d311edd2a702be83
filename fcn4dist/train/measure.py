"""The program that measures one form of the training step: `python -m fcn4dist.train.measure REQUEST.json RESULT.json`.

`fcn4dist tune` starts it once a form, so that a form which does not fit ends nothing but this process. The step is the one that a
rank makes, accumulation and update included, on random clips; it has no peers, so no allreduce.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from fcn4dist.config import RunConfig, build_config, plan_batches
from fcn4dist.errors import Fcn4distError
from fcn4dist.files import save_json
from fcn4dist.train.bring_up import leave_if_orphaned, pin_to_cores
from fcn4dist.train.device import prepare_imports, start_device

NUM_WARM = 2  # steps before those that count: the first one compiles
LEAST_STEPS = 2
# what MindSpore, CANN and C++ say where memory is short
NO_MEMORY = re.compile(
    r"memory (isn't|is not|not) enough|not enough memory|out of memory|bad_alloc|cannot allocate memory"
    r"|(alloc|malloc|allocate)( device)?( memory)? (fail|error)",
    re.IGNORECASE,
)


def main(arguments: list[str]) -> None:
    """Measure, and write the result; an error of the step is a result, too."""
    request, target_file = json.loads(Path(arguments[0]).read_text()), Path(arguments[1])
    leave_if_orphaned(request["launcher_pid"])
    pin_to_cores(tuple(request["cores"]))
    try:
        result = measure(request)
    except Fcn4distError as error:
        result = {"problem": str(error)}
    except Exception as error:  # whatever MindSpore raises becomes a line of the table
        result = {"problem": describe_error(error)}
    save_json(target_file, result)


def describe_error(error: Exception) -> str:
    """Return one line: the one about memory where there is such a one, else the first that has words.

    MindSpore's messages begin with rules and headings: "- Memory not enough:", then what could not be had.
    """
    lines = [line.strip() for line in str(error).splitlines() if re.search(r"\w", line)]
    about_memory = [line for line in lines if NO_MEMORY.search(line)]
    if about_memory:
        return f"out of memory: {max(about_memory, key=len)}"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Return clips_per_s, step_s, compile_s and, on an NPU, memory_bytes; or problem, where the form does not fit."""
    config = build_config(request["config"], where="tune")
    prepare_imports(request["target"])
    start_device(request["target"], request["device"])
    import mindspore as ms
    import numpy as np

    from fcn4dist.model.cpu_layers import build_network
    from fcn4dist.train.step import TrainStep

    on_npu = request["target"] == "Ascend"
    if on_npu and (problem := _lack_of_memory(request["device"], request["estimate_bytes"])) is not None:
        return {"problem": problem}
    plan = plan_batches(config.train, 1)
    ms.set_seed(config.train.seed)
    network = build_network(config.model, request["num_tags"], config.train.amp, config.mel.n_mels)
    step = TrainStep(network, config.train, plan)
    rng = np.random.default_rng(config.train.seed)
    mel_db = rng.normal(-30, 10, (plan.rank_batch, 1, config.mel.n_mels, config.mel.num_frames)).astype(np.float32)
    labels = (rng.random((plan.rank_batch, request["num_tags"])) < 0.1).astype(np.int32)
    keep = _keep_all(config, plan.rank_batch)

    def take_step() -> float:
        begin_s = time.perf_counter()
        step(mel_db, labels, config.train.lr, keep=keep)
        return time.perf_counter() - begin_s

    warm_s = [take_step() for _ in range(NUM_WARM)]
    taken_s: list[float] = []
    while len(taken_s) < LEAST_STEPS or (len(taken_s) < request["steps"] and sum(taken_s) < request["seconds"]):
        taken_s.append(take_step())
    step_s = median(taken_s)
    result: dict[str, Any] = {
        "clips_per_s": plan.rank_batch / step_s,
        "step_s": step_s,
        "num_steps": len(taken_s),
        "compile_s": max(0.0, warm_s[0] - step_s),
    }
    if on_npu:
        result["memory_bytes"] = ms.runtime.max_memory_reserved()
    return result


def _lack_of_memory(device: int, estimate_bytes: float) -> str | None:
    """Return what is said where this NPU has less memory than the form takes; None also where it does not tell."""
    import mindspore as ms

    ms.Tensor(0.0, ms.float32) + 1.0  # the device is asked only once it is in use
    free_bytes = float(ms.hal.get_device_properties(device, "Ascend").free_memory)
    if not 0 < free_bytes < estimate_bytes:
        return None
    return f"does not fit: about {estimate_bytes / 1e9:.1f} GB needed, {free_bytes / 1e9:.1f} GB free on the NPU"


def _keep_all(config: RunConfig, num_clips: int) -> Any:
    import numpy as np

    return np.ones((num_clips, config.model.channels[-1]), np.float32) if config.model.dropout else None


if __name__ == "__main__":
    main(sys.argv[1:])
