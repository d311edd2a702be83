"""Row 10: the metrics of an evaluation of MagnaTagATune's size, 25,863 clips x 50 tags, against a histogram loop.

    python -m benchmarks.metrics

ModelZoo's evaluation estimates each tag's ROC-AUC by sorting scores into bins one at a time in Python. `histogram_auc` does the
same, written from that description. Ours gives the exact ROC-AUC and the PR-AUC in the time that is measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.side_by_side import Row, alternate, both, report
from fcn4dist.evaluate.metrics import exact_aucs

NUM_CLIPS, NUM_TAGS = 25_863, 50


def histogram_auc(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return one tag's ROC-AUC by histograms of the positive and the negative scores, half as many bins as clips."""
    num_bins = len(labels) // 2
    positive, negative = np.zeros(num_bins), np.zeros(num_bins)
    for label, score in zip(labels, scores, strict=True):
        place = min(int(score * num_bins), num_bins - 1)
        if label:
            positive[place] += 1
        else:
            negative[place] += 1
    pairs, below = 0.0, 0.0
    for i in range(num_bins):
        pairs += positive[i] * (below + negative[i] / 2)
        below += negative[i]
    return float(pairs / (positive.sum() * negative.sum()))


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Return what measures the seconds of `work`."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def measure(tries: int) -> list[Row]:
    """Return row 10."""
    rng = np.random.default_rng(0)
    labels = (rng.random((NUM_CLIPS, NUM_TAGS)) < 0.05).astype(np.int32)
    scores = np.clip(rng.normal(0.3, 0.15, labels.shape) + 0.15 * labels, 0, 1).astype(
        np.float32
    )  # as a network gives them
    ours = timed(lambda: [exact_aucs(labels[:, i], scores[:, i]) for i in range(NUM_TAGS)])
    theirs = timed(lambda: [histogram_auc(labels[:, i], scores[:, i]) for i in range(NUM_TAGS)])
    ours()
    pairs = alternate(ours, theirs, tries)
    what = f"metrics of {NUM_CLIPS:,} x {NUM_TAGS} scores"
    return [Row("10", what, [their / our for our, their in pairs], 20, **both(pairs, "s"))]


@click.command()
@click.option("--tries", default=3)
def main(tries: int) -> None:
    """Measure the metrics."""
    report(measure(tries), " ".join(["python -m benchmarks.metrics", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
