"""The pipeline's decisions with sessions and attempts that follow a script: no process, no connection."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fcn4dist.ascend.devices import number_devices
from fcn4dist.config import load_config
from fcn4dist.errors import ConfigError, Interrupted, JobError
from fcn4dist.files import save_json
from fcn4dist.hosts.local import LocalSession
from fcn4dist.hosts.roster import Go, HostCard, Layout, Node, Readiness
from fcn4dist.hosts.session import Kind, Say, Session, Verdict
from fcn4dist.job.console import JobConsole
from fcn4dist.job.devices import CoreShare, HostDevices
from fcn4dist.job.events import Beat, Exited, Inbox
from fcn4dist.job.failure import FailedProcess, Failure
from fcn4dist.job.plan import JobPlan
from fcn4dist.job.process import ExitStatus
from fcn4dist.job.stall import Stall
from fcn4dist.job.state import Outcome
from fcn4dist.launch import endings
from fcn4dist.launch.host_job import HostJob, LaunchRequest
from fcn4dist.launch.pipeline import Attempt, run_to_the_end
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import Pulse
from fcn4dist.run.state import RankEnd

NODES = [
    Node(name="host-a", address="127.0.0.1", devices=1, first_rank=0),
    Node(name="host-b", address="127.0.0.2", devices=1, first_rank=1),
]
SUCCESS = Outcome("success")
BROKEN = Outcome("failure", failures=(Exited(1.0, "rank-0", ExitStatus(7)),))


def card(node_rank: int, num_nodes: int) -> HostCard:
    return HostCard(
        node_rank=node_rank, num_nodes=num_nodes, host="host",
        address="127.0.0.1", devices=1, target="CPU", resume=False, rank_table="auto", versions={}, config=None,
    )  # fmt: skip


class ScriptedMaster(Session):
    """A master whose other host says what the script has for it."""

    def __init__(self, other: Readiness | Exception, verdicts: Sequence[Verdict] = ()) -> None:
        super().__init__(card(0, 2))
        self.layout = Layout(nodes=NODES, run_dir="runs/x")
        self.peers = ("node-1",)
        self.said: list[Any] = []  # to the other host
        self._other, self._verdicts = other, iter(verdicts)

    def join(self, limit_s: float, run_dir: str, say: Say) -> Layout:
        return self.layout

    def gather(self, ready: Readiness, say: Say) -> list[Readiness]:
        if isinstance(self._other, Exception):
            raise self._other
        return [ready, self._other]

    def begin(self, go: Go | None) -> Go:
        assert go is not None
        self.said.append(go)
        return go

    def conclude(self, kind: Kind, failure: dict[str, Any] | None) -> Verdict:
        found = next(self._verdicts)
        return replace(found, failure=failure) if self.is_chief and found.node_rank == 0 else found

    def pronounce(self, verdict: Verdict) -> None:
        self.said.append(verdict)

    def give_up(self, error: Exception) -> None:
        self.said.append(error)


class ScriptedMember(ScriptedMaster):
    """Host B, whose master's words are the script."""

    is_chief = False

    def __init__(self, go: Go, verdicts: Sequence[Verdict]) -> None:
        super().__init__(Readiness(attempt=1, data={}, data_dir=""), verdicts)
        self.card = card(1, 2)
        self._go = go

    def begin(self, go: Go | None) -> Go:
        assert go is None
        self._go = self._go.model_copy(update={"attempt": self._go.attempt + 1})
        return self._go


class Attempts:
    """Attempts that end as the script says; the plans are kept."""

    def __init__(self, *outcomes: Outcome, has_progress: bool = True, end: RankEnd | None = None) -> None:
        self._outcomes, self._has_progress, self._end = iter(outcomes), has_progress, end
        self.plans: list[JobPlan] = []

    def __call__(self, plan: JobPlan, shown: JobConsole, **_limits: Any) -> Outcome:
        self.plans.append(plan)
        plan.run_dir.logs(plan.attempt).mkdir(parents=True)
        if self._end is not None:
            save_json(plan.run_dir.end(plan.attempt, plan.workers[0].process.name), asdict(self._end))
        if self._has_progress:
            for phase in ("compiling", "step"):
                shown.on_event(Beat(1.0, "rank-0", Pulse(phase, 1)))
        return next(self._outcomes)


