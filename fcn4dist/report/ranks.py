"""The page's part about the ranks: where the time of a step goes, CPU and memory over time.

Ranks wait for each other inside the compiled step, in its AllReduce: their steps are equally long, whoever is slow. What a rank
has to itself is its wait for data and for checkpoints.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass

from fcn4dist.report.chart import Bar, Chart, Series, bar_chart, clean, line_chart, thin
from fcn4dist.report.run_files import Record, RunFiles, number
from fcn4dist.report.training import is_first_step

MOST_RANKS = 32  # rows of the table and the bars: the slowest
MOST_LINES = 8  # of a picture over time
MILLI, GIGABYTE = 1e3, float(1 << 30)
PARTS = ("compute and allreduce", "data", "checkpoint")


@dataclass(frozen=True)
class RankTimes:
    """Means over one rank's steps, in milliseconds, without the first of each session."""

    rank: int
    num_steps: int
    step_ms: float
    p95_ms: float
    compute_ms: float  # of the step, all but the wait for data: the AllReduce, so the wait for slower ranks, included
    data_ms: float
    checkpoint_ms: float  # between steps


@dataclass(frozen=True)
class RankPart:
    """All of it."""

    rows: tuple[RankTimes, ...]
    num_ranks: int
    charts: tuple[Chart, ...]
    peaks: tuple[tuple[str, float | None, float | None], ...]  # process, peak memory in GB, mean CPU percent


def describe_ranks(files: RunFiles) -> RankPart:
    """Return the part for one run."""
    found = [times for rank in files.steps if (times := _times(rank, files))]
    slowest = sorted(found, key=_lateness)[:MOST_RANKS]
    rows = tuple(sorted(slowest, key=lambda t: t.rank))
    charts = [_draw_split(rows), _draw_data(files, rows), *_draw_usage(files.usage), *_draw_devices(files.usage)]
    drawn = tuple(chart for chart in charts if chart is not None)
    return RankPart(rows, len(found), drawn, _peaks(files.usage))


def _lateness(times: RankTimes) -> tuple[float, int]:
    """Return the order in which ranks are shown where there are too many: those that are late by themselves first."""
    return -(times.data_ms + times.checkpoint_ms), times.rank


def _times(rank: int, files: RunFiles) -> RankTimes | None:
    records = [record for record in files.steps[rank] if not is_first_step(record)]
    whole = [record for record in records if number(record, "step_s") is not None]
    if not whole:
        return None

    def mean_ms(key: str) -> float:
        values = [value for record in whole if (value := number(record, key)) is not None]
        return MILLI * statistics.fmean(values) if values else 0.0

    steps = sorted(number(record, "step_s") or 0.0 for record in whole)
    step_ms, data_ms = MILLI * statistics.fmean(steps), mean_ms("data_wait_s")
    return RankTimes(
        rank,
        files.num_steps[rank] - (len(files.steps[rank]) - len(whole)),
        step_ms,
        p95_ms=MILLI * steps[min(len(steps) - 1, int(0.95 * len(steps)))],
        compute_ms=max(0.0, step_ms - data_ms),
        data_ms=data_ms,
        checkpoint_ms=mean_ms("checkpoint_wait_s"),
    )


def _draw_split(rows: tuple[RankTimes, ...]) -> Chart | None:
    bars = [Bar(f"rank {t.rank}", (t.compute_ms, t.data_ms, t.checkpoint_ms)) for t in rows]
    return bar_chart("A step, rank by rank", bars, PARTS, "milliseconds, mean over the steps")


def _draw_data(files: RunFiles, rows: tuple[RankTimes, ...]) -> Chart | None:
    """Return each rank's wait for data over the steps, of which the others wait for the longest."""
    series = []
    for times in sorted(sorted(rows, key=_lateness)[:MOST_LINES], key=lambda t: t.rank):
        points = []
        for record in (r for r in files.peaks[times.rank] if not is_first_step(r)):
            step, wait_s = number(record, "step"), number(record, "data_wait_s")
            if step is not None and wait_s is not None:
                points.append((step, MILLI * wait_s))
        series.append(Series(f"rank {times.rank}", thin(points, 240), times.rank))
    return line_chart("A rank's wait for data", series, "step", "ms", zero=True)


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
