from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fcn4dist.config import BatchPlan
from fcn4dist.errors import Fcn4distError, Interrupted, JobError, UserError
from fcn4dist.files import save_json
from fcn4dist.hosts.roster import Layout, Node
from fcn4dist.hosts.session import Verdict
from fcn4dist.job.devices import CoreShare
from fcn4dist.job.events import Exited
from fcn4dist.job.failure import FailedProcess, Failure, WorkerError, format_failure
from fcn4dist.job.oom import BY_CGROUP, NOT_BY_KERNEL
from fcn4dist.job.plan import JobPlan, Meeting, WorkerSpec
from fcn4dist.job.process import ExitStatus, ProcessSpec
from fcn4dist.job.rank import Rank
from fcn4dist.job.stall import Stall
from fcn4dist.job.state import Outcome
from fcn4dist.launch.endings import advise, failure_of, find_own_failure, is_finished, said_how_to_go_on, tell
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import Pulse
from fcn4dist.run.state import RankEnd

LAYOUT = Layout(
    nodes=[
        Node(name="host-a", address="192.0.2.1", devices=2, first_rank=0),
        Node(name="host-b", address="192.0.2.2", devices=1, first_rank=2),
    ],
    run_dir="runs/x",
)


ALONE = Layout(nodes=LAYOUT.nodes[:1], run_dir="runs/x")
FULL = WorkerError(1.0, "JobError", "the checkpoint could not be written: No space left on device", "Traceback", 1)


def plan_of(run: RunDir, *, is_chief: bool = False) -> JobPlan:
    workers = tuple(
        WorkerSpec(Rank(number, 3, number), CoreShare((), 1), ProcessSpec(f"rank-{number}", ())) for number in range(3)
    )
    meeting = replace(Meeting.on_one_host(3, 23456), runs_scheduler=is_chief)
    return JobPlan(run, 1, "CPU", meeting, BatchPlan(8, 2), None, workers)


def told(verdict: Verdict, run: RunDir, layout: Layout = LAYOUT, *, is_chief: bool = False) -> Exception:
    """Return what the launcher of a host raises at the end."""
    with pytest.raises(Fcn4distError) as raised:
        tell(verdict, layout, plan_of(run, is_chief=is_chief))
    return raised.value


def failure(exit_code: int = 1, error: WorkerError | None = None) -> Failure:
    culprit = FailedProcess("rank-2", 2, "host-b", exit_code, None, None, error, "/r/rank-2.log", ["last words"])
    return Failure(1, 5.0, culprit, ())


def test_the_verdict_names_host_and_rank_on_every_host(tmp_path: Path) -> None:
    run = RunDir(tmp_path, node=1)
    error = told(Verdict("failure", 1, failure=asdict(failure())), run)
    assert isinstance(error, JobError)
    assert "rank 2 on host-b (node 1, rank 2) failed first: exit code 1" in str(error)
    assert "last words" in str(error)
    assert '"rank": 2' in run.failure.read_text()
    assert run.failure.name == "failure-node1.json"


def test_a_users_mistake_on_another_host_is_one_here(tmp_path: Path) -> None:
    mistake = WorkerError(5.0, "DataError", "shard 3 is damaged", "Traceback ...", 2)
    error = told(Verdict("failure", 1, failure=asdict(failure(2, mistake))), RunDir(tmp_path))
    assert isinstance(error, UserError)
    assert str(error) == "host-b (node 1, rank 2): shard 3 is damaged"


def test_a_launcher_that_is_gone_is_named(tmp_path: Path) -> None:
    error = told(Verdict("lost", 0, text="the connection was closed"), RunDir(tmp_path))
    assert isinstance(error, JobError)
    first, how = str(error).splitlines()
    assert first.startswith("the launcher of host-a (node 0, ranks 0-1) is gone: the connection was closed; ")
    assert how.startswith(
        f"  next: fcn4dist launch --resume {tmp_path} on every host goes on from node 0's newest checkpoint"
    )
    assert '"host": "host-a"' in (tmp_path / "failure.json").read_text()


