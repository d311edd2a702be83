"""Launchers that meet over real connections on loopback, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcn4dist.errors import ConfigError, DataError, Fcn4distError, JobError, UserError
from fcn4dist.hosts import transport
from fcn4dist.hosts.master import MasterSession, compare_clocks
from fcn4dist.hosts.member import MemberSession
from fcn4dist.hosts.roster import Go, HostCard, Readiness
from fcn4dist.hosts.session import GIVE_UP_S, VERDICT_S, Kind, Session, Verdict
from fcn4dist.hosts.transport import Mail
from fcn4dist.hosts.wire import Wire, greet_as_member
from fcn4dist.job.events import Event, Exited, Inbox, PeerEnds, PeerStalls, Signalled, Stalled
from fcn4dist.job.oom import DMESG_LIMIT_S
from fcn4dist.job.ports import choose_port
from fcn4dist.job.process import ExitStatus
from fcn4dist.job.stall import Stall, parse_stall
from fcn4dist.job.state import FAILURE_GRACE_S, Send
from fcn4dist.launch.pipeline import told
from fcn4dist.run.pulse import Pulse
from fcn4dist.train.bring_up import wait_until_listening

HOST = "127.0.0.1"
SECRET = b"sixteen characters"
READY = Readiness(attempt=1, data={}, data_dir="/data")
GO = Go(scheduler_host=HOST, scheduler_port=1, attempt=3, config={})
FAILURE = {"attempt": 3, "culprit": "rank 1"}


class Meeting:
    """A port, and sessions that are closed at the end."""

    def __init__(self) -> None:
        self.port = choose_port()
        self.addresses: tuple[str, ...] = (HOST,)
        self.sessions: list[Session] = []

    def master(self, num_nodes: int = 2, **changes: Any) -> MasterSession:
        session = MasterSession(card(0, num_nodes, **changes), self.port, SECRET, None)
        self.sessions.append(session)
        return session

    def member(self, node_rank: int = 1, num_nodes: int = 2, secret: bytes = SECRET, **changes: Any) -> MemberSession:
        session = MemberSession(card(node_rank, num_nodes, **changes), (self.addresses, self.port), secret)
        self.sessions.append(session)
        return session


def card(node_rank: int, num_nodes: int, **changes: Any) -> HostCard:
    values: dict[str, Any] = {
        "node_rank": node_rank, "num_nodes": num_nodes, "host": f"host-{node_rank}", "address": HOST, "devices": 1,
        "target": "CPU", "resume": False, "rank_table": "auto", "versions": {}, "config": {},
    }  # fmt: skip
    return HostCard(**{**values, **changes})


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    made = Meeting()
    yield made
    for session in made.sessions:
        session.close()


def together(*works: Callable[[], Any]) -> list[Any]:
    """Run all at once and return their results, or the errors that users would see."""
    results: list[Any] = [None] * len(works)

    def run(index: int) -> None:
        try:
            results[index] = works[index]()
        except Fcn4distError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), results
    return results


def until(is_true: Callable[[], bool], limit_s: float = 10) -> None:
    """Wait for a state that the transport's thread brings about."""
    end_s = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def join(session: Session, limit_s: float = 10) -> Callable[[], Any]:
    return lambda: session.join(limit_s, "runs/x", lambda _text: None)


def agree(session: Session, decide: Callable[[list[Readiness]], Go] = lambda _readies: GO) -> Callable[[], Any]:
    def work() -> Go:
        readies = session.gather(READY, lambda _text: None)
        with told(session):
            go = decide(readies) if session.is_chief else None
        return session.begin(go)

    return work


def conclude(
    session: Session, kind: Kind, failure: dict[str, Any] | None, restart_in_s: float | None = None
) -> Verdict:
    """Return the verdict as all hosts have it."""
    verdict = session.conclude(kind, failure)
    if session.is_chief:
        verdict = replace(verdict, restart_in_s=restart_in_s)
        session.pronounce(verdict)
    return verdict


def running(meeting: Meeting) -> tuple[MasterSession, MemberSession, Inbox, Inbox]:
    """Two sessions whose job runs."""
    master, member = meeting.master(), meeting.member()
    together(join(master), join(member))
    together(agree(master), agree(member))
    inboxes = Inbox(), Inbox()
    master.attach(inboxes[0], time.time)
    member.attach(inboxes[1], time.time)
    return master, member, *inboxes


