"""A worker without MindSpore: keeps the launcher's contract and leaves what rank 0 leaves.

FAIL, FAIL_ONCE and FAIL_EARLY name the rank that fails: at its end, at its end but only once, before its first step.
HANG_RANK_0 and HANG_RANK_1 are the phases in which the ranks hang in step 7; STEPS_S: so long a rank steps before it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import NoReturn, cast

from fcn4dist.config import load_config
from fcn4dist.files import save_json
from fcn4dist.job.worker_env import read_environment
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import STACK_SIGNAL, Phase, PulseFile
from fcn4dist.train.bring_up import leave_if_orphaned, pin_to_cores, wait_until_listening


def serve(address: tuple[str, int]) -> NoReturn:
    with socket.create_server(address) as server:  # OSError, and so exit code 1, when the port is taken
        while True:
            worker, _ = server.accept()
            with worker:
                worker.sendall(b"welcome")


def main() -> None:
    environment = read_environment(os.environ)
    leave_if_orphaned(environment.launcher_pid)
    pin_to_cores(environment.share.cores)
    parser = argparse.ArgumentParser()
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--attempt", type=int, required=True)
    options = parser.parse_args()
    run_dir = RunDir(options.run_dir)
    address = (environment.scheduler_host, environment.scheduler_port)
    if environment.rank is None:
        serve(address)
    wait_until_listening(*address, limit_s=30)
    with socket.create_connection(address) as registration:  # a stranger on the port does not answer
        assert registration.recv(7) == b"welcome"
    config = load_config(run_dir.config)
    pulse = PulseFile(run_dir.pulse(options.attempt, environment.name))
    pulse.beat("compiling", 1)
    if os.environ.get("FAIL_EARLY") == environment.name:
        raise SystemExit(6)
    if "FAIL_EARLY" in os.environ:
        signal.pause()  # as in the collective of the first step
    pulse.beat("data", 2)
    if (phase := os.environ.get(f"HANG_RANK_{environment.rank}")) is not None:
        signal.signal(STACK_SIGNAL, signal.SIG_IGN)
        pulse.beat(cast(Phase, phase), 7)
        while True:
            signal.pause()
    end_s = time.monotonic() + float(os.environ.get("STEPS_S", "0"))
    while time.monotonic() < end_s:
        pulse.beat("step", 2)
        time.sleep(0.1)
    if environment.rank == 0:
        run_dir.metrics(0).parent.mkdir(exist_ok=True)
        with run_dir.metrics(0).open("a") as metrics:
            record = {"step": 3, "epoch": 1, "loss": 0.5, "global_batch": config.train.global_batch}
            metrics.write(json.dumps(record) + "\n")
        save_json(run_dir.evaluation, {"split": "val", "num_scored": 8, "roc_auc_macro": 0.875, "pr_auc_macro": 0.75})
    once = run_dir.path / "failed-once"
    if os.environ.get("FAIL_ONCE") == environment.name and not once.exists():
        once.touch()
        raise SystemExit(7)
    if os.environ.get("FAIL") == environment.name:
        raise SystemExit(7)


if __name__ == "__main__":
    main()
