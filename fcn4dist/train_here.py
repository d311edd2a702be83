"""The pipeline of `fcn4dist train`: the same training as `launch`, in this process, on one device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fcn4dist.cluster.devices import resolve_target
from fcn4dist.cluster.rank import SINGLE
from fcn4dist.config import RunConfig, format_config, override_config, plan_batches
from fcn4dist.files import save_text
from fcn4dist.run_dir import RunDir
from fcn4dist.run_folder import check_run_dir, dated_folder, locked, writing
from fcn4dist.train.runtime import prepare_imports, start_device
from fcn4dist.training_data import check_data, resolve_data

if TYPE_CHECKING:
    from fcn4dist.data.features import Progress


def train_here(
    config: RunConfig, run_dir: Path | None, *, resume: bool, say: Callable[[str], None], progress: Progress | None
) -> str:
    """Train in this process and return one line that says how it went.

    Raises UserError when the input is wrong, before MindSpore is loaded where that can be known.
    """
    target = resolve_target(config.launch.device_target)
    batches = plan_batches(config.train, SINGLE.world_size)
    run = RunDir((run_dir or dated_folder()).absolute())
    check_run_dir(run, resume=resume)
    with locked(run):
        config = resolve_data(config, run, say, progress)
        check_data(config, batches)
        config = override_config(config, train={"global_batch": batches.global_batch})
        with writing(run):
            save_text(run.config, format_config(config))
        prepare_imports(target)
        start_device(target, SINGLE.device)
        from fcn4dist.train.loop import train  # MindSpore loads here, after all that can be refused without it

        assert config.data.records_dir is not None
        report = train(config, run, config.data.records_dir, SINGLE, resume=resume)
    summary = report.evaluation.summary if report.evaluation else "not evaluated"
    return f"done: {report.progress.step} steps; {summary}; {run.path}"
