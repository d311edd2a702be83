"""Make MindSpore ready in this process: device, graph mode, and the job's collectives where there is a job."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from fcn4dist.job.devices import Target, needs_avx512_guard


def prepare_imports(target: Target) -> None:
    """Set what must be set before `import mindspore` in a process that no launcher prepared.

    MindSpore 2.9 and 2.10 run convolutions about 100 times slower on a CPU with AVX-512 unless oneDNN is kept to AVX2. A graph
    from MindSpore's compiler cache may be that of another config, so the cache is off.
    """
    os.environ.pop("MS_COMPILER_CACHE_ENABLE", None)
    if target == "CPU" and needs_avx512_guard():
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    os.environ.setdefault("GLOG_v", "3")  # errors only


def start_device(target: Target, position: int, *, is_scoring: bool = False, is_deterministic: bool = False) -> None:
    """Select the device, by its position among those that this process sees, and graph mode; call it before `join_job`.

    `is_scoring`: this process compares scores and does not train, so that on Ascend convolutions of float32 are computed in
    float32; CANN's default there is HF32, which rounds their inputs to 11 bits. `is_deterministic`: on Ascend the same inputs
    give the same bits each time, more slowly; on CPU they always do.
    """
    import mindspore as ms

    if target == "CPU":
        ms.set_device("CPU")
    else:
        ms.set_device("Ascend", position)
        if is_scoring:
            with contextlib.suppress(RuntimeError):  # a program that uses us as a library has chosen already
                ms.device_context.ascend.op_precision.conv_allow_hf32(False)
        if is_deterministic:
            ms.set_deterministic(True)
    ms.set_context(mode=ms.GRAPH_MODE)


def steps_ahead() -> int:
    """Return how many steps are begun beyond the one that is read: an NPU works on by itself, a CPU has then done the step."""
    import mindspore as ms

    return 1 if ms.get_context("device_target") == "Ascend" else 0


def join_job(world_size: int) -> None:
    """Join the job that the environment describes; returns when all ranks are there. Call it before any Tensor is made."""
    import mindspore as ms
    from mindspore.communication import init

    init()
    # on CPU the only way to data parallelism; the step reduces by itself, so the mode only informs MindSpore
    settings: dict[str, Any] = {"gradients_mean": True, "device_num": world_size, "parameter_broadcast": False}
    ms.set_auto_parallel_context(parallel_mode="data_parallel", **settings)
