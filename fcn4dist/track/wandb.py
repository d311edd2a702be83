"""W&B: without network into RUN/wandb, to be sent with `wandb sync`; WANDB_MODE=online sends while the run goes on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from fcn4dist.run.state import Kind
from fcn4dist.track.tracker import PROJECT, About, Point


class WandbRun:
    """One run in W&B; offline, each start has a folder of its own with the same run id, which `wandb sync` puts together."""

    is_rewritten: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self._folder, self._mode = folder, os.environ.get("WANDB_MODE", "offline")
        self.place = f"{self._mode} {os.environ.get('WANDB_BASE_URL', '')}".strip()

    def start(self, about: About, run_id: str | None) -> str:
        """Go on with a run, or begin one in the project WANDB_PROJECT."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=self._folder.name,
            id=run_id,
            resume="allow" if self._mode == "online" else None,
            mode=self._mode,
            dir=str(self._folder),
            config={**about.settings, "about": dict(about.tags)},
            allow_val_change=True,
            settings=settings,
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")  # W&B's own counter only rises; an evaluation comes late
        return str(self._run.id)

    def add(self, points: Sequence[Point]) -> None:
        """Tell the values, with the times of their steps."""
        for point in points:
            self._run.log({"step": point.step, "_timestamp": point.time_s, **point.scalars})

    def close(self, kind: Kind) -> None:
        """End; W&B calls a run failed whose exit code is not 0."""
        self._run.finish(exit_code=0 if kind in ("finished", "running") else 1)


TRACKER = WandbRun
