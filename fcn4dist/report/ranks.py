"""The page's part about the ranks: where the time of a step goes, who is waited for, CPU and memory over time."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from fcn4dist.report.chart import Bar, Chart, Series, bar_chart, clean, line_chart, thin
from fcn4dist.report.progress import is_first_step
from fcn4dist.report.run_files import Record, RunFiles, number

MOST_RANKS = 32  # rows of the table and the bars: the slowest
MOST_LINES = 8  # of a picture over time
MILLI, GIGABYTE = 1e3, float(1 << 30)
PARTS = ("compute", "allreduce", "data", "checkpoint")


@dataclass(frozen=True)
class RankTimes:
    """Means over one rank's steps, in milliseconds, without the first of each session."""

    rank: int
    num_steps: int
    step_ms: float
    p95_ms: float
    data_ms: float
    reduce_ms: float | None  # AllReduce, waiting for slower ranks included; None: not timed
    compute_ms: float  # the rest of the step
    checkpoint_ms: float
    held_up_ms: float | None  # how long the fastest rank of each step waited for this one
    last_share: float | None  # of the steps that all ranks have, in how many this rank came last


@dataclass(frozen=True)
class RankPart:
    """All of it."""

    rows: tuple[RankTimes, ...]
    num_ranks: int
    straggler: str
    charts: tuple[Chart, ...]
    peaks: tuple[tuple[str, float | None, float | None], ...]  # process, peak memory in GB, mean CPU percent


def describe_ranks(files: RunFiles) -> RankPart:
    """Return the part for one run."""
    steady = {rank: [r for r in records if not is_first_step(r)] for rank, records in files.steps.items()}
    reduce_s = {rank: _by_step(records, "reduce_s") for rank, records in steady.items()}
    late = _lateness(reduce_s)
    found = [times for rank, records in steady.items() if (times := _times(rank, records, late.get(rank)))]
    slowest = sorted(found, key=lambda t: (-(t.held_up_ms or 0.0), -t.data_ms, t.rank))[:MOST_RANKS]
    rows = tuple(sorted(slowest, key=lambda t: t.rank))
    charts = [_draw_split(rows), _draw_steps(steady, rows), *_draw_usage(files.usage), *_draw_devices(files.usage)]
    drawn = tuple(chart for chart in charts if chart is not None)
    return RankPart(rows, len(found), _name_straggler(found), drawn, _peaks(files.usage))


def _by_step(records: Iterable[Record], key: str) -> dict[int, float]:
    pairs = ((number(record, "step"), number(record, key)) for record in records)
    return {int(step): value for step, value in pairs if step is not None and value is not None}


def _lateness(reduce_s: dict[int, dict[int, float]]) -> dict[int, tuple[float, float]]:
    """Return rank -> (mean seconds that the first rank waited for it, share of the steps in which it was the last).

    All ranks leave an AllReduce together, so the one that spends the least time in it came last, and the difference to
    the longest stay is how long it was waited for.
    """
    if len(reduce_s) < 2 or not all(reduce_s.values()):
        return {}
    shared = set.intersection(*(set(values) for values in reduce_s.values()))
    if not shared:
        return {}
    waits = dict.fromkeys(reduce_s, 0.0)
    lasts = dict.fromkeys(reduce_s, 0)
    for step in shared:
        stays = {rank: values[step] for rank, values in reduce_s.items()}
        longest, last = max(stays.values()), min(stays, key=lambda rank: stays[rank])
        lasts[last] += 1
        for rank, stay in stays.items():
            waits[rank] += longest - stay
    return {rank: (waits[rank] / len(shared), lasts[rank] / len(shared)) for rank in reduce_s}


def _times(rank: int, records: list[Record], late: tuple[float, float] | None) -> RankTimes | None:
    whole = [record for record in records if number(record, "step_s") is not None]
    if not whole:
        return None

    def mean_ms(key: str) -> float | None:
        values = [value for record in whole if (value := number(record, key)) is not None]
        return MILLI * statistics.fmean(values) if values else None

    steps = sorted(number(record, "step_s") or 0.0 for record in whole)
    step_ms, data_ms, reduce_ms = MILLI * statistics.fmean(steps), mean_ms("data_wait_s") or 0.0, mean_ms("reduce_s")
    return RankTimes(
        rank,
        len(whole),
        step_ms,
        MILLI * steps[min(len(steps) - 1, int(0.95 * len(steps)))],
        data_ms,
        reduce_ms,
        max(0.0, step_ms - data_ms - (reduce_ms or 0.0)),
        mean_ms("checkpoint_wait_s") or 0.0,
        None if late is None else MILLI * late[0],
        None if late is None else late[1],
    )


def _name_straggler(found: list[RankTimes]) -> str:
    """Say in one sentence who is waited for."""
    timed = [times for times in found if times.held_up_ms is not None and times.last_share is not None]
    if not timed:
        return ""
    worst = max(timed, key=lambda times: times.held_up_ms or 0.0)
    held_up, share = worst.held_up_ms or 0.0, held_up_share(worst)
    text = (
        f"Rank {worst.rank} came last to {worst.last_share:.0%} of the allreduces; "
        f"the first one there waited {held_up:.1f} ms a step for it, {share:.1%} of a step."
    )
    return text if share >= 0.05 and (worst.last_share or 0) > 1.5 / len(timed) else f"No clear straggler. {text}"


