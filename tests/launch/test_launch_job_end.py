from __future__ import annotations

from pathlib import Path

import pytest

from fcn4dist.config import BatchPlan
from fcn4dist.job.failure import FailedProcess, Failure, WorkerError, format_failure
from fcn4dist.job.oom import BY_CGROUP, NOT_BY_KERNEL
from fcn4dist.job.plan import JobPlan, Meeting
from fcn4dist.launch.job_end import advise
from fcn4dist.run.folder import RunDir

FULL = WorkerError(1.0, "JobError", "the checkpoint could not be written: No space left on device", "Traceback", 1)


@pytest.mark.parametrize(
    ("hint", "error", "stall", "advice"),
    [
        (BY_CGROUP, None, None, "it needs less memory with a smaller train.device_batch"),
        (None, FULL, None, "make room on the disk of "),
        (None, None, "no step was finished for 600 s: ...", "see in the stacks what it waits for"),
        (NOT_BY_KERNEL, None, None, None),
    ],
)
def test_the_advice_follows_the_cause_and_ends_with_how_to_go_on(
    tmp_path: Path, hint: str | None, error: WorkerError | None, stall: str | None, advice: str | None
) -> None:
    (tmp_path / "checkpoints" / "step-00000120").mkdir(parents=True)
    culprit = FailedProcess("rank-1", 1, "node-a", None, "SIGKILL", hint, error, "rank-1.log", [], 3 << 30, stall)
    plan = JobPlan(RunDir(tmp_path), 1, "CPU", Meeting.on_one_host(2, 23456), BatchPlan(8, 2), None, ())
    failure = Failure(1, 5.0, culprit, ())
    *first, last = advise(failure, plan)
    assert last == f"fcn4dist launch --resume {tmp_path} goes on from step-00000120; --max-restarts N does so by itself"
    assert len(first) == (advice is not None)
    assert advice is None or first[0].startswith(advice)
    screen = format_failure(failure, RunDir(tmp_path))
    assert screen.startswith("rank 1 on node-a failed first: ")
    assert "its peak memory: 3.00 GB" in screen
