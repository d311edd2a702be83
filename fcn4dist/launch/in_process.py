"""The pipeline of `fcn4dist train`: the same training as `launch`, in this process, on one device."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fcn4dist.ascend.cann import find_cann_version
from fcn4dist.config import RunConfig, format_config, plan_batches
from fcn4dist.data.source import check_source
from fcn4dist.errors import Interrupted
from fcn4dist.files import save_json, save_text
from fcn4dist.job.devices import require_mindspore, resolve_target
from fcn4dist.job.events import WallClock
from fcn4dist.job.process import signal_name
from fcn4dist.job.rank import SINGLE
from fcn4dist.job.sampler import Sampler, UsageRecorder, own_processes
from fcn4dist.launch.endings import reported
from fcn4dist.launch.host_job import check_own_precision, prepare_data
from fcn4dist.run.attempts import check_run_dir, dated_folder, locked, writing
from fcn4dist.run.best import describe_best
from fcn4dist.run.checkpoints import has_checkpoint
from fcn4dist.run.environment import describe_environment
from fcn4dist.run.folder import RunDir
from fcn4dist.run.state import RankEnd
from fcn4dist.track.process import tracked
from fcn4dist.track.tracker import require_tracker
from fcn4dist.train.device import prepare_imports, start_device
from fcn4dist.train.stop_request import StopRequest

if TYPE_CHECKING:
    from fcn4dist.launch.training_data import ShownProgress


def train_here(
    config: RunConfig,
    run_dir: Path | None,
    *,
    resume: bool,
    demo: bool,
    say: Callable[[str], None],
    progress: ShownProgress | None,
) -> str:
    """Train in this process and return one line that says how it went; `demo` as for `check_source`.

    Raises UserError when the input is wrong, before MindSpore is loaded where that can be known.
    """
    check_source(config, demo=demo)
    require_mindspore()
    for name in config.launch.trackers:
        require_tracker(name)
    target = resolve_target(config.launch.device_target)
    check_own_precision(config.train, target)
    prepare_imports(target)  # preparing data may load MindSpore, too
    plan_batches(config.train, SINGLE.world_size)
    run = RunDir((run_dir or dated_folder()).absolute())
    check_run_dir(run, resume=resume)
    with locked(run):
        config, data = prepare_data(config, run, SINGLE.world_size, say, progress, resume=resume, demo=demo)
        with writing(run):
            save_text(run.config, format_config(config))
            save_json(run.environment, describe_environment(find_cann_version(os.environ)))
            run.end(0, "rank-0").unlink(missing_ok=True)  # of a session before
        start_device(target, SINGLE.device, is_deterministic=config.launch.deterministic)
        from fcn4dist.train.loop import train  # MindSpore loads here, after all that can be refused without it

        stop, resumes = StopRequest(also=(signal.SIGINT,)), resume and has_checkpoint(run.checkpoints)
        usage = Sampler(UsageRecorder(run.usage, WallClock(), 1, own_processes()))
        with reported(run, say), usage, tracked(run, config.launch.trackers):
            report = train(config, run, data, SINGLE, resume=resumes, stop=stop)
            if report.early is not None:  # else the step says that it is the last
                run.end(0, "rank-0").parent.mkdir(parents=True, exist_ok=True)
                save_json(
                    run.end(0, "rank-0"), asdict(RankEnd(report.progress.step, report.num_steps, early=report.early))
                )
    if report.stopped_by is not None:
        raise Interrupted(
            report.stopped_by,
            f"stopped by {signal_name(report.stopped_by)} after step {report.progress.step} of {report.num_steps}, "
            f"checkpoint saved; go on with: fcn4dist train --resume {run.path}",
        )
    summary = report.evaluation.summary if report.evaluation else "not evaluated"
    parts = (f"done: {report.progress.step} steps", summary, report.early, describe_best(run), str(run.path))
    return "; ".join(filter(None, parts))
