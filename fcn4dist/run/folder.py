"""The run directory: where everything that a run writes stands (DESIGN section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunDir:
    """The paths inside a run directory; nothing is created here.

    Hosts of one job may share the folder: what the launcher of host 1, 2, ... writes carries its number, "config-node1.yaml".
    """

    path: Path
    node: int = 0  # this host's number in a job over hosts

    def _own(self, stem: str, suffix: str) -> Path:
        return self.path / (f"{stem}{suffix}" if self.node == 0 else f"{stem}-node{self.node}{suffix}")

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self._own("config", ".yaml")

    @property
    def plan(self) -> Path:
        """Every worker: rank, device, cores, argv, env."""
        return self._own("plan", ".json")

    @property
    def events(self) -> Path:
        """What the supervisor saw, one JSON object a line."""
        return self._own("events", ".jsonl")

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoint folders, and the files `latest` and `best`."""
        return self.path / "checkpoints"

    @property
    def evaluation(self) -> Path:
        """The last evaluation's figures."""
        return self.path / "evaluation.json"

    @property
    def best_evaluation(self) -> Path:
        """The figures of the checkpoint that `checkpoints/best` names."""
        return self.path / "evaluation-best.json"

    @property
    def scores(self) -> Path:
        """The last evaluation's clip_ids, labels and scores."""
        return self.path / "scores.npz"

    @property
    def best_scores(self) -> Path:
        """The clip_ids, labels and scores of the checkpoint that `checkpoints/best` names."""
        return self.path / "scores-best.npz"

    @property
    def hardest(self) -> Path:
        """Small pictures of the mels of the clips with the highest losses."""
        return self.path / "hardest.npz"

    @property
    def failure(self) -> Path:
        """Who failed first and what followed; only after a failure."""
        return self._own("failure", ".json")

    @property
    def environment(self) -> Path:
        """Versions, host and command of the last launch or train here."""
        return self._own("environment", ".json")

    @property
    def report(self) -> Path:
        """The run on one page."""
        return self.path / "report.html"

    @property
    def usage(self) -> Path:
        """CPU and memory of this host's processes over time, one JSON object a line."""
        return self.path / "metrics" / ("usage.jsonl" if self.node == 0 else f"usage-node{self.node}.jsonl")

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files, where they were asked for."""
        return self.path / "tensorboard"

    def tracked(self, tracker: str) -> Path:
        """Return where it stands how far a tracker has been told of the run, and under which id it knows it."""
        return self.path / "track" / f"{tracker}.json"

    def tracker_log(self, tracker: str) -> Path:
        """Return what a tracker's own program said while the run went on."""
        return self.path / "track" / f"{tracker}.log"

    @property
    def profiles(self) -> Path:
        """The folder of what MindSpore's profiler found, where it was asked to look."""
        return self.path / "profile"

    def profile(self, rank: int) -> Path:
        """Return the folder of one rank's profile."""
        return self.profiles / f"rank-{rank}"

    @property
    def lock(self) -> Path:
        """Locked while a launcher works here."""
        return self._own("launch", ".lock")

    @property
    def rank_table(self) -> Path:
        """The HCCL rank table of the job; on Ascend always, where the devices' addresses are known."""
        return self._own("rank_table", ".json")

    def logs(self, attempt: int) -> Path:
        """Return the folder of one attempt's logs; attempts count from 1."""
        return self.path / "logs" / f"attempt-{attempt}"

    def log(self, attempt: int, process: str) -> Path:
        """Return the log of `process`: "scheduler" or "rank-3"."""
        return self.logs(attempt) / f"{process}.log"

    def plog(self, attempt: int, process: str) -> Path:
        """Return the folder of CANN's own logs of a rank; on Ascend alone."""
        return self.logs(attempt) / "plog" / process

    def error(self, attempt: int, process: str) -> Path:
        """Return where `process` leaves the exception that ended it, as JSON."""
        return self.logs(attempt) / f"{process}.error.json"

    def end(self, attempt: int, process: str) -> Path:
        """Return where a rank notes that it ended well: finished, or stopped on request."""
        return self.logs(attempt) / f"{process}.end.json"

    def pulse(self, attempt: int, process: str) -> Path:
        """Return where a rank says what it is doing; the watchdog reads it."""
        return self.logs(attempt) / f"{process}.pulse"

    def listening(self, attempt: int) -> Path:
        """Return the file that a launcher makes when the scheduler on another host listens."""
        return self.logs(attempt) / "scheduler.listens"

    def stack(self, attempt: int, process: str) -> Path:
        """Return where a process that hangs leaves the stacks of its threads."""
        return self.logs(attempt) / f"{process}.stack"

    def metrics(self, rank: int) -> Path:
        """Return the step records of a rank, one JSON object a line."""
        return self.path / "metrics" / f"rank-{rank}.jsonl"

    @property
    def evaluations(self) -> Path:
        """The validation figures over the run, one JSON object a line."""
        return self.path / "metrics" / "evaluations.jsonl"


def list_traces(folder: Path) -> list[Path]:
    """Return the traces that MindSpore's profiler left in `folder`, one a session, the oldest first: Chrome's trace format."""
    return sorted(folder.glob("*_ascend_ms/ASCEND_PROFILER_OUTPUT/trace_view.json"))
