from __future__ import annotations

import pytest

from fcn4dist.launch.endings import FailedAttempt, decide_restart


def early(kind: str = "rank 1: SIGKILL") -> FailedAttempt:
    return FailedAttempt(kind, is_user_error=False, has_progress=False)


STEPPED = FailedAttempt("rank 1: SIGKILL", is_user_error=False, has_progress=True)
MISTAKE = FailedAttempt("rank 0: DataError", is_user_error=True, has_progress=True)


def test_nothing_restarts_unless_asked() -> None:
    decision = decide_restart([STEPPED], 0)
    assert (decision.delay_s, decision.reason) == (None, "")


def test_a_users_mistake_is_not_tried_again() -> None:
    assert decide_restart([MISTAKE], 5).delay_s is None


def test_restarts_are_counted() -> None:
    history = [STEPPED] * 3
    assert decide_restart(history, 3).delay_s is not None
    refused = decide_restart([*history, STEPPED], 3)
    assert refused.delay_s is None
    assert refused.reason == "all 3 restarts are used up (launch.max_restarts)"


def test_dying_twice_in_the_same_way_before_the_first_step_is_enough() -> None:
    assert decide_restart([early()], 5).delay_s is not None
    refused = decide_restart([early(), early()], 5)
    assert refused.delay_s is None
    assert "twice in the same way" in refused.reason


@pytest.mark.parametrize("history", [[early(), early("rank 0: hung")], [early(), STEPPED], [early(), STEPPED, early()]])
def test_another_way_or_a_step_between_is_another_chance(history: list[FailedAttempt]) -> None:
    assert decide_restart(history, 5).delay_s is not None


def test_the_delay_doubles_while_nothing_is_reached_and_is_bounded() -> None:
    ways = [early(f"way {n}") for n in range(9)]
    delays = [decide_restart(ways[: n + 1], 99).delay_s for n in range(9)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert decide_restart([*ways, STEPPED], 99).delay_s == 1


def test_a_port_that_another_program_took_is_replaced_at_once_a_few_times_and_costs_no_restart() -> None:
    lost = FailedAttempt("the scheduler: 1", lost_port=True)
    assert [decide_restart([lost] * number, 0).delay_s for number in (1, 4, 5)] == [0.0, 0.0, None]
    assert decide_restart([lost, lost, STEPPED], 1).delay_s == 1
    assert decide_restart([lost, STEPPED, STEPPED], 1).reason == "all 1 restarts are used up (launch.max_restarts)"
