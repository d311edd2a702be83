"""How far a run is, read from its folder and drawn for a terminal: the live console of `launch`, and `watch`.

Every file may be half-written, of another version, or not there yet: then what it would say is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fcn4dist.errors import shorten_name
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import Pulse, read_pulse
from fcn4dist.run.state import RunState, newest_attempt, read_json, read_last_record, read_state, value_of
from fcn4dist.run.terminal import list_figures

MOST_RANKS = 64  # lines of ranks; a terminal has few more
BAR_WIDTH = 40
NAME_CHARS = 40


@dataclass(frozen=True)
class RankView:
    """What one rank does."""

    rank: int
    pulse: Pulse | None
    record: dict[str, Any]  # its last step
    usage: dict[str, Any]  # its CPU and memory


@dataclass(frozen=True)
class Snapshot:
    """How far a run is."""

    name: str
    state: RunState
    world_size: int | None
    record: dict[str, Any]  # the last step of rank 0, or of this host's first rank
    evaluation: dict[str, Any]  # the last line of evaluations.jsonl
    ranks: tuple[RankView, ...] = ()


def take_snapshot(run: RunDir, *, with_ranks: bool = False, state: RunState | None = None) -> Snapshot:
    """Read where the run is now; `state`: known already (its own launcher asks)."""
    state = state or read_state(run)
    plan = read_json(run.plan)
    size = value_of(plan, "world_size")
    world_size = None if size is None else int(size)
    ranks: tuple[RankView, ...] = ()
    if with_ranks:
        usage = (read_last_record(run.usage) or {}).get("processes")
        shown = ranks_here(run, state.attempt) or list(range(min(world_size or 1, MOST_RANKS)))
        known = usage if isinstance(usage, dict) else {}
        ranks = tuple(_view(run, state.attempt, rank, known) for rank in shown[:MOST_RANKS])
    record = read_last_record(run.metrics(first_rank(run, state.attempt))) or {}
    return Snapshot(run.path.name, state, world_size, record, read_last_record(run.evaluations) or {}, ranks)


def ranks_here(run: RunDir, attempt: int) -> list[int]:
    """Return the ranks that beat in this folder; hosts that share none each have their own."""
    names = (path.stem.removeprefix("rank-") for path in run.logs(attempt).glob("rank-*.pulse"))
    return sorted(int(name) for name in names if name.isdecimal() and len(name) < 7)


def first_rank(run: RunDir, attempt: int) -> int:
    """Return the rank that speaks for the run in this folder: 0, or the first of a host that is not node 0."""
    return min(ranks_here(run, attempt), default=0)


def _view(run: RunDir, attempt: int, rank: int, usage: dict[str, Any]) -> RankView:
    name = f"rank-{rank}"
    found = usage.get(name)
    pulse = read_pulse(run.pulse(attempt, name))
    return RankView(
        rank, pulse, read_last_record(run.metrics(rank), 1 << 16) or {}, found if isinstance(found, dict) else {}
    )


@dataclass(frozen=True)
class Drawing:
    """A snapshot as a few lines that never wrap, as wide as the terminal is."""

    snapshot: Snapshot
    phase: str = ""  # what that rank does when there is no step to show

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        yield Group(*_lines(self.snapshot, self.phase, options.max_width))


def _lines(snapshot: Snapshot, phase: str, width: int) -> list[RenderableType]:
    head = [shorten_name(snapshot.name, NAME_CHARS)]
    if snapshot.state.attempt > 1:
        head.append(f"attempt {snapshot.state.attempt}")
    if snapshot.world_size is not None:
        head.append("1 rank" if snapshot.world_size == 1 else f"{snapshot.world_size} ranks")
    if phase:
        head.append(phase)
    lines: list[RenderableType] = [_text("  ".join(head), "bold")]
    step, total = value_of(snapshot.record, "step"), value_of(snapshot.record, "num_steps")
    if step is not None and total is not None and total > 0:
        epoch = value_of(snapshot.record, "epoch")
        label = (f"epoch {epoch:.0f}  " if epoch is not None else "") + f"step {step:.0f}/{total:.0f}"
        lines.append(draw_bar(label, step, total, width))
    if figures := _figures(snapshot):
        lines.append(_text(figures))
    if snapshot.ranks:
        lines.append(_table(snapshot.ranks, width))
    return lines


def draw_bar(label: str, done: float, total: float, width: int) -> RenderableType:
    """Return one line: the label, a bar where `width` has room for one, and how many percent are done."""
    room = width - len(label) - 7
    if room < 8:
        return _text(f"{label} {done / total:.0%}")
    size = min(room, BAR_WIDTH)
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=len(label), no_wrap=True)
    grid.add_column(width=size)
    grid.add_column(no_wrap=True)
    grid.add_row(label, ProgressBar(total=total, completed=min(done, total), width=size), f"{done / total:.0%}")
    return grid


def _figures(snapshot: Snapshot) -> str:
    parts = list_figures(snapshot.record) if snapshot.record else []
    if (roc := value_of(snapshot.evaluation, "roc_auc_macro")) is not None:
        epoch = value_of(snapshot.evaluation, "epoch")
        parts.append(f"ROC-AUC {roc:.4f}" + (f" after epoch {epoch:.0f}" if epoch is not None else ""))
    return "  ".join(parts)


def _table(ranks: tuple[RankView, ...], width: int) -> Table:
    """Return a line a rank; a narrow terminal gets fewer columns, not cut numbers."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    chosen = [column for column in COLUMNS if width >= column[1]]
    for title, _, _ in chosen:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("doing", no_wrap=True, overflow="ellipsis")
    for view in ranks:
        cells = [show(view) for _, _, show in chosen]
        table.add_row(*cells, Text(str(view.pulse) if view.pulse is not None else "–"))
    return table


def _figure(value: float | None, factor: float, digits: int) -> str:
    return "–" if value is None else f"{value * factor:.{digits}f}"


def _milliseconds(key: str) -> Callable[[RankView], str]:
    return lambda view: _figure(value_of(view.record, key), 1e3, 1)


def _memory(view: RankView) -> str:
    found = value_of(view.usage, "memory_bytes")
    return "–" if found is None else f"{found / 2**30:.2f} GB"


def _cpu(view: RankView) -> str:
    found = value_of(view.usage, "cpu_percent")
    return "–" if found is None else f"{found:.0f} %"


# title, from which width of the terminal on, what a rank's cell holds
COLUMNS: tuple[tuple[str, int, Callable[[RankView], str]], ...] = (
    ("rank", 0, lambda view: str(view.rank)),
    ("step", 24, lambda view: _figure(value_of(view.record, "step"), 1, 0)),
    ("step ms", 40, _milliseconds("step_s")),
    ("data ms", 72, _milliseconds("data_wait_s")),
    ("memory", 50, _memory),
    ("CPU", 56, _cpu),
)


def _text(line: str, style: str = "") -> Text:
    return Text(line, style=style, no_wrap=True, overflow="ellipsis")


def live_drawing(run: RunDir, *, with_ranks: bool = False) -> Callable[[], RenderableType]:
    """Return a function that draws a run of this launcher as it is now."""

    def draw() -> RenderableType:
        state = RunState("running", newest_attempt(run))
        pulse = read_pulse(run.pulse(state.attempt, f"rank-{first_rank(run, state.attempt)}"))
        phase = "starting" if pulse is None else "" if pulse.phase in ("data", "step") else str(pulse)
        return Drawing(take_snapshot(run, with_ranks=with_ranks, state=state), phase)

    return draw
