"""What a person sees while a job runs: rank 0's progress, its evaluations, and one summary at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

from fcn4dist.job.events import Beat, Clock, Event, Scored, Signalled, Stalled, Started, StartWaits, Stepped
from fcn4dist.job.process import signal_name
from fcn4dist.run.best import describe_best
from fcn4dist.run.folder import RunDir
from fcn4dist.run.terminal import (
    PLAIN_EVERY_S,
    LivePicture,
    format_duration,
    format_evaluation,
    format_scores,
    format_step,
)


class JobConsole:
    """Shows events: a live picture on a terminal, a line every few seconds elsewhere."""

    def __init__(
        self,
        console: Console,
        clock: Clock,
        *,
        world_size: int,
        started_s: float | None = None,
        num_restarts: int = 0,
        draw: Callable[[], RenderableType] | None = None,
    ) -> None:
        """`draw` returns what a terminal shows now; without it, it gets lines, too."""
        self._console = console
        # a dumb terminal cannot move its cursor
        self._live = LivePicture(console, draw) if draw is not None and console.is_interactive else None
        self._started_s = clock() if started_s is None else started_s
        self._num_restarts = num_restarts
        self._clock = clock
        self._world_size = world_size
        self._num_started = 0
        self._printed_s: float | None = None
        self._last: dict[str, Any] = {}  # the last step's record
        self._printed: dict[str, Any] = {}  # the last one that got a line of its own
        self._evaluation: dict[str, Any] = {}
        self._compiling: set[str] = set()
        self._has_stepped = False

    def __enter__(self) -> JobConsole:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._last and self._last is not self._printed:
            self._print(format_step(self._last))

    @property
    def has_progress(self) -> bool:
        """Whether a step has been finished."""
        return self._has_stepped or bool(self._last)

    def on_event(self, event: Event) -> None:
        """Show one event of the supervisor."""
        if isinstance(event, Started) and event.process.startswith("rank-"):
            self._num_started += 1
            if self._num_started == self._world_size:
                ranks = "1 rank" if self._world_size == 1 else f"{self._world_size} ranks"
                self._show(f"{ranks} started; the first step compiles the network", event.at_s)
        elif isinstance(event, Beat):
            if event.pulse.phase == "compiling":  # the first step; any beat after it means that it is done
                self._compiling.add(event.process)
            else:
                self._has_stepped |= event.process in self._compiling
        elif isinstance(event, Stepped) and "loss" in event.record:
            self._last = event.record
            self._show(format_step(event.record), event.at_s)
        elif isinstance(event, Signalled):
            how = "the ranks finish this step and save" if self.has_progress else "the job ends, no step is done yet"
            self._print(f"{signal_name(event.signal)}: {how}; a second signal ends it at once")
        elif isinstance(event, Stalled):
            self._print(f"{event.stall}; the stacks of all ranks go into the logs")
        elif isinstance(event, StartWaits):
            self._print(event.line)
        elif isinstance(event, Scored):
            self._evaluation = event.evaluation
            self._print(format_evaluation(event.evaluation))

    def summary(self, run_dir: RunDir, early: str | None = None) -> str:
        """Return the last line of a job that ended well; `early` says why before its last step, where it did."""
        parts = [f"{self._last['step']} steps"] if "step" in self._last else []
        parts.append(f"{format_duration(self._clock() - self._started_s)}")
        if self._num_restarts:
            parts.append("1 restart" if self._num_restarts == 1 else f"{self._num_restarts} restarts")
        if overflows := self._last.get("num_overflows"):
            parts.append(f"{overflows} skipped for overflow")
        if (loss := self._last.get("loss")) is not None:
            parts.append(f"last loss {loss:.4f}")
        if self._evaluation:
            name = self._evaluation.get("split_name")
            parts.append(
                format_scores(self._evaluation) + (f" on {self._evaluation.get('split')} of {name}" if name else "")
            )
        return "; ".join(filter(None, [f"done: {', '.join(parts)}", early, describe_best(run_dir), str(run_dir.path)]))

    def _show(self, line: str, now_s: float) -> None:
        if self._live is not None:  # draws itself
            return
        if self._printed_s is None or now_s - self._printed_s >= PLAIN_EVERY_S:
            self._print(line)
            self._printed_s, self._printed = now_s, self._last

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