def held_up_share(times: RankTimes) -> float:
    """Return which share of a step the others waited for this rank."""
    return (times.held_up_ms or 0.0) / times.step_ms if times.step_ms > 0 else 0.0


def _draw_split(rows: tuple[RankTimes, ...]) -> Chart | None:
    bars = [
        Bar(
            f"rank {t.rank}", (t.compute_ms, t.reduce_ms or 0.0, t.data_ms, t.checkpoint_ms if t.checkpoint_ms else 0.0)
        )
        for t in rows
    ]
    return bar_chart("A step, rank by rank", bars, PARTS, "milliseconds, mean over the steps")


def _draw_steps(steady: dict[int, list[Record]], rows: tuple[RankTimes, ...]) -> Chart | None:
    """Return each rank's own time over the steps: the step without the allreduce, in which ranks wait for each other."""
    series = []
    chosen = sorted(sorted(rows, key=lambda t: -(t.held_up_ms or 0.0))[:MOST_LINES], key=lambda t: t.rank)
    for times in chosen:
        points = []
        for record in steady[times.rank]:
            step, step_s = number(record, "step"), number(record, "step_s")
            if step is not None and step_s is not None:
                points.append((step, MILLI * (step_s - (number(record, "reduce_s") or 0.0))))
        series.append(Series(f"rank {times.rank}", thin(points, 240), times.rank))
    return line_chart("A rank's own time a step, without the allreduce", series, "step", "ms", zero=True)


def _draw_usage(usage: list[Record]) -> list[Chart | None]:
    processes = sorted({name for line in usage for name in _of(line, "processes")}, key=_process_order)
    start_s = min((t for line in usage if (t := number(line, "time")) is not None), default=0.0)
    shown = processes[: MOST_LINES + 1]
    memory, cpu = [], []
    for name in shown:
        colour: int | str = "muted" if not name.startswith("rank-") else _process_order(name)[1]
        lines = [(number(line, "time"), _of(line, "processes").get(name)) for line in usage]
        places = [((t - start_s) / 60, entry) for t, entry in lines if t is not None and isinstance(entry, dict)]
        resident = [(t, v / GIGABYTE) for t, entry in places if (v := number(entry, "memory_bytes")) is not None]
        percent = [(t, v) for t, entry in places if (v := number(entry, "cpu_percent")) is not None]
        title = clean(name.replace("rank-", "rank "), 30)
        memory.append(Series(title, thin(resident, 240), colour))
        cpu.append(Series(title, thin(percent, 240), colour))
    return [
        line_chart("Memory of each process", memory, "minutes since the start", "GB", zero=True),
        line_chart("CPU of each process", cpu, "minutes since the start", "% of a core", zero=True),
    ]


def _draw_devices(usage: list[Record]) -> list[Chart | None]:
    """Return load, memory, power and temperature of the NPUs, where npu-smi was."""
    start_s = min((t for line in usage if (t := number(line, "time")) is not None), default=0.0)
    wanted = (
        ("load_percent", "NPU load", "% of AI cores", 1.0),
        ("memory_bytes", "NPU memory", "GB", GIGABYTE),
        ("power_w", "NPU power", "W", 1.0),
        ("temperature_c", "NPU temperature", "°C", 1.0),
    )
    charts = []
    for key, title, unit, size in wanted:
        lines: dict[str, list[tuple[float, float]]] = {}
        for line in usage:
            at_s, devices = number(line, "time"), line.get("devices")
            for entry in devices if isinstance(devices, list) and at_s is not None else []:
                if (value := number(entry, key)) is not None:
                    host = f"node {line['node']} " if line.get("node") else ""
                    name = f"{host}NPU {clean(entry.get('npu'), 8)}.{clean(entry.get('chip'), 8)}"
                    lines.setdefault(name, []).append(((at_s - start_s) / 60, value / size))  # type: ignore[operator]
        series = [Series(n, thin(p, 240), i) for i, (n, p) in enumerate(sorted(lines.items())[:MOST_LINES])]
        charts.append(line_chart(title, series, "minutes since the start", unit, zero=True))
    return charts


def _of(line: Record, key: str) -> Record:
    value = line.get(key)
    return value if isinstance(value, dict) else {}


def _process_order(name: str) -> tuple[int, int, str]:
    match = re.fullmatch(r"rank-(\d{1,6})", name)
    return (0, int(match[1]), "") if match else (1, 0, name)


def _peaks(usage: list[Record]) -> tuple[tuple[str, float | None, float | None], ...]:
    memory: dict[str, float] = {}
    cpu: dict[str, list[float]] = {}
    for line in usage:
        for name, entry in _of(line, "processes").items():
            if (value := number(entry, "memory_bytes")) is not None:
                memory[name] = max(memory.get(name, 0.0), value / GIGABYTE)
            if (value := number(entry, "cpu_percent")) is not None:
                cpu.setdefault(name, []).append(value)
    names = sorted(memory, key=_process_order)[:MOST_RANKS]
    return tuple(
        (clean(name.replace("rank-", "rank "), 30), memory[name], statistics.fmean(cpu[name]) if name in cpu else None)
        for name in names
    )
