from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fcn4dist.errors import Interrupted, JobError, UserError
from fcn4dist.hosts.roster import Layout, Node
from fcn4dist.hosts.session import Verdict
from fcn4dist.job.events import Exited
from fcn4dist.job.failure import FailedProcess, Failure, WorkerError
from fcn4dist.job.process import ExitStatus
from fcn4dist.job.stall import Stall
from fcn4dist.job.state import Outcome
from fcn4dist.launch.verdict import explain_verdict, failure_of, find_own_failure, said_how_to_go_on
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


def failure(exit_code: int = 1, error: WorkerError | None = None) -> Failure:
    culprit = FailedProcess("rank-2", 2, "host-b", exit_code, None, None, error, "/r/rank-2.log", ["last words"])
    return Failure(1, 5.0, culprit, ())


def test_the_verdict_names_host_and_rank_on_every_host(tmp_path: Path) -> None:
    run = RunDir(tmp_path, node=1)
    error = explain_verdict(Verdict("failure", 1, failure=asdict(failure())), LAYOUT, run, 1)
    assert isinstance(error, JobError)
    assert "rank 2 on host-b (node 1, rank 2) failed first: exit code 1" in str(error)
    assert "last words" in str(error)
    assert '"rank": 2' in run.failure.read_text()
    assert run.failure.name == "failure-node1.json"


def test_a_users_mistake_on_another_host_is_one_here(tmp_path: Path) -> None:
    mistake = WorkerError(5.0, "DataError", "shard 3 is damaged", "Traceback ...", 2)
    error = explain_verdict(Verdict("failure", 1, failure=asdict(failure(2, mistake))), LAYOUT, RunDir(tmp_path), 1)
    assert isinstance(error, UserError)
    assert str(error) == "host-b (node 1, rank 2): shard 3 is damaged"


def test_a_launcher_that_is_gone_is_named(tmp_path: Path) -> None:
    error = explain_verdict(Verdict("lost", 0, text="the connection was closed"), LAYOUT, RunDir(tmp_path), 1)
    assert isinstance(error, JobError)
    first, how = str(error).splitlines()
    assert first.startswith("the launcher of host-a (node 0, ranks 0-1) is gone: the connection was closed; ")
    assert how.startswith(
        f"  next: fcn4dist launch --resume {tmp_path} on every host goes on from node 0's newest checkpoint"
    )
    assert '"host": "host-a"' in (tmp_path / "failure.json").read_text()


def test_a_failure_without_details_still_names_the_host(tmp_path: Path) -> None:
    error = explain_verdict(Verdict("failure", 1, text="rank-2 failed"), LAYOUT, RunDir(tmp_path), 1)
    first, how = str(error).splitlines()
    assert first == "host-b (node 1, rank 2) failed first: rank-2 failed; the job was ended on all hosts"
    assert how.startswith(f"  next: fcn4dist launch --resume {tmp_path} on every host")


def test_a_signal_ends_all_hosts_with_its_code(tmp_path: Path) -> None:
    error = explain_verdict(Verdict("signal", 1, 15), LAYOUT, RunDir(tmp_path), 1)
    assert isinstance(error, Interrupted)
    assert error.exit_code == 143
    assert "ended by SIGTERM on host-b (node 1, rank 2)" in str(error)


def test_a_stop_on_request_says_where_it_goes_on(tmp_path: Path) -> None:
    error = explain_verdict(Verdict("signal", 1, 10), LAYOUT, RunDir(tmp_path), 1, end=RankEnd(12, 60, 0))
    assert "stopped by SIGUSR1 on host-b (node 1, rank 2) after step 12 of 60, checkpoint saved on node 0" in str(error)


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
    text = str(explain_verdict(verdict, LAYOUT, run, 1))
    assert text.startswith(
        "rank 2 on host-b (node 1, rank 2) failed first: the job hung: no step was finished for 61 s: "
    )
    assert str(run.log(1, "rank-2")) in text
    assert json.loads(run.failure.read_text())["culprit"]["host"] == "host-b"
    unknown = str(explain_verdict(replace(verdict, failure=None), LAYOUT, run, 1))
    assert unknown.startswith("rank 2 on host-b (node 1, rank 2) failed first: the job hung: ")


def test_a_hang_in_which_no_rank_of_any_host_stands_apart_names_the_collective(tmp_path: Path) -> None:
    stall = Stall(61, {f"rank-{n}": Pulse("step", 8) for n in range(3)}).to_json()
    verdict = Verdict("failure", 0, None, "the job hung", None, stall)
    text = str(explain_verdict(verdict, LAYOUT, RunDir(tmp_path), 1))
    assert text.startswith("the job hung in the collective of step 8 on all hosts, and no rank stands apart: ")
    assert failure_of(verdict, LAYOUT, 1).kind == "the collective of step 8: hung"


def test_a_launcher_that_dies_between_two_attempts_ends_the_job_and_it_says_how_to_go_on(tmp_path: Path) -> None:
    gone = JobError("the launcher of node 0 at 192.0.2.1 is gone: the connection was closed")
    with (
        pytest.raises(
            JobError, match=rf"is gone: .*\n  next: fcn4dist launch --resume {tmp_path} on every host"
        ) as raised,
        said_how_to_go_on(RunDir(tmp_path), has_run=True),
    ):
        raise gone
    assert "--max-restarts does not bring back" in str(raised.value)
    with pytest.raises(JobError) as before, said_how_to_go_on(RunDir(tmp_path), has_run=False):
        raise gone
    assert before.value is gone
