"""The page's part about the training itself: loss, learning rate, loss scale, validation figures, speed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from fcn4dist.report.chart import Chart, Points, Series, line_chart, smooth, thin, without_spikes
from fcn4dist.report.run_files import Record, RunFiles, number
from fcn4dist.run.figures import MACRO_NAMES


def points_of(records: Sequence[Record], key: str, x: str = "step") -> list[tuple[float, float]]:
    """Return (x, value) of the records that have both."""
    pairs = ((number(record, x), number(record, key)) for record in records)
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def is_first_step(record: Record) -> bool:
    """Whether a record is of a session's first step, which compiles the network."""
    return "time_left_s" in record and record["time_left_s"] is None


def draw_progress(files: RunFiles) -> list[Chart]:
    """Return the pictures of a run's progress, those that there is something to draw in."""
    records = files.drawn
    overflows = [x for record in records if record.get("overflow") and (x := number(record, "step")) is not None]
    scale = points_of(records, "loss_scale")
    by_step = dict(scale)
    marks = [(x, by_step.get(x, 0.0)) for x in overflows]
    speed = points_of(_steady(records), "samples_per_s")
    mean_speed = points_of(_steady(files.chief), "samples_per_s")
    charts = [
        _draw_loss(files),
        draw_validation(files),
        line_chart("Learning rate", [Series("", thin(points_of(records, "lr")), 2, "step")], "step", zero=True),
        line_chart(
            "Loss scale and overflows",
            [Series("loss scale", thin(scale), 4, "step"), Series("overflow: step skipped", marks, 3, "dots")],
            *("step",),
            zero=True,
        ),
        line_chart(
            "Clips a second, whole job",
            [Series("a step", thin(speed), "muted", "faint"), _mean(mean_speed)],
            "step",
            zero=True,
            caption="Without a session's first step, which compiles the network.",
        ),
    ]
    return [chart for chart in charts if chart is not None]


def _draw_loss(files: RunFiles) -> Chart | None:
    """Return the loss of each step with its moving average; spikes are marked where they would flatten all else."""
    losses, even = points_of(files.drawn, "loss"), points_of(files.chief, "loss")
    most = without_spikes(losses)
    lines = [Series("a step", thin(losses), "muted", "faint"), _mean(below(even, most))]
    return line_chart("Loss", lines, "step", zero=True, y_most=most, caption=describe_spikes(losses, most))


def below(points: Points, most: float | None) -> list[tuple[float, float]]:
    """Return the points that are no spikes."""
    return [(x, y) for x, y in points if most is None or y <= most]


def describe_spikes(points: Points, most: float | None) -> str:
    """Say how many spikes the axis leaves out; nothing where it holds all points."""
    spikes = [] if most is None else [(y, x) for x, y in points if y > most]
    if not spikes:
        return ""
    highest, step = max(spikes)
    count = f"{len(spikes)} steps, the highest" if len(spikes) > 1 else "one step,"
    return (
        f"Beyond the axis, marked by triangles: {count} {highest:.4g} at step {step:.0f}. The moving average is without "
        f"{'them' if len(spikes) > 1 else 'it'}."
    )


def _steady(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if not is_first_step(record)]


def _mean(points: list[tuple[float, float]]) -> Series:
    return Series("moving average", smooth(points) if len(points) > 2 else [], 0)


def draw_validation(files: RunFiles) -> Chart | None:
    """Return the validation figures over the epochs, the last ones with their intervals' ends as dots."""
    series = []
    for colour, (key, name) in enumerate(MACRO_NAMES.items()):
        points = points_of(files.evaluations, key, "epoch")
        series.append(Series(name, points, colour, "line"))
        series.append(Series("", points if len(points) > 1 and len(points) <= 60 else [], colour, "dots"))
    return line_chart("Validation over epochs", series, "epoch")


def median_speed(files: RunFiles) -> float | None:
    """Return the median clips a second over the steps, without the first of each session."""
    return _over(files.chief, lambda record: number(record, "samples_per_s"))


def _over(records: Sequence[Record], value: Callable[[Record], float | None]) -> float | None:
    found = [v for record in records if not is_first_step(record) and (v := value(record)) is not None]
    return statistics.median(found) if found else None
