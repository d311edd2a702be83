"""Scripted histories: what the supervisor decides, second by second, without any process."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from fcn4dist.job.events import Beat, Event, Exited, PeerEnds, PeerStalls, Reported, Signalled, Started, Suspended
from fcn4dist.job.process import ExitStatus
from fcn4dist.job.state import (
    BROKEN_STOP_GRACE_S,
    FAILURE_GRACE_S,
    SCHEDULER_GRACE_S,
    STACK_GRACE_S,
    JobState,
)
from fcn4dist.run.pulse import Phase, Pulse

JOB = ("scheduler", "rank-0", "rank-1")
OK = ExitStatus(0)
KILLED = ExitStatus(None, signal.SIGKILL)
TERMED = ExitStatus(None, signal.SIGTERM)


def ends(at_s: float, process: str, status: ExitStatus = OK) -> Exited:
    return Exited(at_s, process, status)


def beats(at_s: float, process: str, phase: Phase, step: int) -> Beat:
    return Beat(at_s, process, Pulse(phase, step))


def replay(
    history: list[Event], grace_s: float = 10.0, stall_timeout_s: float | None = None, job: tuple[str, ...] = JOB
) -> tuple[JobState, list[tuple[float, str, str]]]:
    """Feed a history on a fake clock; return the state and every signal sent, as (time, process, signal)."""
    state = JobState(job, grace_s, stall_timeout_s)
    sent: list[tuple[float, str, str]] = []

    def note(now_s: float, actions: list) -> None:
        sent.extend((now_s, action.process, signal.Signals(action.signal).name) for action in actions)

    for event in history:
        while state.deadline_s is not None and state.deadline_s <= event.at_s:
            now_s = state.deadline_s
            state._watch._looked_s = now_s  # the pulses were read all the time
            note(now_s, state.on_time(now_s))
        note(event.at_s, state.on_event(event))
    return state, sent


def test_all_ranks_end_well_then_the_scheduler_is_ended() -> None:
    state, sent = replay([
        *(Started(0, name, pid) for pid, name in enumerate(JOB, 100)),
        ends(5, "rank-1"), ends(7, "rank-0"), ends(7.1, "scheduler", TERMED),
    ])  # fmt: skip
    assert sent == [(7, "scheduler", "SIGTERM")]
    assert state.is_over
    assert state.outcome().kind == "success"


def test_a_rank_that_ends_well_stops_nobody() -> None:
    state, sent = replay([ends(5, "rank-0")])
    assert sent == []
    assert state.alive == {"scheduler", "rank-1"}
    assert not state.is_stopping


def test_a_scheduler_that_ignores_term_is_killed() -> None:
    _, sent = replay([ends(1, "rank-0"), ends(1, "rank-1"), ends(9, "scheduler", KILLED)])
    assert sent == [(1, "scheduler", "SIGTERM"), (1 + FAILURE_GRACE_S, "scheduler", "SIGKILL")]


def test_the_first_failure_ends_the_others_within_half_a_second() -> None:
    state, sent = replay([
        ends(3, "rank-1", ExitStatus(3)), ends(3.2, "scheduler", TERMED), ends(3.6, "rank-0", KILLED),
    ])  # fmt: skip
    assert sent == [(3, "rank-0", "SIGTERM"), (3, "scheduler", "SIGTERM"), (3.5, "rank-0", "SIGKILL")]
    outcome = state.outcome()
    assert outcome.kind == "failure"
    assert [e.process for e in outcome.failures] == ["rank-1"]
    assert [e.process for e in outcome.consequences] == ["scheduler", "rank-0"]


def test_the_earliest_failure_is_named_first_even_if_heard_later() -> None:
    state, _ = replay([
        ends(3.002, "rank-0", ExitStatus(1)), ends(3.001, "rank-1", KILLED), ends(3.1, "scheduler", TERMED),
    ])  # fmt: skip
    assert [e.process for e in state.outcome().failures] == ["rank-1", "rank-0"]


def test_a_rank_that_raised_but_does_not_end_fails_the_job_at_once() -> None:
    state, sent = replay([
        Reported(3, "rank-1"), Reported(3.1, "rank-0"), ends(3.2, "rank-0", TERMED), ends(3.2, "scheduler", TERMED),
        ends(4, "rank-1", KILLED),
    ])  # fmt: skip
    assert sent == [(3, name, "SIGTERM") for name in ("rank-0", "rank-1", "scheduler")] + [(3.5, "rank-1", "SIGKILL")]
    assert state.outcome().kind == "failure"


def test_a_scheduler_that_dies_while_ranks_run_is_a_failure() -> None:
    state, sent = replay([
        ends(4, "scheduler", ExitStatus(1)), ends(4.1, "rank-0", TERMED), ends(4.2, "rank-1", TERMED),
    ])  # fmt: skip
    assert sent == [(4, "rank-0", "SIGTERM"), (4, "rank-1", "SIGTERM")]
    assert [e.process for e in state.outcome().failures] == ["scheduler"]


def test_a_scheduler_that_ends_well_a_moment_before_the_last_rank_is_no_failure() -> None:
    state, sent = replay([ends(10, "scheduler"), ends(10.4, "rank-0"), ends(11, "rank-1")])
    assert sent == []
    assert state.outcome().kind == "success"


def test_a_scheduler_that_ends_well_long_before_the_ranks_is_a_failure() -> None:
    late = 10 + SCHEDULER_GRACE_S
    state, sent = replay([ends(10, "scheduler"), ends(late + 1, "rank-0", KILLED), ends(late + 1, "rank-1", KILLED)])
    assert sent[:2] == [(late, "rank-0", "SIGTERM"), (late, "rank-1", "SIGTERM")]
    outcome = state.outcome()
    assert outcome.kind == "failure"
    assert [e.process for e in outcome.failures] == ["scheduler"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_ends_ranks_first_and_the_scheduler_after_them(number: int) -> None:
    state, sent = replay([
        Signalled(2, number), ends(4, "rank-0"), ends(5, "rank-1", TERMED), ends(5.1, "scheduler", TERMED),
    ])  # fmt: skip
    assert sent == [(2, "rank-0", "SIGTERM"), (2, "rank-1", "SIGTERM"), (5, "scheduler", "SIGTERM")]
    assert (state.outcome().kind, state.outcome().signal) == ("signal", number)


def test_ranks_have_the_grace_time_after_a_signal_and_no_more() -> None:
    _, sent = replay([Signalled(2, signal.SIGTERM), ends(3, "rank-0"), ends(40, "rank-1", KILLED)], grace_s=30)
    assert sent[2:] == [(32, "rank-1", "SIGKILL"), (32, "scheduler", "SIGKILL"), (40, "scheduler", "SIGTERM")]


def test_a_second_signal_kills_at_once() -> None:
    state, sent = replay([Signalled(2, signal.SIGINT), Signalled(3.5, signal.SIGINT)], grace_s=60)
    assert sent[2:] == [(3.5, name, "SIGKILL") for name in ("rank-0", "rank-1", "scheduler")]
    assert state.deadline_s is None


def test_a_terminal_that_closes_sends_sighup_twice_and_that_counts_once() -> None:
    """The kernel and the shell each send one; whoever insists after a second means it."""
    hangup = [Signalled(2, signal.SIGHUP), Signalled(2.0004, signal.SIGHUP)]
    _, sent = replay([*hangup, ends(6, "rank-0"), ends(7, "rank-1"), ends(7.1, "scheduler", TERMED)], grace_s=60)
    assert {number for _, _, number in sent} == {"SIGTERM"}
    _, sent = replay([*hangup, Signalled(3.1, signal.SIGHUP)], grace_s=60)
    assert {number for at_s, _, number in sent if at_s == 3.1} == {"SIGKILL"}


def test_a_rank_that_fails_while_the_user_ends_the_job_does_not_change_the_reason() -> None:
    state, _ = replay([
        Signalled(2, signal.SIGINT), ends(3, "rank-0", ExitStatus(1)), ends(3, "rank-1"), ends(3, "scheduler", TERMED),
    ])  # fmt: skip
    assert state.outcome().kind == "signal"


def test_a_job_without_a_scheduler_of_its_own_ends_with_its_last_rank() -> None:
    state = JobState(("rank-4", "rank-5"), grace_s=1)  # another host runs the scheduler
    for name in ("rank-5", "rank-4"):
        assert state.on_event(ends(1, name)) == []
    assert state.is_over
    assert state.outcome().kind == "success"


HOSTS = ("scheduler", "rank-0", "node-1")  # the launcher of another host is a process like others


def test_the_scheduler_stays_until_the_other_hosts_are_done() -> None:
    state, sent = replay([ends(5, "rank-0"), ends(6, "node-1"), ends(6.1, "scheduler", TERMED)], job=HOSTS)
    assert sent == [(6, "scheduler", "SIGTERM")]
    assert state.outcome().kind == "success"


def test_a_failure_on_another_host_stops_this_one() -> None:
    history: list[Any] = [
        PeerEnds(3, "node-1"),
        ends(3.1, "rank-0", TERMED),
        ends(3.1, "scheduler", TERMED),
        ends(3.2, "node-1"),
    ]
    state, sent = replay(history, job=HOSTS)
    assert sent == [(3, name, "SIGTERM") for name in sorted(HOSTS)]
    assert state.is_over
    assert state.outcome().kind == "failure"
    assert state.outcome().failures == ()  # nobody here failed by itself


def test_a_signal_on_another_host_gives_this_one_the_users_grace() -> None:
    state, sent = replay([PeerEnds(3, "node-1", signal.SIGINT), ends(14, "rank-0", KILLED)], job=HOSTS)
    assert sent[:2] == [(3, "node-1", "SIGTERM"), (3, "rank-0", "SIGTERM")]
    assert (13, "rank-0", "SIGKILL") in sent
    assert state.is_stopping


def test_a_signal_that_reaches_all_hosts_counts_once() -> None:
    """Slurm signals every task; what the peers pass on must not take the grace away."""
    _, sent = replay([Signalled(3, signal.SIGTERM), PeerEnds(3.1, "node-1", signal.SIGTERM)], job=HOSTS)
    assert {name for _, _, name in sent} == {"SIGTERM"}


def test_a_peer_that_has_done_its_part_of_a_stop_takes_no_grace_from_this_host() -> None:
    """A member's master counts as ended once it is told, a master's member when its ranks are done: steps here take longer."""
    state, sent = replay([Signalled(2, signal.SIGTERM), ends(2, "node-1", ExitStatus(1))], grace_s=30, job=HOSTS)
    assert state.deadline_s == 32
    state, _ = replay([PeerEnds(2, "node-1", signal.SIGTERM), ends(3, "node-1", ExitStatus(1))], grace_s=30, job=HOSTS)
    assert state.deadline_s == 32
    assert {name for _, _, name in sent} == {"SIGTERM"}


def test_a_host_that_is_lost_while_the_user_ends_the_job_leaves_the_others_little_time() -> None:
    state, _ = replay([Signalled(2, signal.SIGTERM), PeerEnds(4, "node-1")], grace_s=30, job=HOSTS)
    assert state.deadline_s == 4 + BROKEN_STOP_GRACE_S


def test_a_peer_that_kills_leaves_no_grace() -> None:
    _, sent = replay([PeerEnds(3, "node-1", signal.SIGINT), PeerEnds(4, "node-1", at_once=True)], job=HOSTS)
    assert (4, "rank-0", "SIGKILL") in sent


def test_a_rank_that_fails_while_the_user_ends_the_job_leaves_the_others_little_time() -> None:
    _, sent = replay([
        Signalled(2, signal.SIGTERM), ends(3, "rank-1", TERMED), ends(40, "rank-0", KILLED),
    ], grace_s=30)  # fmt: skip
    late = 3 + BROKEN_STOP_GRACE_S
    assert sent[2:] == [(late, "rank-0", "SIGKILL"), (late, "scheduler", "SIGKILL"), (40, "scheduler", "SIGTERM")]


def test_a_job_that_hangs_writes_its_stacks_and_fails_by_the_rank_that_holds_it_up() -> None:
    state, sent = replay([
        beats(10, "rank-0", "data", 5), beats(10, "rank-1", "data", 5), beats(11, "rank-0", "step", 5),
        ends(74, "rank-0", TERMED), ends(74, "scheduler", TERMED), ends(74, "rank-1", KILLED),
    ], stall_timeout_s=60)  # fmt: skip
    stop = 71 + STACK_GRACE_S
    assert sent[:2] == [(71, "rank-0", "SIGUSR2"), (71, "rank-1", "SIGUSR2")]
    assert sent[2:5] == [(71, name, "SIGCONT") for name in ("rank-0", "rank-1", "scheduler")]
    assert sent[5:8] == [(stop, name, "SIGTERM") for name in ("rank-0", "rank-1", "scheduler")]
    outcome = state.outcome()
    assert outcome.kind == "failure"
    assert [e.process for e in outcome.failures] == ["rank-1"]
    assert outcome.stall is not None
    assert outcome.stall.suspects == ("rank-1",)


def test_a_suspended_rank_that_saves_and_ends_well_once_it_is_let_go_is_still_the_culprit() -> None:
    state, _ = replay([
        Suspended(5, "rank-1"), ends(68, "scheduler", TERMED), ends(68, "rank-0"), ends(68, "rank-1"),
    ], stall_timeout_s=60)  # fmt: skip
    outcome = state.outcome()
    assert (outcome.kind, [e.process for e in outcome.failures]) == ("failure", ["rank-1"])


def test_a_job_that_steps_now_and_then_is_left_alone() -> None:
    history: list[Event] = [beats(at, name, "step", at) for at in range(1, 600, 50) for name in JOB[1:]]
    state, sent = replay([*history, ends(601, "rank-0"), ends(601, "rank-1")], stall_timeout_s=60)
    assert [name for _, name, number in sent if number == "SIGUSR2"] == []
    assert state.stall is None


def test_a_job_that_is_being_ended_does_not_stall() -> None:
    state, sent = replay([
        *(beats(1, name, "step", 1) for name in JOB[1:]), Signalled(2, signal.SIGTERM),
        ends(90, "rank-0"), ends(90, "rank-1"), ends(90, "scheduler", TERMED),
    ], grace_s=100, stall_timeout_s=60)  # fmt: skip
    assert {number for _, _, number in sent} == {"SIGTERM"}
    assert state.outcome().kind == "signal"


def test_a_hang_that_another_host_found_writes_the_stacks_here_too() -> None:
    state, sent = replay([
        *(beats(10, name, "step", 5) for name in JOB[1:]), PeerStalls(61, "node-1"), PeerStalls(61.5, "node-1"),
        *(ends(64, name, TERMED) for name in JOB),
    ], stall_timeout_s=60)  # fmt: skip
    assert sent[:2] == [(61, "rank-0", "SIGUSR2"), (61, "rank-1", "SIGUSR2")]
    assert [(at_s, number) for at_s, _, number in sent[5:8]] == [(61 + STACK_GRACE_S, "SIGTERM")] * 3
    outcome = state.outcome()
    assert (outcome.kind, outcome.failures) == ("failure", ())
    assert outcome.stall is not None
    assert outcome.stall.place == "collective of step 5"


def test_a_phase_without_steps_has_a_limit_from_the_start_of_the_process() -> None:
    state = JobState(JOB, grace_s=1, stall_timeout_s=60, phase_timeout_s=3600)
    for name in JOB:
        state.on_event(Started(5, name, 1))
    assert state.deadline_s == 3605
