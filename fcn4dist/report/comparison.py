"""A page that puts runs beside each other: their curves, tags, configs and environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.errors import ConfigError
from fcn4dist.report.chart import Chart, Series, clean, line_chart, smooth, thin
from fcn4dist.report.evaluated import Macro, macro_of
from fcn4dist.report.page import render, save_page
from fcn4dist.report.run_files import RunFiles, load_run, number
from fcn4dist.report.story import KINDS, list_environment, show
from fcn4dist.report.training import is_first_step, median_speed, points_of
from fcn4dist.run.figures import Figures

LETTERS = "ABCDEFGH"  # as many as there are colours
MOST_TAGS = 500


@dataclass(frozen=True)
class Column:
    """One run of the comparison."""

    letter: str
    name: str
    state: str
    state_text: str
    steps: float | None
    loss: float | None
    speed: float | None
    num_ranks: int
    macro: Macro


@dataclass(frozen=True)
class ComparedTag:
    """One tag in all runs."""

    tag: str
    positives: float | None
    values: tuple[float | None, ...]
    spread: float | None  # B - A of two runs; the highest minus the lowest of more


def write_comparison(paths: Sequence[Path], output: Path) -> Path:
    """Write a page about the runs in `paths`, at most eight, to `output`; raises ConfigError."""
    if len(paths) > len(LETTERS):
        raise ConfigError(f"report: {len(paths)} runs; a page compares at most {len(LETTERS)}")
    return save_page(render_comparison([load_run(path) for path in paths]), output)


def render_comparison(runs: Sequence[RunFiles]) -> str:
    """Return the page."""
    columns = [_column(letter, files) for letter, files in zip(LETTERS, runs, strict=False)]
    return render(
        "compare.html",
        title=f"{len(runs)} runs · fcn4dist",
        runs=columns,
        warning=_warn(columns),
        notes=[
            clean(f"{c.letter}: {note}", 300) for c, files in zip(columns, runs, strict=True) for note in files.notes
        ],
        charts=_draw(columns, runs),
        tags=_compare_tags(runs),
        config=_differences([_flat_config(files) for files in runs]),
        environment=_differences([dict(list_environment(files)) for files in runs]),
    )


def _column(letter: str, files: RunFiles) -> Column:
    last = files.chief[-1] if files.chief else {}
    loss = next((v for record in reversed(files.chief) if (v := number(record, "loss")) is not None), None)
    kind = files.state.kind
    macro = macro_of(files.evaluation)
    steps, speed, ranks = number(last, "step"), median_speed(files), len(files.steps)
    return Column(letter, clean(files.name, 120), kind, KINDS[kind], steps, loss, speed, ranks, macro)


def _warn(columns: Sequence[Column]) -> str:
    measured = {(column.macro.clips, column.macro.checksum) for column in columns if column.macro.clips}
    return (
        "These runs were not scored on the same clips: their figures cannot be compared." if len(measured) > 1 else ""
    )


def _draw(columns: Sequence[Column], runs: Sequence[RunFiles]) -> list[Chart]:
    """Return loss, validation figures and speed, one line a run."""
    names = [f"{column.letter} {clean(column.name, 40)}" for column in columns]
    pairs = list(zip(names, runs, strict=True))

    def lines(key: str, x: str = "step", *, smoothed: bool = False) -> list[Series]:
        found = []
        for colour, (name, files) in enumerate(pairs):
            records = files.evaluations if x == "epoch" else files.chief
            points = points_of([r for r in records if x == "epoch" or not is_first_step(r)], key, x)
            found.append(Series(name, smooth(points) if smoothed and len(points) > 2 else thin(points), colour))
        return found

    charts = [
        line_chart("Loss, moving average", lines("loss", smoothed=True), "step", zero=True),
        line_chart("Validation ROC-AUC", lines("roc_auc_macro", "epoch"), "epoch"),
        line_chart("Validation PR-AUC", lines("pr_auc_macro", "epoch"), "epoch"),
        line_chart("Learning rate", lines("lr"), "step", zero=True),
        line_chart("Clips a second, moving average", lines("samples_per_s", smoothed=True), "step", zero=True),
    ]
    return [chart for chart in charts if chart is not None]


def _compare_tags(runs: Sequence[RunFiles]) -> list[ComparedTag]:
    tables = [{str(entry.get("tag")): entry for entry in Figures(files.evaluation).tag_entries} for files in runs]
    found = []
    for tag in list(dict.fromkeys(tag for table in tables for tag in table))[:MOST_TAGS]:
        values = tuple(number(table.get(tag), "roc_auc") for table in tables)
        known = [value for value in values if value is not None]
        spread = max(known) - min(known) if len(known) > 1 else None
        if len(values) == 2 and values[0] is not None and values[1] is not None:
            spread = values[1] - values[0]
        positives = next((p for table in tables if (p := number(table.get(tag), "positives")) is not None), None)
        found.append(ComparedTag(clean(tag), positives, values, spread))
    return found


def _flat_config(files: RunFiles) -> dict[str, str]:
    return {clean(f"{s}.{key}"): show(value) for s, keys in files.config.items() for key, value in keys.items()}


def _differences(tables: Sequence[dict[str, str]]) -> list[tuple[str, list[str]]]:
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [(key, [table.get(key, "–") for table in tables]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1 and key != "started"]