def next_event(inbox: Inbox) -> Event:
    try:
        return inbox.get(timeout=10)
    except queue.Empty:
        raise AssertionError("no event within 10 s") from None


def test_hosts_meet_in_any_order_and_get_the_masters_word(meeting: Meeting) -> None:
    late = meeting.member(1, 3)
    early = meeting.member(2, 3)
    master: list[MasterSession] = []

    def begin() -> Any:
        master.append(meeting.master(3))  # members tried before
        return join(master[0])()

    layouts = together(join(late), join(early), begin)
    assert layouts[0] == layouts[1] == layouts[2]
    assert [node.first_rank for node in layouts[0].nodes] == [0, 1, 2]
    assert layouts[0].run_dir == "runs/x"
    assert master[0].peers == ("node-1", "node-2")
    assert together(agree(late), agree(early), agree(master[0])) == [GO, GO, GO]


def test_another_secret_is_refused_on_the_member_and_logged_on_the_master(
    meeting: Meeting, caplog: pytest.LogCaptureFixture
) -> None:
    master, stranger, member = meeting.master(), meeting.member(secret=b"another secret here"), meeting.member()
    with caplog.at_level(logging.WARNING):
        with pytest.raises(ConfigError, match=r"another job secret there\?"):
            join(stranger)()
        layouts = together(join(master), join(member))  # the job is not disturbed
    assert layouts[0] == layouts[1]
    assert "dropped: did not prove the job's secret" in caplog.text


def test_a_stranger_that_says_nothing_is_dropped(
    meeting: Meeting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "GREETING_S", 0.2)
    meeting.master()
    with socket.create_connection((HOST, meeting.port), timeout=10) as stranger:
        greeting = stranger.recv(4096)
        assert greeting.startswith(b"fcn4dist launch 1\n")
        assert SECRET not in greeting
        assert stranger.recv(4096) == b""
    assert "did not prove the job's secret within 0.2 s" in caplog.text


def test_forty_connections_of_a_stranger_keep_nobody_out_and_fill_no_log(
    meeting: Meeting, caplog: pytest.LogCaptureFixture
) -> None:
    """The stranger has an address of its own; 40 of its connections say nothing, each holds its place for 5 s."""
    master, member = meeting.master(), meeting.member()
    with contextlib.ExitStack() as stack, caplog.at_level(logging.WARNING):
        strangers = [
            stack.enter_context(
                socket.create_connection((HOST, meeting.port), timeout=10, source_address=("127.0.0.66", 0))
            )
            for _ in range(40)
        ]
        answers = []
        for stranger in strangers:
            with contextlib.suppress(ConnectionResetError):
                answers.append(stranger.recv(1))
        layouts = together(join(master), join(member))
    assert layouts[0] == layouts[1]
    assert answers.count(b"f") == transport.MAX_OF_ADDRESS
    lines = [record.message for record in caplog.records]
    assert lines[0].startswith("connection from 127.0.0.66 port ")
    assert lines[0].endswith("dropped: 16 others from there have not proved the job's secret yet")
    assert len(lines) == transport.LOG_LINES + 1
    assert lines[-1] == f"{40 - transport.MAX_OF_ADDRESS - transport.LOG_LINES} more connections were dropped"


