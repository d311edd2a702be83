"""A taggram: a picture of the tags of a piece over time (Pons and Serra, musicnn, arXiv:1909.06654)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.letters import missing_letters_allowed
from fcn4dist.errors import ConfigError, shorten_name
from fcn4dist.files import save_atomically

if TYPE_CHECKING:
    from fcn4dist.tag.tagger import Tagging

MAX_COLUMNS = 4000  # windows drawn; of more, neighbours are averaged
MAX_NAME = 40
FORMATS = ("png", "svg", "pdf")


def check_picture(file: Path) -> None:
    """Raise ConfigError when no picture can be written there."""
    if file.suffix.lower().removeprefix(".") not in FORMATS:
        raise ConfigError(f"--picture {file}: expected a name that ends in .{', .'.join(FORMATS)}")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--picture {file}: no such folder: {file.parent}")


def draw_taggram(tagging: Tagging, num_tags: int, file: Path) -> None:
    """Draw the `num_tags` highest tags over time into `file` (.png, .svg or .pdf); silent windows are grey.

    Raises ConfigError when the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    top = tagging.ranking(num_tags)
    figure = Figure(figsize=(11, 1.6 + 0.26 * len(top)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("0.85")
    edges, values = _columns(tagging)
    mesh = axes.pcolormesh(
        edges, np.arange(len(top) + 1), values[:, top].T, vmin=0, vmax=1, cmap="magma", shading="flat"
    )
    labels = [f"{shorten_name(tagging.tags[i], MAX_NAME)}  {tagging.scores[i]:.2f}" for i in top]
    axes.set_yticks(np.arange(len(top)) + 0.5, labels, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MultipleLocator(_tick_step(tagging.duration_s)))
    axes.xaxis.set_major_formatter(lambda seconds, _: format_time(seconds))
    axes.set_xlabel("time")
    axes.set_title(shorten_name(tagging.file.name, 90), loc="left", fontsize="medium", parse_math=False)
    figure.colorbar(mesh, ax=axes, label="score", pad=0.01, fraction=0.03)
    file_format = file.suffix.lower().removeprefix(".")
    try:
        with missing_letters_allowed():
            save_atomically(file, lambda target: figure.savefig(target, format=file_format, dpi=120))
    except OSError as error:
        raise ConfigError(f"--picture {file}: cannot be written: {error.strerror or error}") from None


def format_time(seconds: float) -> str:
    """Return 0:29 or 1:02:03."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, whole = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"


def _tick_step(duration_s: float) -> float:
    """Return a round step of time that gives at most twelve ticks."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    hours = 3600.0 * -(-duration_s // (12 * 3600))
    return next((step for step in steps if duration_s / step <= 12), hours)


def _columns(tagging: Tagging) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the edges of the columns in seconds (W + 1,) and their scores (W, num_tags).

    A column lies around the middle of its window, halfway to its neighbours'.
    """
    middles, values = (tagging.times_s + tagging.ends_s) / 2, tagging.window_scores
    edges = np.concatenate([[0.0], (middles[:-1] + middles[1:]) / 2, [tagging.duration_s]])
    at_once = -(-len(values) // MAX_COLUMNS)
    if at_once > 1:
        starts = np.arange(0, len(values), at_once)
        known = ~np.isnan(values)
        counts = np.add.reduceat(known.astype(np.float32), starts)
        sums = np.add.reduceat(np.where(known, values, 0), starts)
        values = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
        edges = np.append(edges[starts], edges[-1])
    return edges, values