def test_a_failure_without_details_still_names_the_host(tmp_path: Path) -> None:
    error = told(Verdict("failure", 1, text="rank-2 failed"), RunDir(tmp_path))
    first, how = str(error).splitlines()
    assert first == "host-b (node 1, rank 2) failed first: rank-2 failed; the job was ended on all hosts"
    assert how.startswith(f"  next: fcn4dist launch --resume {tmp_path} on every host")


def test_a_signal_ends_all_hosts_with_its_code(tmp_path: Path) -> None:
    error = told(Verdict("signal", 1, 15), RunDir(tmp_path))
    assert isinstance(error, Interrupted)
    assert error.exit_code == 143
    assert "ended by SIGTERM on host-b (node 1, rank 2)" in str(error)


def test_a_stop_on_request_says_where_it_goes_on(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    stopped_at(run, 12)
    error = told(Verdict("signal", 1, 10), run)
    assert "stopped by SIGUSR1 on host-b (node 1, rank 2) after step 12 of 60, checkpoint saved on node 0" in str(error)


def stopped_at(run: RunDir, step: int, stopped_by: int | None = 0) -> None:
    run.logs(1).mkdir(parents=True, exist_ok=True)
    save_json(run.end(1, "rank-0"), asdict(RankEnd(step, 60, stopped_by)))


def test_an_end_before_the_first_checkpoint_says_that_nothing_was_saved(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    error = told(Verdict("signal", 0, 2), run, ALONE, is_chief=True)
    assert str(error) == (f"ended by SIGINT; nothing was saved yet: fcn4dist launch --resume {tmp_path} begins anew")
    (run.checkpoints / "step-00000120").mkdir(parents=True)
    error = told(Verdict("signal", 0, 2), run, ALONE, is_chief=True)
    assert str(error) == f"ended by SIGINT; go on with: fcn4dist launch --resume {tmp_path}"


def test_a_rank_that_was_asked_to_stop_stops_the_job_on_one_host_and_on_many(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    stopped_at(run, 12, 10)
    for layout in (ALONE, LAYOUT):
        error = told(Verdict("success"), run, layout)
        assert isinstance(error, Interrupted)
        assert (error.exit_code, str(error).split(";")[0][:43]) == (138, "stopped by SIGUSR1 after step 12 of 60, che")


def test_a_signal_that_comes_when_all_is_done_changes_nothing(tmp_path: Path) -> None:
    run, killed = RunDir(tmp_path), Exited(2.0, "rank-0", ExitStatus(None, 15))
    stopped_at(run, 60, None)
    assert is_finished(Outcome("signal", 15), plan_of(run))
    assert not is_finished(Outcome("signal", 15, consequences=(killed,)), plan_of(run))
    stopped_at(run, 12)
    assert not is_finished(Outcome("signal", 15), plan_of(run))


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
    found = Failure(1, 5.0, culprit, ())
    *first, last = advise(found, plan_of(RunDir(tmp_path)), ALONE)
    assert last == f"fcn4dist launch --resume {tmp_path} goes on from step-00000120; --max-restarts N does so by itself"
    assert len(first) == (advice is not None)
    assert advice is None or first[0].startswith(advice)
    assert advise(found, plan_of(RunDir(tmp_path)), LAYOUT)[:-1] == tuple(first)
    screen = format_failure(found, RunDir(tmp_path))
    assert screen.startswith("rank 1 on node-a failed first: ")
    assert "its peak memory: 3.00 GB" in screen


def test_only_what_failed_by_itself_is_this_hosts_failure(tmp_path: Path) -> None:
    killed, peer = Exited(2.0, "rank-0", ExitStatus(None, 15)), Exited(2.0, "node-1", ExitStatus(1))
    run = RunDir(tmp_path)
    assert find_own_failure(Outcome("failure", failures=(peer,), consequences=(killed,)), run, 1, "host-a") is None
    assert find_own_failure(Outcome("success"), run, 1, "host-a") is None
    own = Exited(1.0, "rank-1", ExitStatus(7))
    found = find_own_failure(Outcome("failure", failures=(own,), consequences=(killed, peer)), run, 1, "host-a")
    assert found is not None
    assert (found.culprit.rank, found.culprit.host, found.culprit.exit_code) == (1, "host-a", 7)
    assert [process.process for process in found.consequences] == ["rank-0"]


def test_a_hang_names_the_rank_that_all_hosts_see_standing_apart(tmp_path: Path) -> None:
    """Host B's own account names nobody: its ranks alone look alike."""
    exits = (Exited(2.0, "node-0", ExitStatus(1)), Exited(2.0, "rank-2", ExitStatus(None, 9)))
    own = Stall(60, {"rank-2": Pulse("step", 7), "rank-3": Pulse("step", 7)})
    run = RunDir(tmp_path, node=1)
    account = find_own_failure(Outcome("failure", None, (), exits, own), run, 1, "host-b")
    assert account is not None
    stall = Stall(61, {"rank-0": Pulse("step", 8), "rank-1": Pulse("step", 8), "rank-2": Pulse("step", 7)}).to_json()
    verdict = Verdict("failure", 1, None, "the job hung", asdict(account), stall)
    text = str(told(verdict, run))
    assert text.startswith(
        "rank 2 on host-b (node 1, rank 2) failed first: the job hung: no step was finished for 61 s: "
    )
    assert str(run.log(1, "rank-2")) in text
    assert json.loads(run.failure.read_text())["culprit"]["host"] == "host-b"
    unknown = str(told(replace(verdict, failure=None), run))
    assert unknown.startswith("rank 2 on host-b (node 1, rank 2) failed first: the job hung: ")


def test_a_hang_in_which_no_rank_of_any_host_stands_apart_names_the_collective(tmp_path: Path) -> None:
    stall = Stall(61, {f"rank-{n}": Pulse("step", 8) for n in range(3)}).to_json()
    verdict = Verdict("failure", 0, None, "the job hung", None, stall)
    text = str(told(verdict, RunDir(tmp_path)))
    assert text.startswith("the job hung in the collective of step 8 on all hosts, and no rank stands apart: ")
    assert failure_of(verdict, LAYOUT, 1).kind == "the collective of step 8: hung"


def test_a_launcher_that_dies_between_two_attempts_ends_the_job_and_it_says_how_to_go_on(tmp_path: Path) -> None:
    gone = JobError("the launcher of node 0 at 192.0.2.1 is gone: the connection was closed")
    with (
        pytest.raises(
            JobError, match=rf"is gone: .*\n  next: fcn4dist launch --resume {tmp_path} on every host"
        ) as raised,
        said_how_to_go_on(RunDir(tmp_path), LAYOUT, has_run=True),
    ):
        raise gone
    assert "--max-restarts does not bring back" in str(raised.value)
    with pytest.raises(JobError) as before, said_how_to_go_on(RunDir(tmp_path), LAYOUT, has_run=False):
        raise gone
    assert before.value is gone


PLOG = """[EVENT] HCCL(991,python):2026-11-02-11:04:05.000.001 [op_base.cc:900] Entry-HcclGetRootInfo
[ERROR] HCCL(991,python):2026-11-02-11:06:05.123.456 [hccl_socket_manager.cc:778] wait socket establish timeout, role[1]
[ERROR] HCCL(991,python):2026-11-02-11:06:05.123.999 [topoinfo.cc:80] EI0006: Getting socket times out. Reason: no peer
"""


def test_what_cann_wrote_into_its_log_is_explained_and_the_log_is_named(tmp_path: Path) -> None:
    """The lines are as in github.com/vllm-project/vllm-ascend/issues/1955."""
    run = RunDir(tmp_path)
    plog = run.plog(1, "rank-1") / "debug/plog/plog-991_20261102110405.log"
    plog.parent.mkdir(parents=True)
    plog.write_text(PLOG)
    run.log(1, "rank-1").write_text("RuntimeError: Init hccl failed\n")
    outcome = Outcome("failure", failures=(Exited(5.0, "rank-1", ExitStatus(1)),))
    found = find_own_failure(outcome, run, 1, "node-a")
    assert found is not None
    plan = replace(plan_of(run, is_chief=True), target="Ascend")
    steps = advise(found, plan, ALONE)
    assert steps[0].startswith("EI0006, a rank did not reach another one in time")
    assert "launch.hccl_connect_timeout_s" in steps[0]
    shown = format_failure(replace(found, next_steps=steps), run)
    assert f"its log: {run.log(1, 'rank-1')}; CANN's: {run.plog(1, 'rank-1')}" in shown
    assert advise(found, replace(plan, target="CPU"), ALONE) == steps[1:]
