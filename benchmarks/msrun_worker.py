"""The worker that benchmarks/starting.py gives to `msrun`: the training of our launcher's workers, by msrun's environment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Join the job and train."""
    data, run, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    from fcn4dist.train.device import join_job, start_device

    start_device("CPU", 0)
    world_size = int(os.environ["MS_WORKER_NUM"])
    join_job(world_size)  # the scheduler's process stays in here
    from fcn4dist.config import load_config
    from fcn4dist.data.dataset import open_dataset
    from fcn4dist.job.rank import Rank
    from fcn4dist.run.folder import RunDir
    from fcn4dist.train.loop import train

    rank = int(os.environ["RANK_ID"])
    config = load_config(None, [f"{key}={value}" for key, value in settings.items()])
    train(config, RunDir(run), open_dataset(data), Rank(rank, world_size, rank))


if __name__ == "__main__":
    main()
