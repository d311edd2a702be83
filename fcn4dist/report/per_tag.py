"""The page's part about tags: their table, curves and histograms, and what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from fcn4dist.report.chart import Chart, Series, clean, histogram, line_chart, matrix_chart, spark
from fcn4dist.report.curves import (
    Roc,
    co_predictions,
    confusions,
    delong_interval,
    drawn_precision,
    drawn_roc,
    histograms,
    mean_precision,
    roc_of,
    steps_of,
)
from fcn4dist.report.hardest import HardClip, list_hardest
from fcn4dist.report.published import Published, find_published
from fcn4dist.report.run_files import Record, RunFiles, ScoreTable, number
from fcn4dist.run.figures import Figures

MOST_TAGS = 500  # rows of the table; those with the most positives
MOST_CARDS = 100  # tags that get pictures of their own
MOST_CELLS = 60  # tags in the matrix
NUM_PAIRS = 12


@dataclass(frozen=True)
class TagRow:
    """One tag."""

    tag: str
    positives: float | None
    roc_auc: float | None
    roc_ci: tuple[float, float] | None
    pr_auc: float | None
    unknown: float | None = None  # clips whose label is unknown
    f1: float | None = None  # at the evaluation's threshold, where it has one
    is_delong: bool = False  # the interval was computed here


@dataclass(frozen=True)
class TagCard:
    """One tag's pictures."""

    tag: str
    roc: Markup
    pr: Markup
    scores: Markup


@dataclass(frozen=True)
class TagPart:
    """All of it."""

    rows: tuple[TagRow, ...]
    num_tags: int
    undefined: tuple[str, ...]
    lowest: float  # where the table's axis of ROC-AUC begins: 0.5, or 0 where a tag or its interval is below
    is_delong: bool  # the intervals are computed here, from the scores alone
    published: tuple[Published, ...]
    charts: tuple[Chart, ...]
    cards: tuple[TagCard, ...]
    matrix: Chart | None
    pairs: tuple[tuple[str, str, int], ...]
    hardest: tuple[HardClip, ...]


def describe_tags(files: RunFiles) -> TagPart:
    """Return the part for one run; empty pieces where it has no evaluation or no scores."""
    entries, table = Figures(files.evaluation).tag_entries, files.scores
    rows = [_row(entry, table, i) for i, entry in enumerate(entries)]
    undefined = tuple(row.tag for row in rows if row.roc_auc is None)
    is_delong = any(row.is_delong for row in rows)
    shown = sorted(rows, key=lambda row: -(row.positives or 0))[:MOST_TAGS]
    published = find_published([str(entry.get("tag")) for entry in entries])
    below = any(value < 0.5 for row in shown for value in (row.roc_auc, *(row.roc_ci or ())) if value is not None)
    head = (tuple(shown), len(rows), undefined, 0.0 if below else 0.5, is_delong, published)
    if table is None or not len(table.scores):
        return TagPart(*head, (), (), None, (), ())
    order = np.argsort(-(table.labels > 0).sum(axis=0), kind="stable")
    found = {int(i): roc_of(table.labels[:, i], table.scores[:, i]) for i in order[:MOST_CARDS]}
    curves = {i: roc for i, roc in found.items() if roc is not None}
    return TagPart(
        *head,
        _overlays(list(curves.values())),
        tuple(_card(table, i, roc) for i, roc in curves.items()),
        _matrix(table, np.sort(order[:MOST_CELLS])),
        _pairs(table),
        list_hardest(table, files),
    )


def _row(entry: Record, table: ScoreTable | None, index: int) -> TagRow:
    roc_auc, bounds = number(entry, "roc_auc"), _bounds(entry.get("roc_auc_ci95"))
    is_delong = bounds is None and roc_auc is not None and table is not None and index < table.scores.shape[1]
    if is_delong and table is not None:
        bounds = delong_interval(table.labels[:, index], table.scores[:, index])
    figures = (number(entry, "pr_auc"), number(entry, "unknown"), number(entry, "f1"))
    return TagRow(clean(entry.get("tag")), number(entry, "positives"), roc_auc, bounds, *figures, is_delong)


def _bounds(interval: Any) -> tuple[float, float] | None:
    if not isinstance(interval, list) or len(interval) != 2:
        return None
    low, high = (number({"v": value}, "v") for value in interval)
    return None if low is None or high is None else (low, high)


def _overlays(curves: Sequence[Roc]) -> tuple[Chart, ...]:
    """Return the ROC and the precision-recall curves of all tags in one picture each, their mean on top."""
    if not curves:
        return ()
    grid = np.linspace(0, 1, 51)
    rocs = [Series("", drawn_roc(roc), "muted", "faint") for roc in curves]
    prs = [Series("", drawn_precision(roc), "muted", "faint") for roc in curves]
    mean = np.mean([np.interp(grid, roc.false_positive_rate, roc.true_positive_rate) for roc in curves], 0)
    roc_mean = Series("mean of the tags", list(zip(grid.tolist(), mean.tolist(), strict=True)), 0)
    heights = np.mean([mean_precision(roc, grid) for roc in curves], 0)
    pr_mean = Series("mean of the tags", steps_of(grid, heights), 1)
    chance = Series("chance", [(0.0, 0.0), (1.0, 1.0)], "grid")
    ends = (0.0, 1.0)
    drawn = (
        line_chart(
            "ROC curves",
            [chance, *rocs, roc_mean],
            "false positive rate",
            "true positive rate",
            x_limits=ends,
            y_limits=ends,
            caption="A grey line is one tag.",
        ),
        line_chart(
            "Precision over recall",
            [*prs, pr_mean],
            "recall",
            "precision",
            x_limits=ends,
            y_limits=ends,
            caption="A grey line is one tag. The area under it is its PR-AUC, that under the coloured one their mean.",
        ),
    )
    return tuple(chart for chart in drawn if chart is not None)


def _card(table: ScoreTable, index: int, roc: Roc) -> TagCard:
    name = clean(table.tags[index], 40)
    negatives, positives = histograms(table.labels[:, index], table.scores[:, index])
    return TagCard(
        name,
        spark(drawn_roc(roc), "c0", diagonal=True, title=f"ROC curve of {name}"),
        spark(drawn_precision(roc), "c1", title=f"precision over recall of {name}"),
        histogram(negatives, positives, f"scores of {name}"),
    )


def _matrix(table: ScoreTable, indices: Any) -> Chart | None:
    shares = co_predictions(table.labels, table.scores)[np.ix_(indices, indices)]
    names = [clean(table.tags[i], 40) for i in indices]
    return matrix_chart(
        *("What is taken for what", names, shares.tolist()),
        caption="Of the clips that have the tag of a row, the share that gets the tag of a column, when each clip gets as many "
        "tags as it has: those with its highest scores. On the diagonal it is right.",
    )


def _pairs(table: ScoreTable) -> tuple[tuple[str, str, int], ...]:
    counts = confusions(table.labels, table.scores)
    found = []
    for place in np.argsort(-counts, axis=None, kind="stable")[:NUM_PAIRS]:
        i, j = np.unravel_index(place, counts.shape)
        if counts[i, j] > 0:
            found.append((clean(table.tags[i], 40), clean(table.tags[j], 40), int(counts[i, j])))
    return tuple(found)