def test_unproved_connections_are_limited_in_all(
    meeting: Meeting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_STRANGERS", 1)
    meeting.master()
    with socket.create_connection((HOST, meeting.port), timeout=10) as first:
        assert first.recv(1)
        source = ("127.0.0.66", 0)
        with socket.create_connection((HOST, meeting.port), timeout=10, source_address=source) as second:
            assert second.recv(1) == b""
    assert "dropped: 1 others have not proved the job's secret yet" in caplog.text


@pytest.mark.parametrize("what_is_said", [b"", b"fcn4dist launch 1\n" + bytes(32)])
def test_a_connection_that_closes_during_the_handshake_is_tried_again(meeting: Meeting, what_is_said: bytes) -> None:
    """As a master does that is busy, or a proxy whose master is not there yet; the real one takes the port then."""
    master: list[MasterSession] = []
    member = meeting.member()
    with socket.create_server((HOST, meeting.port)) as server:

        def begin() -> Any:
            connection, _ = server.accept()
            with connection:
                connection.sendall(what_is_said)
                if what_is_said:
                    assert len(connection.recv(64)) == 64
            server.close()
            master.append(meeting.master())
            return join(master[0])()

        layouts = together(begin, join(member))
    assert layouts[0] == layouts[1]


def test_all_addresses_of_the_master_are_tried(meeting: Meeting) -> None:
    """At the first nobody listens, at the second somebody of another job does."""
    meeting.addresses = ("127.0.0.77", "127.0.0.78", HOST)
    late = meeting.member()
    other = MasterSession(card(0, 2, address="127.0.0.78"), meeting.port, b"another secret here", None)
    meeting.sessions.append(other)
    layouts = together(join(late), lambda: join(meeting.master())())
    assert layouts[0] == layouts[1]


def test_hosts_that_have_ipv6_alone_meet(meeting: Meeting) -> None:
    meeting.addresses = ("::1",)
    master, member = meeting.master(address="::1"), meeting.member(address="::1")
    with pytest.raises(ConfigError, match=f"--master-port {meeting.port}: already in use on ::1"):
        MasterSession(card(0, 2, address="::1"), meeting.port, SECRET, None)
    layouts = together(join(master), join(member))
    assert [node.address for node in layouts[1].nodes] == ["::1", "::1"]


def test_a_host_that_comes_after_a_refusal_is_told_why(meeting: Meeting) -> None:
    master, wrong, said = meeting.master(3), meeting.member(1, 3, target="Ascend"), queue.SimpleQueue[str]()
    results: list[Any] = []

    def late() -> Any:
        while "waiting up to 30 s to tell the hosts that have not come" not in said.get(timeout=10):
            pass
        return join(meeting.member(2, 3))()

    results = together(lambda: master.join(10, "runs/x", said.put), join(wrong), late)
    for error in results:
        assert isinstance(error, UserError)
        assert "host-1 (node 1) has device target Ascend, host-0 (node 0) CPU" in str(error)


def test_a_refusal_is_told_for_a_while_only(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcn4dist.hosts.master.LINGER_S", 0.2)
    errors = together(join(meeting.master(3)), join(meeting.member(1, 3, resume=True)))
    assert all("has resume True" in str(error) for error in errors)


def test_members_hear_from_the_master_when_the_scheduler_listens(meeting: Meeting, tmp_path: Path) -> None:
    """The scheduler gets no connection from anybody: the master reads the kernel's table."""
    master, member = meeting.master(), meeting.member()
    together(join(master), join(member))
    together(agree(master), agree(member))
    port, mark = choose_port(), tmp_path / "logs" / "scheduler.listens"
    master.watch_scheduler(port, tmp_path / "of the master")
    member.watch_scheduler(port, mark)
    for session in (master, member):
        session.attach(Inbox(), time.time)
    assert not mark.exists()
    with socket.create_server((HOST, port)) as scheduler:
        wait_until_listening("192.0.2.1", port, 10, mark)  # another host's, which cannot be reached
        scheduler.setblocking(False)
        with pytest.raises(BlockingIOError):
            scheduler.accept()
    assert not (tmp_path / "of the master").exists()


def test_a_hundred_and_twenty_eight_launchers_meet_at_once(meeting: Meeting) -> None:
    """From one address, of which 16 connections at once may be unproved: the others come again."""
    sessions: list[Session] = [meeting.master(128), *(meeting.member(rank, 128) for rank in range(1, 128))]
    layouts = together(*map(join, sessions))
    assert all(layout == layouts[0] for layout in layouts)


def test_a_rank_table_is_queued_for_a_few_slow_hosts_at_a_time(meeting: Meeting) -> None:
    """2 MB for each of 40 hosts, none of which reads: the master does not hold 80 MB, and gives the others signs of life."""
    master = meeting.master(41)
    master.give_up_after(600)  # the hosts say nothing while they read, which takes long beside other work
    table = {"type": "go", "table": "x" * 2_000_000}

    async def be_hosts() -> int:
        wires = []
        for rank in range(1, 41):
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.setblocking(False)
            await asyncio.get_running_loop().sock_connect(narrow, (HOST, meeting.port))
            streams = await asyncio.open_connection(sock=narrow, limit=4096)
            wires.append(await greet_as_member(*streams, SECRET))
            wires[-1].send({"type": "hello", "card": card(rank, 41).model_dump()})
        until(lambda: len(master._nodes) == 40)
        for talk in master._hub._talks.values():  # as over a slow network
            talk.wire._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        master._tell_all(table)
        until(lambda: queued() > len(table["table"]))
        master._hub.call(asyncio.sleep(0))  # one turn of its loop, in which all that may be sent is
        most = queued()
        messages = await asyncio.gather(*(take(wire) for wire in wires))
        assert all(message == table for message in messages)
        for wire in wires:
            await wire.close()
        return most

    def queued() -> int:
        return sum(t.wire._writer.transport.get_write_buffer_size() for t in list(master._hub._talks.values()))

    async def take(wire: Wire) -> dict[str, Any]:
        while (message := await wire.receive()).get("type") != "go":
            pass
        return message

    _, most = together(join(master), lambda: asyncio.run(be_hosts()))
    assert 2_000_000 < most <= transport.LONG_AT_ONCE * 2_100_000


def test_a_rank_table_reaches_all_hosts_before_what_is_said_later(meeting: Meeting) -> None:
    """It goes to 8 of the 40 hosts at a time; what is short must not overtake it."""
    master = meeting.master(41)
    members = [meeting.member(rank, 41) for rank in range(1, 41)]
    together(join(master), *map(join, members))
    table = {"text": "x" * 2_000_000}
    go = GO.model_copy(update={"rank_table": table})

    def begin() -> Any:
        told = agree(master, lambda _: go)()
        master.give_up(JobError("said later"))
        return told

    results = together(begin, *map(agree, members))
    assert all(result == go for result in results)
    with pytest.raises(JobError, match="said later"):
        members[-1]._wait_for("go")


def test_something_else_on_the_port_is_not_a_master(meeting: Meeting) -> None:
    with socket.create_server((HOST, meeting.port)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.6 and so on, longer than any greeting of ours is" * 2)
                connection.recv(1)

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(ConfigError, match="is no fcn4dist launcher of this version"):
            join(meeting.member())()


def test_two_hosts_with_one_number_are_both_told(meeting: Meeting) -> None:
    master, one, other = meeting.master(3), meeting.member(1, 3, host="a"), meeting.member(1, 3, host="b")
    errors = together(join(master), join(one), join(other))
    assert all(isinstance(error, UserError) for error in errors)
    for error in errors:
        assert "are both node 1; expected each number once" in str(error)
        assert error.exit_code == 2


def test_hosts_that_do_not_come_are_named_to_those_that_did(meeting: Meeting) -> None:
    errors = together(join(meeting.master(3), limit_s=1.0), join(meeting.member(2, 3)))
    for error in errors:
        assert isinstance(error, JobError)
        assert "within 1 s (launch.join_timeout_s) did not come: node 1" in str(error)


def test_a_master_that_does_not_come_is_an_error(meeting: Meeting) -> None:
    with pytest.raises(JobError, match=r"did not come within 0.5 s: 127.0.0.1:[0-9]+: Connect call failed"):
        join(meeting.member(), limit_s=0.5)()


def test_a_host_too_many_is_told_so_and_disturbs_nobody(meeting: Meeting) -> None:
    master, member, late = meeting.master(), meeting.member(), meeting.member()
    late._line.connect([HOST], meeting.port, 10)
    together(join(master), join(member))
    late._tell({"type": "hello", "card": late.card.model_dump()})

    told = threading.Event()

    def wait() -> None:
        try:
            late._wait_for("layout")
        finally:
            told.set()

    def agree_later() -> Any:
        assert told.wait(10)
        return agree(member)()

    results = together(agree(master), wait, agree_later)
    assert results[0] == results[2] == GO
    assert "the job is complete without this host" in str(results[1])


def test_a_member_can_wait_for_the_masters_data_or_ignore_it(meeting: Meeting) -> None:
    master, waiting, other = meeting.master(3), meeting.member(1, 3), meeting.member(2, 3)
    together(join(master), join(waiting), join(other))
    master.tell_prepared()
    waiting.wait_for_master_data()
    assert together(agree(master), agree(waiting), agree(other)) == [GO, GO, GO]


@pytest.mark.parametrize("node", [0, 1])
def test_a_host_that_cannot_prepare_tells_all(meeting: Meeting, node: int) -> None:
    sessions: list[Session] = [meeting.master(), meeting.member()]
    together(*map(join, sessions))
    sessions[node].give_up(DataError("no such folder"))
    with pytest.raises(Fcn4distError, match=rf"host-{node} \(node {node}, rank {node}\): no such folder") as raised:
        agree(sessions[1 - node])()
    assert raised.value.exit_code == 2


def test_a_refusal_by_the_master_reaches_the_members(meeting: Meeting) -> None:
    master, member = meeting.master(), meeting.member()
    together(join(master), join(member))

    def refuse(readies: list[Readiness]) -> Go:
        assert readies == [READY, READY]
        raise ConfigError("another data set")

    errors = together(agree(master, refuse), agree(member))
    assert [str(error) for error in errors] == ["another data set", "host-0 (node 0, rank 0): another data set"]


def test_a_failure_on_a_member_stops_the_master_and_has_one_verdict(meeting: Meeting) -> None:
    master, member, heard, own = running(meeting)
    member.hear(Exited(1.0, "rank-1", ExitStatus(None, signal.SIGKILL)))
    member.send(Send("node-0", signal.SIGTERM))
    assert isinstance(next_event(own), Exited)  # the member does not wait for the master
    event = next_event(heard)
    assert isinstance(event, PeerEnds)
    assert (event.process, event.signal) == ("node-1", None)
    verdicts = together(lambda: conclude(member, "failure", FAILURE), lambda: _conclude_after_exit(master, heard))
    assert verdicts[0] == verdicts[1]
    assert verdicts[0] == Verdict("failure", 1, None, "rank-1 ended: killed by SIGKILL", FAILURE)


def _conclude_after_exit(master: MasterSession, heard: Inbox) -> Verdict:
    event = next_event(heard)
    assert isinstance(event, Exited)
    assert event.process == "node-1"
    return conclude(master, "failure", None)


@pytest.mark.parametrize("finder", [0, 1])
def test_a_hang_is_judged_by_what_all_hosts_see(meeting: Meeting, finder: int) -> None:
    """Whoever finds it first: rank 1, which is a step behind, is named, and the host that it is on."""
    master, member, heard, own = running(meeting)
    stalls = [Stall(60, {"rank-0": Pulse("step", 8)}), Stall(60, {"rank-1": Pulse("step", 7)})]
    sessions: list[Session] = [master, member]
    inboxes = [heard, own]
    sessions[finder].hear(Stalled(1.0, stalls[finder]))
    assert isinstance(next_event(inboxes[1 - finder]), PeerStalls)
    sessions[1 - finder].hear(Stalled(1.1, stalls[1 - finder]))
    assert isinstance(next_event(inboxes[finder]), PeerStalls)
    master.send(Send("node-1", signal.SIGTERM))  # the master's 2 s are over first
    verdicts = together(lambda: conclude(member, "failure", FAILURE), lambda: _conclude_after_exit(master, heard))
    assert verdicts[0] == verdicts[1]
    assert (verdicts[0].kind, verdicts[0].node_rank, verdicts[0].failure) == ("failure", 1, FAILURE)
    assert parse_stall(verdicts[0].stall).suspects == ("rank-1",)


def test_a_member_waits_for_a_master_that_is_slow_to_its_verdict(meeting: Meeting) -> None:
    """The master reads dmesg and gives up other hosts first; after a signal its ranks have their grace time, too."""
    assert VERDICT_S > FAILURE_GRACE_S + GIVE_UP_S + DMESG_LIMIT_S
    master, member, _, own = running(meeting)
    master.hear(Signalled(1.0, signal.SIGTERM))
    master.send(Send("node-1", signal.SIGTERM))
    next_event(own)
    waits: list[float | None] = []
    member._has_verdict.wait = waits.append  # type: ignore[assignment, method-assign]
    conclude(member, "signal", None)
    conclude(member, "failure", None)
    assert waits == [None, VERDICT_S]


def test_a_failure_that_is_followed_by_a_restart_lets_both_agree_anew(meeting: Meeting) -> None:
    master, member, heard, own = running(meeting)
    member.hear(Exited(1.0, "rank-1", ExitStatus(1)))
    member.send(Send("node-0", signal.SIGTERM))
    next_event(heard)
    verdicts = together(lambda: conclude(member, "failure", FAILURE), lambda: conclude(master, "failure", None, 1.5))
    assert verdicts[0] == verdicts[1]
    assert verdicts[0].restart_in_s == 1.5
    assert together(agree(master), agree(member)) == [GO, GO]
    for session, inbox in ((master, heard), (member, own)):
        while not inbox.empty():
            inbox.get()
        session.attach(inbox, time.time)
    member.hear(Exited(2.0, "rank-1", ExitStatus(0)))
    assert next_event(heard).process == "node-1"  # type: ignore[union-attr]
    assert conclude(master, "success", None) == Verdict("success")
    assert conclude(member, "success", None) == Verdict("success")


@pytest.mark.parametrize("gone", [0, 1])
def test_a_launcher_that_goes_away_before_a_restart_is_noticed(meeting: Meeting, gone: int) -> None:
    master, member, heard, _ = running(meeting)
    member.hear(Exited(1.0, "rank-1", ExitStatus(1)))
    member.send(Send("node-0", signal.SIGTERM))
    next_event(heard)
    together(lambda: conclude(member, "failure", FAILURE), lambda: conclude(master, "failure", None, 1.0))
    sessions: list[Session] = [master, member]
    sessions[gone].close()
    with pytest.raises(JobError, match=r"the launcher of .* is gone"):
        agree(sessions[1 - gone])()


@pytest.mark.parametrize(("ahead_s", "words"), [(90.0, "90.0 s ahead of"), (-3.0, "3.0 s behind"), (0.2, None)])
def test_clocks_that_differ_are_named(ahead_s: float, words: str | None) -> None:
    warning = compare_clocks(
        "host-1", Mail(1, HOST, {"type": "hello", "sent_at": 1000.0 + ahead_s}, received_at=1000.0)
    )
    assert warning is None if words is None else words in str(warning)


def test_a_failure_on_the_master_stops_the_member(meeting: Meeting) -> None:
    master, member, _, heard = running(meeting)
    master.hear(Exited(1.0, "rank-0", ExitStatus(7)))
    master.send(Send("node-1", signal.SIGTERM))
    assert isinstance(next_event(heard), PeerEnds)
    verdicts = together(lambda: conclude(member, "failure", None), lambda: conclude(master, "failure", FAILURE))
    assert verdicts == [Verdict("failure", 0, None, "rank-0 ended: exit code 7", FAILURE)] * 2


@pytest.mark.parametrize("node", [0, 1])
def test_ranks_that_cannot_be_started_stop_the_other_host(meeting: Meeting, node: int) -> None:
    sessions = running(meeting)
    failing, other, inbox = sessions[node], sessions[1 - node], sessions[3 - node]
    assert isinstance(failing, Session)
    assert isinstance(other, Session)
    assert isinstance(inbox, queue.SimpleQueue)
    failing.give_up(JobError("rank-0: cannot be started"))
    assert isinstance(next_event(inbox), PeerEnds)
    assert isinstance(next_event(inbox), Exited)
    verdict = conclude(other, "failure", None)
    assert (verdict.kind, verdict.node_rank) == ("failure", node)
    assert "rank-0: cannot be started" in verdict.text


def test_a_signal_travels_with_its_number(meeting: Meeting) -> None:
    master, member, heard, _ = running(meeting)
    member.hear(Signalled(1.0, signal.SIGINT))
    member.send(Send("node-0", signal.SIGTERM))
    event = next_event(heard)
    assert isinstance(event, PeerEnds)
    assert event.signal == signal.SIGINT
    verdicts = together(lambda: conclude(member, "signal", None), lambda: conclude(master, "signal", None))
    assert verdicts == [Verdict("signal", 1, signal.SIGINT)] * 2


def test_strangers_who_come_all_at_once_take_few_descriptors(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait in the kernel while the master is busy; all accepted at once, they would use up a usual limit of 1,024."""
    most, met, hub = 0, 0, meeting.master()._hub

    async def count(_hub: transport.Hub, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most, met
        most, met = max(most, len(list(Path("/proc/self/fd").iterdir()))), met + 1
        writer.transport.abort()

    monkeypatch.setattr(transport.Hub, "_meet", count)
    is_busy = threading.Event()
    hub._loop.call_soon_threadsafe(is_busy.wait)
    with contextlib.ExitStack() as strangers:
        for _ in range(400):
            strangers.enter_context(socket.create_connection((HOST, meeting.port)))
        own = len(list(Path("/proc/self/fd").iterdir()))
        is_busy.set()
        until(lambda: met == 400)
    assert most < own + 200


def test_success_is_joint(meeting: Meeting, caplog: pytest.LogCaptureFixture) -> None:
    master, member, heard, own = running(meeting)
    member.hear(Exited(1.0, "rank-1", ExitStatus(0)))
    done = next_event(heard)
    assert isinstance(done, Exited)
    assert (done.process, done.status) == ("node-1", ExitStatus(0))
    assert own.empty()  # the member waits for the others
    assert conclude(master, "success", None) == Verdict("success")
    released = next_event(own)
    assert isinstance(released, Exited)
    assert released.status == ExitStatus(0)
    assert conclude(member, "success", None) == Verdict("success")
    member.close()
    until(lambda: not master._hub._talks)
    assert not caplog.records  # that it goes away now is no news


def test_a_failure_of_the_master_reaches_a_member_that_was_done(meeting: Meeting) -> None:
    master, member, heard, own = running(meeting)
    member.hear(Exited(1.0, "rank-1", ExitStatus(0)))
    next_event(heard)
    master.hear(Exited(2.0, "rank-0", ExitStatus(1)))
    conclude(master, "failure", FAILURE)
    assert isinstance(next_event(own), PeerEnds)
    assert conclude(member, "failure", None).failure == FAILURE


@pytest.mark.parametrize("gone", [0, 1])
def test_a_launcher_that_dies_is_noticed_at_once(meeting: Meeting, gone: int) -> None:
    sessions = running(meeting)
    launcher = sessions[gone]
    assert isinstance(launcher, Session)
    launcher.close()  # the kernel closes the connections of a process that is killed
    inbox = sessions[3 - gone]
    assert isinstance(inbox, queue.SimpleQueue)
    event = next_event(inbox)
    assert isinstance(event, PeerEnds)
    assert event.process == f"node-{gone}"
    other = sessions[1 - gone]
    assert isinstance(other, Session)
    verdict = conclude(other, "failure", None)
    assert (verdict.kind, verdict.node_rank) == ("lost", gone)


def test_a_host_that_falls_silent_is_given_up(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BEAT_S", 60.0)
    master, member, heard, _ = running(meeting)
    assert master._hub.silence_s == member._line.silence_s == 10
    for session in (member, master):
        session.give_up_after(0.5)
        session._transport.send(
            [1], {"type": "a sign of life"}
        )  # the other one waits for the next as long as it was told
    assert isinstance(next_event(heard), PeerEnds)
    # both hosts are silent, so either may give up first, and the other one then finds the connection closed
    reasons = ("nothing heard for 0.5 s (launch.peer_timeout_s)", "the connection was closed")
    assert conclude(master, "failure", None).text in reasons


def test_a_member_says_why_it_gave_the_master_up(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cable that was pulled closes nothing: "its connection was closed" would send people to look for a killed launcher."""
    monkeypatch.setattr(transport, "BEAT_S", 60.0)
    master, member, _, own = running(meeting)
    member.give_up_after(0.5)
    master._transport.send([1], {"type": "a sign of life"})
    assert isinstance(next_event(own), PeerEnds)
    said = "nothing heard for 0.5 s (launch.peer_timeout_s)"
    assert conclude(member, "failure", None) == Verdict("lost", 0, text=said)


def test_a_host_that_does_not_end_is_given_up(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcn4dist.hosts.master.GIVE_UP_S", 0.2)
    master, _, heard, own = running(meeting)
    master.send(Send("node-1", signal.SIGTERM))
    master.send(Send("node-1", signal.SIGKILL))
    assert isinstance(next_event(own), PeerEnds)
    kill = next_event(own)
    assert isinstance(kill, PeerEnds)
    assert kill.at_once
    ended = next_event(heard)
    assert isinstance(ended, Exited)
    assert ended.process == "node-1"
