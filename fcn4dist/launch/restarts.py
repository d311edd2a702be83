"""Whether a job that failed starts again, and after how long; decided from what happened so far."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt that did not end well."""

    kind: str  # who failed and how; equal for failures of the same kind
    is_user_error: bool
    has_progress: bool  # a step was finished


@dataclass(frozen=True)
class Decision:
    """What follows from a failed attempt."""

    restarts: bool
    delay_s: float = 0.0
    reason: str = ""  # why there is no restart; empty where none were asked for


def decide_restart(history: list[FailedAttempt], max_restarts: int) -> Decision:
    """Decide after the failure `history[-1]`.

    No restart for a user's mistake, nor when two attempts in a row died in the same way before their first step: a third
    would too. The delay doubles with each attempt in a row that finished no step.
    """
    last = history[-1]
    if max_restarts == 0 or last.is_user_error:
        return Decision(restarts=False)
    if len(history) > max_restarts:
        return Decision(restarts=False, reason=f"all {max_restarts} restarts are used up (launch.max_restarts)")
    fruitless = 0
    for attempt in reversed(history):
        if attempt.has_progress:
            break
        fruitless += 1
    if fruitless >= 2 and history[-2].kind == last.kind:
        return Decision(restarts=False, reason="no restart: it died twice in the same way before its first step")
    return Decision(restarts=True, delay_s=min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** max(0, fruitless - 1)))
