"""A picture of a prepared data set: tags a part, tags that go together, durations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fcn4dist.data.letters import missing_letters_allowed
from fcn4dist.data.stats import DataStats
from fcn4dist.errors import DataError, shorten_name
from fcn4dist.files import save_atomically

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = {"train": "#0072B2", "val": "#E69F00", "test": "#009E73"}  # told apart by colour-blind eyes, too
MOST_NAMED = 60  # tags; with more, the axis is not labelled one by one
MOST_LETTERS = 24  # of a tag's name


def check_picture_file(file: Path) -> None:
    """Raise DataError where the name's ending is no format that is drawn, or its folder is not there."""
    if file.suffix.lower() not in SUFFIXES:
        raise DataError(f"--picture {file}: expected a name that ends in {', '.join(SUFFIXES)}")
    if not file.absolute().parent.is_dir():
        raise DataError(f"--picture {file}: no such folder: {file.absolute().parent}")


def save_data_picture(stats: DataStats, file: Path) -> None:
    """Draw `stats` into `file` (.png, .svg or .pdf), whole or not at all. Raises DataError where it cannot be written."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # without pyplot: no window system, no state

    num_tags = len(stats.tags)
    side = min(16.0, max(4.0, 0.2 * num_tags))
    settings = {"svg.hashsalt": "fcn4dist", "text.parse_math": False}  # a tag may hold dollar signs
    with rc_context(settings), missing_letters_allowed():
        figure = Figure(figsize=(6 + side, side + 3.2), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=(5, side), height_ratios=(side, 2.2))
        _draw_positives(figure.add_subplot(grid[0, 0]), stats)
        _draw_pairs(figure, figure.add_subplot(grid[0, 1]), stats)
        _draw_durations(figure.add_subplot(grid[1, 0]), stats)
        _draw_counts(figure.add_subplot(grid[1, 1]), stats)
        figure.suptitle(f"{stats.num_clips} clips, {num_tags} tags, split {shorten_name(stats.split_name, 60)}")
        suffix = file.suffix.lower().removeprefix(".")
        metadata = {"Date": None} if suffix == "svg" else None  # the same data gives the same file
        try:
            save_atomically(file, lambda opened: figure.savefig(opened, format=suffix, dpi=120, metadata=metadata))
        except OSError as error:
            raise DataError(f"--picture {file}: cannot be written: {error.strerror or error}") from None


def _draw_positives(axes: Any, stats: DataStats) -> None:
    places = np.arange(len(stats.tags))
    left = np.zeros(len(stats.tags))
    for name, part in stats.parts.items():
        counts = np.array(part.positives)
        axes.barh(places, counts, left=left, color=COLOURS[name], label=name, height=0.8)
        left += counts
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("clips with the tag")
    axes.legend(loc="lower right")
    _name_tags(axes, stats.tags, is_vertical=True)


def _draw_pairs(figure: Any, axes: Any, stats: DataStats) -> None:
    both = stats.cooccurrence.astype(float)
    counts = np.maximum(both.diagonal(), 1)
    image = axes.imshow(both / counts[:, None], cmap="viridis", vmin=0, vmax=1)
    axes.set_title("share of the row's clips that have the column's tag, too", fontsize="medium")
    _name_tags(axes, stats.tags, is_vertical=True)
    _name_tags(axes, stats.tags, is_vertical=False)
    figure.colorbar(image, ax=axes, shrink=0.8)


def _draw_durations(axes: Any, stats: DataStats) -> None:
    if len(stats.durations_s):
        axes.hist(stats.durations_s, bins=40, color="#56708A")
        axes.set_ylabel("clips")
    else:
        axes.text(0.5, 0.5, "durations are not known", ha="center", va="center", transform=axes.transAxes)
    axes.set_xlabel("length of the audio file, s")


def _draw_counts(axes: Any, stats: DataStats) -> None:
    most = max(int((part.labels == 1).sum(axis=1).max(initial=0)) for part in stats.parts.values())
    bottom = np.zeros(most + 1)
    for name, part in stats.parts.items():
        counts = np.bincount((part.labels == 1).sum(axis=1), minlength=most + 1)
        axes.bar(np.arange(most + 1), counts, bottom=bottom, color=COLOURS[name], label=name)
        bottom += counts
    axes.set_xlabel("tags a clip")
    axes.set_ylabel("clips")


def _name_tags(axes: Any, tags: list[str], *, is_vertical: bool) -> None:
    axis = axes.yaxis if is_vertical else axes.xaxis
    if len(tags) > MOST_NAMED:
        return
    names = [shorten_name(tag, MOST_LETTERS) for tag in tags]
    axis.set_ticks(np.arange(len(tags)), labels=names, fontsize=8)
    if not is_vertical:
        axes.tick_params(axis="x", rotation=90)
