"""Real ranks of one job, each a process that runs a script; the scheduler runs it too, up to where it joins the job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fcn4dist.job.ports import choose_port

ROOT = Path(__file__).resolve().parents[2]


def run_ranks(folder: Path, code: str, world_size: int, *arguments: object) -> list[str]:
    """Run `code` as so many ranks on CPU, and return what each printed. It finds RANK_ID and RANK_SIZE in its environment."""
    script, port = folder / "member.py", choose_port()
    script.write_text(code)  # a file: MindSpore compiles functions from their source
    roles = [("MS_WORKER", rank) for rank in range(world_size)]
    roles += [("MS_SCHED", 0)] if world_size > 1 else []
    processes = [_start(script, role, rank, world_size, port, arguments) for role, rank in roles]
    try:
        printed = [process.communicate(timeout=300)[0] for process in processes[:world_size]]
        assert [process.returncode for process in processes[:world_size]] == [0] * world_size
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return printed


def join(world_size: int) -> None:
    """Join the job, of such a process; as in a worker, nobody is missed and tried again (docs/lab/log.md)."""
    from fcn4dist.train.bring_up import threads_in_turn, wait_until_listening
    from fcn4dist.train.device import join_job

    if os.environ["MS_ROLE"] == "MS_WORKER":
        wait_until_listening(os.environ["MS_SCHED_HOST"], int(os.environ["MS_SCHED_PORT"]), 120)
    with threads_in_turn(int(os.environ["RANK_ID"])):
        join_job(world_size)


def _start(
    script: Path, role: str, rank: int, world_size: int, port: int, arguments: tuple[object, ...]
) -> subprocess.Popen[str]:
    meeting = {"MS_WORKER_NUM": str(world_size), "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(port)}
    member = {"MS_ROLE": role, "MS_NODE_ID": f"{role}-{rank}", "RANK_ID": str(rank), "RANK_SIZE": str(world_size)}
    more = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'train'}", "OMP_NUM_THREADS": "1", "GLOG_v": "3"} | {
        "MS_RETRY_INTERVAL_LOWER": "1",
        "MS_RETRY_INTERVAL_UPPER": "1",
    }
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **meeting, **member, **more})
