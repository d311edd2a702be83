"""The program of a worker and of the scheduler: `python -m fcn4dist.train.worker --run-dir RUN --attempt K`.

Started by `fcn4dist launch` with the environment that `job/worker_env.py` documents. An exception is left as JSON beside
the log, so that the launcher can name it.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from fcn4dist.errors import Fcn4distError
from fcn4dist.files import save_json
from fcn4dist.job.failure import save_error
from fcn4dist.job.worker_env import WorkerEnv, read_environment
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import STACK_SIGNAL, PulseFile
from fcn4dist.run.state import RankEnd
from fcn4dist.train.bring_up import leave_if_orphaned, pin_to_cores, threads_in_turn, wait_until_listening
from fcn4dist.train.stop_request import StopRequest

JOIN_LIMIT_S = 120.0


def main(arguments: list[str] | None = None) -> None:
    """Run this process's part of the job."""
    run_process(arguments, train_as_rank)


def run_process(arguments: list[str] | None, as_rank: Callable[[WorkerEnv, RunDir, int], None]) -> None:
    """Be the scheduler or, by `as_rank`, a rank, and leave without waiting for MindSpore's own exit handlers.

    Those wait for peers that may be gone; everything worth keeping is on disk by then.
    """
    parser = argparse.ArgumentParser(prog=f"fcn4dist.{as_rank.__name__}", description=__doc__)
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
        leave_if_orphaned(worker.launcher_pid)
        if worker.role == "scheduler":
            join_as_scheduler(worker)
        else:
            with stacks_into(run.stack(options.attempt, name)):
                as_rank(worker, run, options.attempt)
        code = 0
    except BaseException as error:
        save_error(run.error(options.attempt, name), error)
        logging.getLogger(__name__).error("%s failed", name, exc_info=error)
        code = error.exit_code if isinstance(error, Fcn4distError) else 1
    with contextlib.suppress(OSError):  # a full disk must not change how this process ends
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def stacks_into(path: Path) -> Iterator[None]:
    """Write the stacks of all threads into `path` at STACK_SIGNAL, also while native code runs."""
    with path.open("w") as file:
        faulthandler.register(STACK_SIGNAL, file=file, all_threads=True)
        try:
            yield
        finally:
            faulthandler.unregister(STACK_SIGNAL)


def join_as_scheduler(worker: WorkerEnv) -> None:
    """Introduce the ranks to each other; does not return when all of them have left well."""
    from fcn4dist.train.device import join_job, start_device

    start_device("CPU", 0)
    join_job(worker.world_size)


def join_as_rank(worker: WorkerEnv, run: RunDir, attempt: int) -> None:
    """Join the job once its scheduler listens; returns when all ranks are there."""
    from fcn4dist.train.device import join_job

    wait_until_listening(worker.scheduler_host, worker.scheduler_port, JOIN_LIMIT_S, run.listening(attempt))
    if worker.target == "CPU":
        with threads_in_turn(worker.as_rank().index):
            join_job(worker.world_size)
    else:
        join_job(worker.world_size)


def train_as_rank(worker: WorkerEnv, run: RunDir, attempt: int) -> None:
    """Train as one rank, and note how it ended."""
    pin_to_cores(worker.share.cores)
    from fcn4dist.config import load_config  # not at the top: the scheduler would wait for it too
    from fcn4dist.data.dataset import open_dataset
    from fcn4dist.data.tags import named_tags
    from fcn4dist.run.checkpoints import has_checkpoint
    from fcn4dist.train.device import start_device

    rank = worker.as_rank()
    pulse = PulseFile(run.pulse(attempt, worker.name))
    config = load_config(run.config)
    pulse.beat("importing")
    start_device(worker.target, rank.device, is_deterministic=config.launch.deterministic)
    from fcn4dist.train.loop import train  # MindSpore's import, done while the scheduler starts

    pulse.beat("joining")
    join_as_rank(worker, run, attempt)
    pulse.beat("opening")
    assert config.data.records_dir is not None, "the launcher resolves data.records_dir"
    data = open_dataset(config.data.records_dir, named_tags(config.data.tags))
    resume = has_checkpoint(run.checkpoints)
    report = train(config, run, data, rank, resume=resume, stop=StopRequest(), pulse=pulse)
    end = RankEnd(report.progress.step, report.num_steps, report.stopped_by, report.early)
    save_json(run.end(attempt, worker.name), asdict(end))


if __name__ == "__main__":
    main()
