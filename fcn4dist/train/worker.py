"""The program of a worker and of the scheduler: `python -m fcn4dist.train.worker --run-dir RUN --attempt K`.

Started by `fcn4dist launch` with the environment that `cluster/worker_env.py` documents. An exception is left as JSON beside
the log, so that the launcher can name it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from fcn4dist.cluster.bring_up import pin_to_cores, tie_to_parent, wait_until_listening
from fcn4dist.cluster.failure import save_error
from fcn4dist.cluster.worker_env import WorkerEnv, read_environment
from fcn4dist.config import load_config
from fcn4dist.errors import Fcn4distError
from fcn4dist.run_dir import RunDir

JOIN_LIMIT_S = 120.0


def main(arguments: list[str] | None = None) -> None:
    """Run this process's part of the job and leave without waiting for MindSpore's own exit handlers.

    Those wait for peers that may be gone; everything worth keeping is on disk by then.
    """
    parser = argparse.ArgumentParser(prog="fcn4dist.train.worker", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--node", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    run = RunDir(options.run_dir, options.node)
    name = "unknown"
    try:
        worker = read_environment(os.environ)
        name = worker.name
        tie_to_parent(worker.launcher_pid)
        run_process(worker, run)
        code = 0
    except BaseException as error:
        save_error(run.error(options.attempt, name), error)
        logging.getLogger(__name__).error("%s failed", name, exc_info=error)
        code = error.exit_code if isinstance(error, Fcn4distError) else 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_process(worker: WorkerEnv, run: RunDir) -> None:
    """Be the scheduler, or train as one rank."""
    pin_to_cores(worker.share.cores)
    from fcn4dist.train.runtime import join_job, start_device

    if worker.role == "scheduler":
        start_device("CPU", 0)
        join_job(worker.world_size)
        return
    rank = worker.as_rank()
    config = load_config(run.config)
    start_device(worker.target, rank.device)
    from fcn4dist.train.checkpoint import has_checkpoint  # MindSpore's import, done while the scheduler starts
    from fcn4dist.train.loop import train

    wait_until_listening(worker.scheduler_host, worker.scheduler_port, JOIN_LIMIT_S)
    join_job(worker.world_size)
    assert config.data.records_dir is not None, "the launcher resolves data.records_dir"
    train(config, run, config.data.records_dir, rank, resume=has_checkpoint(run.checkpoints))


if __name__ == "__main__":
    main()
