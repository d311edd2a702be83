from __future__ import annotations

import pytest

from fcn4dist.launch.restarts import FailedAttempt, decide_restart


def early(kind: str = "rank 1: SIGKILL") -> FailedAttempt:
    return FailedAttempt(kind, is_user_error=False, has_progress=False)


STEPPED = FailedAttempt("rank 1: SIGKILL", is_user_error=False, has_progress=True)
MISTAKE = FailedAttempt("rank 0: DataError", is_user_error=True, has_progress=True)


def test_nothing_restarts_unless_asked() -> None:
    decision = decide_restart([STEPPED], 0)
    assert (decision.restarts, decision.reason) == (False, "")


def test_a_users_mistake_is_not_tried_again() -> None:
    assert not decide_restart([MISTAKE], 5).restarts


def test_restarts_are_counted() -> None:
    history = [STEPPED] * 3
    assert decide_restart(history, 3).restarts
    refused = decide_restart([*history, STEPPED], 3)
    assert not refused.restarts
    assert refused.reason == "all 3 restarts are used up (launch.max_restarts)"


def test_dying_twice_in_the_same_way_before_the_first_step_is_enough() -> None:
    assert decide_restart([early()], 5).restarts
    refused = decide_restart([early(), early()], 5)
    assert not refused.restarts
    assert "twice in the same way" in refused.reason


@pytest.mark.parametrize("history", [[early(), early("rank 0: hung")], [early(), STEPPED], [early(), STEPPED, early()]])
def test_another_way_or_a_step_between_is_another_chance(history: list[FailedAttempt]) -> None:
    assert decide_restart(history, 5).restarts


def test_the_delay_doubles_while_nothing_is_reached_and_is_bounded() -> None:
    ways = [early(f"way {n}") for n in range(9)]
    delays = [decide_restart(ways[: n + 1], 99).delay_s for n in range(9)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert decide_restart([*ways, STEPPED], 99).delay_s == 1