Launched = Callable[..., str]


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launched:
    """Run a scripted job on this host and return what the user saw."""
    output = io.StringIO()

    def run(session: Session, attempt: Attempt, *, max_restarts: int = 0) -> str:
        overrides = ["train.global_batch=4", f"launch.max_restarts={max_restarts}", f"data.records_dir={tmp_path}"]
        run_dir = RunDir(tmp_path / "run", session.card.node_rank)
        run_dir.path.mkdir()
        host = HostDevices("CPU", number_devices(1), (CoreShare((), 1),), avx512_guard=False)
        job = HostJob(
            *(load_config(overrides=overrides), LaunchRequest(), host, session, run_dir),
            Console(file=output, width=200),
        )
        ready = Readiness(attempt=1, data={}, data_dir=str(tmp_path))
        last_line = run_to_the_end(job, ready, attempt)
        return f"{output.getvalue()}{last_line}"

    monkeypatch.setattr(endings, "FIRST_DELAY_S", 0.01)
    return run


def other(**changes: Any) -> Readiness:
    return Readiness(**{"attempt": 3, "data": {}, "data_dir": "/data", **changes})


def failed_there(kind: int = 7) -> dict[str, Any]:
    culprit = FailedProcess("rank-1", 1, "host-b", kind, None, None, None, "/r/rank-1.log", ["last words"])
    return asdict(Failure(1, 5.0, culprit, ()))


def test_hosts_agree_on_the_masters_config_and_the_highest_attempt(launched: Launched) -> None:
    session, attempts = ScriptedMaster(other(), [Verdict("success")]), Attempts(SUCCESS)
    assert launched(session, attempts).startswith("done: ")
    go, verdict = session.said
    assert (go.attempt, go.scheduler_host, verdict) == (3, "127.0.0.1", Verdict("success"))
    assert attempts.plans[0].attempt == 3
    assert [worker.rank.world_size for worker in attempts.plans[0].workers] == [2]


def test_a_member_runs_what_the_master_decided(launched: Launched, tmp_path: Path) -> None:
    decided = load_config(overrides=["train.global_batch=6", "data.records_dir=/of/node/0"]).model_dump(mode="json")
    go = Go(scheduler_host="127.0.0.1", scheduler_port=23456, attempt=2, config=decided)
    attempts = Attempts(SUCCESS)
    assert launched(ScriptedMember(go, [Verdict("success")]), attempts).startswith("done: rank 1, ")
    (plan,) = attempts.plans
    assert (plan.batches.global_batch, plan.meeting.first_rank, plan.scheduler) == (6, 1, None)
    assert load_config(plan.run_dir.config).data.records_dir == tmp_path  # its own


def test_other_data_on_the_other_host_is_refused_before_anything_starts(launched: Launched) -> None:
    session, attempts = ScriptedMaster(other(data={"labels": "x"})), Attempts()
    with pytest.raises(ConfigError, match=r"/data on host-b \(node 1, rank 1\) is not the data set .*: labels differs"):
        launched(session, attempts)
    assert [type(said) for said in session.said] == [ConfigError]  # and told
    assert attempts.plans == []


def test_a_failure_there_starts_all_hosts_again(launched: Launched) -> None:
    verdicts = [Verdict("failure", 1, failure=failed_there()), Verdict("success")]
    session, attempts = ScriptedMaster(other(attempt=1), verdicts), Attempts(Outcome("failure"), SUCCESS)
    output = launched(session, attempts, max_restarts=2)
    assert "rank 1 on host-b failed first: exit code 7" in output
    assert "restart 1 of 2 in 0.01 s, from the start" in output
    assert [plan.attempt for plan in attempts.plans] == [1, 2]
    assert [said.restart_in_s for said in session.said if isinstance(said, Verdict)] == [0.01, None]


def test_the_restarts_of_a_member_are_the_masters(launched: Launched) -> None:
    decided = load_config(overrides=["train.global_batch=6"]).model_dump(mode="json")
    go = Go(scheduler_host="127.0.0.1", scheduler_port=23456, attempt=1, config=decided)
    session = ScriptedMember(go, [Verdict("failure", 0, failure=failed_there(), restart_in_s=0.01), Verdict("success")])
    attempts = Attempts(Outcome("failure"), SUCCESS)
    assert "from where node 0 has a checkpoint" in launched(session, attempts, max_restarts=0)
    assert [plan.attempt for plan in attempts.plans] == [2, 3]


