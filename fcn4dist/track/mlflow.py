"""MLflow: the server that MLFLOW_TRACKING_URI names, else the files of `mlruns` beside the run's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from fcn4dist.run.state import Kind
from fcn4dist.track.tracker import PROJECT, About, Point

MOST_METRICS, MOST = 1000, 100  # of one request, and settings or tags: MLflow's own limits
STATUS = {"finished": "FINISHED", "stopped": "KILLED"}


class MlflowRun:
    """One run in MLflow."""

    is_rewritten: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder.absolute().parent / "mlruns").as_uri()
        self.place = re.sub(r"//[^/@]*@", "//", self._uri)  # which is written down, without a password

    def start(self, about: About, run_id: str | None) -> str:
        """Go on with a run, or begin one in the experiment MLFLOW_EXPERIMENT_NAME."""
        for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY"):  # MLflow 3 doubts that files are meant
            os.environ.setdefault(name, "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag

        self._client, self._metric = MlflowClient(self._uri), Metric
        if run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            known = self._client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self._client.create_experiment(name)
            run_id = str(self._client.create_run(experiment, run_name=self._folder.name).info.run_id)
        self._id = run_id
        self._client.update_run(run_id, status="RUNNING")
        settings, told = about.settings, self._client.get_run(run_id).data.params
        changed = {f"resumed.{key}": value for key, value in settings.items() if told.get(key, value) != value}
        tags = [RunTag(*pair) for pair in {**about.tags, **changed}.items()]
        new = [Param(*pair) for pair in settings.items() if pair[0] not in told]  # a parameter never changes
        for start in range(0, max(len(new), len(tags)), MOST):
            self._client.log_batch(run_id, params=new[start : start + MOST], tags=tags[start : start + MOST])
        return run_id

    def add(self, points: Sequence[Point]) -> None:
        """Tell the values, with the times of their steps."""
        found = [self._metric(k, v, round(p.time_s * 1000), p.step) for p in points for k, v in p.scalars.items()]
        for start in range(0, len(found), MOST_METRICS):
            self._client.log_batch(self._id, metrics=found[start : start + MOST_METRICS])

    def close(self, kind: Kind) -> None:
        """Say how the run ended."""
        if kind != "running":
            self._client.set_terminated(self._id, STATUS.get(kind, "FAILED"))


TRACKER = MlflowRun
