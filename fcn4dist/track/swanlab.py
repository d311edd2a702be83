"""SwanLab: without network into RUN/swanlab, to be sent with `swanlab sync`; SWANLAB_MODE=online sends while the run goes on."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from fcn4dist.run.state import Kind
from fcn4dist.track.tracker import PROJECT, About, Point


class SwanlabRun:
    """One run in SwanLab; offline, each start has a folder of its own with the same run id."""

    is_rewritten: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self._folder, self._mode = folder, os.environ.get("SWANLAB_MODE", "offline")
        self.place = f"{self._mode} {os.environ.get('SWANLAB_API_HOST', '')}".strip()

    def start(self, about: About, run_id: str | None) -> str:
        """Go on with a run, or begin one in the project SWANLAB_PROJ_NAME."""
        import swanlab

        run_id = run_id or secrets.token_hex(4)
        self._run = swanlab.init(
            project=os.environ.get("SWANLAB_PROJ_NAME", PROJECT),
            name=self._folder.name,
            id=run_id,
            resume="allow",
            mode=self._mode,  # SwanLab says itself what it does not know
            log_dir=str(self._folder / "swanlab"),
            config={**about.settings, "about": dict(about.tags)},
        )
        return run_id

    def add(self, points: Sequence[Point]) -> None:
        """Tell the values; SwanLab takes their time from its own clock."""
        for point in points:
            self._run.log(dict(point.scalars), step=point.step)

    def close(self, kind: Kind) -> None:
        """End, and say how."""
        states = {"finished": "success", "running": "success", "stopped": "aborted"}
        state = states.get(kind, "crashed")
        self._run.finish(state=state, error=kind if state == "crashed" else None)


TRACKER = SwanlabRun