def test_a_port_that_another_program_took_is_replaced_on_all_hosts_at_once(launched: Launched, tmp_path: Path) -> None:
    verdicts = [Verdict("failure", 0, text="scheduler ended: exit code 1"), Verdict("success")]
    session, stranger = ScriptedMaster(other(attempt=1), verdicts), socket.socket()
    failed = Outcome("failure", failures=(Exited(1.0, "scheduler", ExitStatus(1)),))
    attempts = Attempts(failed, SUCCESS, has_progress=False)

    def lose_the_port(plan: JobPlan, shown: JobConsole, **limits: Any) -> Outcome:
        if not attempts.plans:
            stranger.bind(("127.0.0.1", plan.meeting.scheduler_port))
            stranger.listen(1)
        return attempts(plan, shown, **limits)

    with stranger:
        output = launched(session, lose_the_port)
    first, second = (plan.meeting.scheduler_port for plan in attempts.plans)
    assert f"port {first} was taken by another program; starting with another one" in output
    assert second != first
    assert session.said[1].restart_in_s == 0.0
    assert not (tmp_path / "run/failure.json").exists()


def test_one_host_restarts_as_often_as_asked_and_then_says_why_not(launched: Launched, tmp_path: Path) -> None:
    session, attempts = LocalSession(card(0, 1)), Attempts(BROKEN, BROKEN)
    session.join(1, "runs/x", print)
    with pytest.raises(JobError, match=r"(?s)rank 0 on .*exit code 7.*all 1 restarts are used up"):
        launched(session, attempts, max_restarts=1)
    assert [plan.attempt for plan in attempts.plans] == [1, 2]
    assert json.loads((tmp_path / "run/failure.json").read_text())["attempt"] == 2


def test_a_lost_launcher_is_named_and_nothing_starts_again(launched: Launched) -> None:
    session = ScriptedMaster(other(attempt=1), [Verdict("lost", 1, text="the connection was closed")])
    with pytest.raises(JobError, match=r"(?s)the launcher of host-b \(node 1, rank 1\) is gone: .*does not bring back"):
        launched(session, Attempts(Outcome("failure")), max_restarts=5)
    (_, verdict) = session.said
    assert verdict.restart_in_s is None


def test_a_launcher_that_is_gone_before_the_restart_leaves_word_how_to_go_on(launched: Launched) -> None:
    session = ScriptedMaster(other(attempt=1), [Verdict("failure", 1, failure=failed_there())])
    attempts = Attempts(Outcome("failure"))
    real = session.gather

    def gather(ready: Readiness, say: Say) -> list[Readiness]:
        if attempts.plans:
            raise JobError("the launcher of host-b (node 1, rank 1) is gone")
        return real(ready, say)

    session.gather = gather  # type: ignore[method-assign]
    with pytest.raises(JobError, match=r"(?s)host-b .* is gone\n  next: fcn4dist launch --resume .* on every host"):
        launched(session, attempts, max_restarts=5)


def test_a_stop_on_the_other_host_ends_this_one_with_its_code_and_the_step(launched: Launched) -> None:
    session = ScriptedMaster(other(), [Verdict("signal", 1, signal.SIGTERM)])
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM on host-b .* after step 5 of 60, checkpoint saved") as e:
        launched(session, Attempts(Outcome("signal", signal.SIGTERM), end=RankEnd(5, 60, 0)), max_restarts=5)
    assert e.value.exit_code == 143


def test_a_hang_names_the_rank_that_all_hosts_see(launched: Launched) -> None:
    stall = Stall(61, {"rank-0": Pulse("step", 8), "rank-1": Pulse("data", 8)}).to_json()
    session = ScriptedMaster(other(), [Verdict("failure", 1, None, "the job hung", failed_there(), stall)])
    with pytest.raises(JobError, match=r"rank 1 on host-b \(node 1, rank 1\) failed first: the job hung: "):
        launched(session, Attempts(Outcome("failure")))


def test_the_second_signal_of_a_closing_terminal_does_not_end_the_launcher_before_it_has_spoken(
    launched: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGHUP comes twice while the job waits for its restart; the second one must not meet the handler of before."""
    monkeypatch.setattr(endings, "FIRST_DELAY_S", 30.0)
    monkeypatch.setattr(endings, "SECOND_SIGNAL_S", 0.05)
    session = LocalSession(card(0, 1))
    session.join(1, "runs/x", print)
    hear_first, hear_second = endings.signals_into, endings._hear_out  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def signalled(*inbox_and_clock: Any) -> Iterator[None]:
        with hear_first(*inbox_and_clock):
            os.kill(os.getpid(), signal.SIGHUP)
            yield

    def hear_out(inbox: Inbox) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        hear_second(inbox)

    monkeypatch.setattr(endings, "signals_into", signalled)
    monkeypatch.setattr(endings, "_hear_out", hear_out)
    with pytest.raises(Interrupted, match="ended by SIGHUP; nothing was saved yet") as raised:
        launched(session, Attempts(BROKEN), max_restarts=1)
    assert raised.value.exit_code == 129
