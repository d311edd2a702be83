"""A page that puts runs beside each other: mean and spread over seeds and folds, curves, tags, configs and environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.errors import ConfigError
from fcn4dist.report.chart import Chart, Series, clean, line_chart, smooth, thin, without_spikes
from fcn4dist.report.evaluated import Macro, list_warnings, macro_of, name_checkpoint
from fcn4dist.report.page import render, save_page
from fcn4dist.report.run_files import RunFiles, load_run, number
from fcn4dist.report.story import KINDS, list_environment, show
from fcn4dist.report.training import below, is_first_step, median_speed, points_of
from fcn4dist.run.figures import Figures
from fcn4dist.run.groups import Spread, group_runs, repetition_of

LETTERS = "ABCDEFGH"  # of groups: as many as there are colours
MOST_RUNS = 40
MOST_TAGS = 500
MOST_VALUES = 5  # of a key within a group


@dataclass(frozen=True)
class Column:
    """One run of the comparison."""

    letter: str  # of its group, with a number where that has several runs
    name: str
    state: str
    state_text: str
    steps: float | None
    loss: float | None
    speed: float | None
    num_ranks: int
    macro: Macro
    checkpoint: str  # whose figures they are


@dataclass(frozen=True)
class Group:
    """Runs that differ only in seed or fold; one that nothing repeats is a group of its own."""

    letter: str
    name: str
    runs: tuple[RunFiles, ...]
    columns: tuple[Column, ...]
    repetitions: tuple[str, ...]

    @property
    def roc(self) -> Spread | None:
        """Mean and spread of the macro ROC-AUC."""
        return Spread.of([column.macro.roc for column in self.columns])

    @property
    def pr(self) -> Spread | None:
        """Mean and spread of the macro PR-AUC."""
        return Spread.of([column.macro.pr for column in self.columns])

    @property
    def accuracy(self) -> Spread | None:
        """Mean and spread of the share of clips whose top tag is right."""
        return Spread.of([column.macro.accuracy for column in self.columns])

    @property
    def clips(self) -> frozenset[tuple[str, str]]:
        """What was scored."""
        return frozenset((c.macro.checksum or c.macro.clips, c.macro.checksum) for c in self.columns if c.macro.clips)


@dataclass(frozen=True)
class ComparedTag:
    """One tag in all groups: the mean over the runs of each."""

    tag: str
    positives: float | None
    values: tuple[float | None, ...]
    spread: float | None  # B - A of two groups; the highest minus the lowest of more


def write_comparison(paths: Sequence[Path], output: Path) -> Path:
    """Write a page about the runs in `paths` to `output`: at most forty, in at most eight groups; raises ConfigError."""
    if len(paths) > MOST_RUNS:
        raise ConfigError(f"report: {len(paths)} runs; a page compares at most {MOST_RUNS}")
    return save_page(render_comparison([load_run(path) for path in paths]), output)


def render_comparison(runs: Sequence[RunFiles]) -> str:
    """Return the page; raises ConfigError for more groups than there are letters."""
    groups = _group(runs)
    columns = [column for group in groups for column in group.columns]
    ordered = [files for group in groups for files in group.runs]
    return render(
        "compare.html",
        title=f"{len(runs)} runs · fcn4dist",
        runs=columns,
        groups=groups,
        is_grouped=len(groups) < len(columns),
        warning=_warn(groups),
        notes=[
            clean(f"{c.letter}: {note}", 300)
            for c, files in zip(columns, ordered, strict=True)
            for note in [*list_warnings(files.evaluation), *files.notes]
        ],
        charts=_draw(groups),
        tags=_compare_tags(groups),
        config=_differences([_merge([_flat_config(files) for files in group.runs]) for group in groups]),
        environment=_differences([_merge([dict(list_environment(files)) for files in group.runs]) for group in groups]),
    )


def _group(runs: Sequence[RunFiles]) -> list[Group]:
    repetitions = [repetition_of(files.config) for files in runs]
    places = group_runs(repetitions)
    if len(places) > len(LETTERS):
        raise ConfigError(
            f"report: {len(places)} runs that differ in more than seed and fold; a page has {len(LETTERS)}"
        )
    groups = []
    for letter, members in zip(LETTERS, places, strict=False):
        own = tuple(runs[i] for i in members)
        columns = [_column(f"{letter}{n}" if len(own) > 1 else letter, files) for n, files in enumerate(own, 1)]
        words = tuple(clean(repetitions[i].words, 100) for i in members)
        groups.append(Group(letter, _name(own), own, tuple(columns), words))
    return groups


def _name(runs: Sequence[RunFiles]) -> str:
    """Return the name of a group: of its only run, or of the folder that has all of its runs."""
    folders = {files.run.path.resolve().parent for files in runs}
    if len(runs) > 1 and len(folders) == 1 and (name := folders.pop().name):
        return clean(name, 120)
    return clean(runs[0].name, 120) + (f" and {len(runs) - 1} more" if len(runs) > 1 else "")


def _column(letter: str, files: RunFiles) -> Column:
    last = files.chief[-1] if files.chief else {}
    loss = next((v for record in reversed(files.chief) if (v := number(record, "loss")) is not None), None)
    kind = files.state.kind
    macro = macro_of(files.evaluation)
    steps, speed, ranks = number(last, "step"), median_speed(files), len(files.steps)
    checkpoint = clean(name_checkpoint(files), 120) if files.evaluation else ""
    return Column(letter, clean(files.name, 120), kind, KINDS[kind], steps, loss, speed, ranks, macro, checkpoint)


def _warn(groups: Sequence[Group]) -> str:
    measured = {group.clips for group in groups if group.clips}
    return (
        "These runs were not scored on the same clips: their figures cannot be compared." if len(measured) > 1 else ""
    )


def _draw(groups: Sequence[Group]) -> list[Chart]:
    """Return loss, validation figures and speed: one line a run, one colour a group."""

    def lines(key: str, x: str = "step", *, smoothed: bool = False) -> list[Series]:
        found = []
        for colour, group in enumerate(groups):
            for place, files in enumerate(group.runs):
                name = f"{group.letter} {clean(group.name, 40)}" if place == 0 else ""
                records = files.evaluations if x == "epoch" else files.chief if smoothed else files.drawn
                points = points_of([r for r in records if x == "epoch" or not is_first_step(r)], key, x)
                points = below(points, without_spikes(points)) if key == "loss" else points
                found.append(Series(name, smooth(points) if smoothed and len(points) > 2 else thin(points), colour))
        return found

    charts = [
        line_chart(
            "Loss, moving average",
            lines("loss", smoothed=True),
            "step",
            zero=True,
            caption="Spikes are left out; the report of a run marks them.",
        ),
        line_chart("Validation ROC-AUC", lines("roc_auc_macro", "epoch"), "epoch"),
        line_chart("Validation PR-AUC", lines("pr_auc_macro", "epoch"), "epoch"),
        line_chart("Learning rate", lines("lr"), "step", zero=True),
        line_chart("Clips a second, moving average", lines("samples_per_s", smoothed=True), "step", zero=True),
    ]
    return [chart for chart in charts if chart is not None]


def _compare_tags(groups: Sequence[Group]) -> list[ComparedTag]:
    tables = [
        [{str(entry.get("tag")): entry for entry in Figures(files.evaluation).tag_entries} for files in group.runs]
        for group in groups
    ]
    every = [table for group in tables for table in group]
    found = []
    for tag in list(dict.fromkeys(tag for table in every for tag in table))[:MOST_TAGS]:
        means = [Spread.of([number(table.get(tag), "roc_auc") for table in group]) for group in tables]
        values = tuple(None if mean is None else mean.mean for mean in means)
        known = [value for value in values if value is not None]
        spread = max(known) - min(known) if len(known) > 1 else None
        if len(values) == 2 and values[0] is not None and values[1] is not None:
            spread = values[1] - values[0]
        positives = next((p for table in every if (p := number(table.get(tag), "positives")) is not None), None)
        found.append(ComparedTag(clean(tag), positives, values, spread))
    return found


def _merge(tables: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return one table of a group: the values of each key, several where its runs differ."""
    found = {}
    for key in dict.fromkeys(key for table in tables for key in table):
        values = list(dict.fromkeys(table.get(key, "–") for table in tables))
        found[key] = ", ".join(values[:MOST_VALUES]) + (", …" if len(values) > MOST_VALUES else "")
    return found


def _flat_config(files: RunFiles) -> dict[str, str]:
    return {clean(f"{s}.{key}"): show(value) for s, keys in files.config.items() for key, value in keys.items()}


def _differences(tables: Sequence[dict[str, str]]) -> list[tuple[str, list[str]]]:
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [(key, [table.get(key, "–") for table in tables]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1 and key != "started"]
