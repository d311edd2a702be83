from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fcn4dist.job.ports import choose_port

ROOT = Path(__file__).resolve().parents[2]
SCHEDULER = """
import sys
from importlib.metadata import version
from fcn4dist.train.scheduler import cluster_of_core

introduce = cluster_of_core(version("mindspore"))
print("mindspore.nn" in sys.modules, flush=True)
introduce()  # ends the process, as `init()` does
"""
RANK = """
import os
from fcn4dist.train.bring_up import threads_in_turn, wait_until_listening
from fcn4dist.train.short_sleeps import short_sleeps
from fcn4dist.train.device import join_job, start_device

start_device("CPU", 0)
wait_until_listening("127.0.0.1", int(os.environ["MS_SCHED_PORT"]), 60)
with threads_in_turn(int(os.environ["RANK_ID"])), short_sleeps():
    join_job(2)
import numpy as np
from mindspore import Tensor, ops

print(ops.AllReduce()(Tensor(np.float32([1, 10]) * (1 + int(os.environ["RANK_ID"])))).asnumpy().tolist())
"""


def start(code: str, role: str, rank: int, port: int) -> subprocess.Popen[str]:
    meeting = {"MS_WORKER_NUM": "2", "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(port), "GLOG_v": "3"}
    member = {"MS_ROLE": role, "MS_NODE_ID": f"{role}-{rank}", "RANK_ID": str(rank), "PYTHONPATH": str(ROOT)}
    pace = {"MS_RETRY_INTERVAL_LOWER": "1", "MS_RETRY_INTERVAL_UPPER": "1", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **meeting, **member, **pace}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)


def test_the_core_alone_introduces_two_ranks_whose_sleeps_are_cut_short() -> None:
    port = choose_port()
    processes = [
        start(SCHEDULER, "MS_SCHED", 0, port),
        *(start(RANK, "MS_WORKER", rank, port) for rank in range(2)),
    ]
    try:
        printed = [process.communicate(timeout=120)[0].strip() for process in reversed(processes)]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0, 0]
    needs_package = version("mindspore").startswith(("2.7", "2.8", "2.9"))
    assert printed == ["[3.0, 30.0]", "[3.0, 30.0]", str(needs_package)]


@pytest.mark.parametrize(("release", "is_whole"), [("2.7.2", "True"), ("2.9.0", "True"), ("2.10.0", "False")])
def test_a_core_that_leans_on_its_package_gets_it(tmp_path: Path, release: str, is_whole: str) -> None:
    package = tmp_path / "mindspore"
    package.mkdir()
    (package / "__init__.py").write_text("is_whole = True\n")
    core = "import mindspore\ninit_cluster = lambda: print(hasattr(mindspore, 'is_whole'))\n"
    (package / "_c_expression.py").write_text(core)
    code = f"from fcn4dist.train.scheduler import cluster_of_core; cluster_of_core({release!r})()"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{is_whole}\n"
