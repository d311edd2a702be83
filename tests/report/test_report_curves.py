from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from made_run import make_run
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    log_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from fcn4dist.evaluate.hardest import clip_losses
from fcn4dist.report.chart import Chart
from fcn4dist.report.curves import (
    co_predictions,
    confusions,
    delong_interval,
    histograms,
    roc_of,
    top_tags,
)
from fcn4dist.report.per_tag import describe_tags
from fcn4dist.report.run_files import load_run


@pytest.fixture
def one_tag() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.random(300) < 0.2
    return labels, np.round(np.clip(0.4 * labels + rng.random(300) * 0.6, 0, 1), 2)  # many ties


def test_the_curves_are_those_of_scikit_learn(one_tag: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = one_tag
    found = roc_of(labels, scores)
    assert found is not None
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, fpr, atol=1e-12)
    np.testing.assert_allclose(found.true_positive_rate, tpr, atol=1e-12)
    precision, recall, _ = precision_recall_curve(labels, scores)
    np.testing.assert_allclose(found.precision[1:], precision[:-1][::-1], atol=1e-12)
    np.testing.assert_allclose(found.true_positive_rate[1:], recall[:-1][::-1], atol=1e-12)


def area_of(path: str, box: tuple[float, float, float, float]) -> float:
    """Return the area under the `d` of a path, as a browser draws it, in a frame of left, right, top and bottom."""
    left, right, top, bottom = box
    x = y = area = 0.0
    for command, words in re.findall(r"([MLHV])([-\d. ]+)", path):
        values = [float(word) for word in words.split()]
        to_x = x if command == "V" else values[0]
        to_y = y if command == "H" else values[-1]
        if command != "M":
            area += (to_x - x) * ((bottom - y) + (bottom - to_y)) / 2
        x, y = to_x, to_y
    return area / (right - left) / (bottom - top)


@pytest.mark.parametrize("positives", [3, 20, 50, 2000])
@pytest.mark.parametrize("decimals", [2, 7])
def test_the_areas_that_are_drawn_are_scikit_learns_figures(tmp_path: Path, positives: int, decimals: int) -> None:
    """Of a rare tag almost all clips are negatives: points by rank would miss most of its curve."""
    rng = np.random.default_rng(positives)
    labels = np.zeros((5329, 2), np.int8)
    labels[:positives, 0] = labels[::2, 1] = 1
    scores = np.round(1 / (1 + np.exp(-rng.normal(1.6 * labels - 2, 1))), decimals)
    run = make_run(tmp_path / "run", tags=("rare", "common"))
    np.savez(run.scores, clip_ids=np.arange(5329), labels=labels, scores=scores)
    part = describe_tags(load_run(run.path))
    figures = [(average_precision_score(t, s), roc_auc_score(t, s)) for t, s in zip(labels.T, scores.T, strict=True)]
    for card in part.cards:
        precision, auc = figures[("rare", "common").index(card.tag)]
        for svg, expected in ((card.roc, auc), (card.pr, precision)):
            (path,) = re.findall(r'class="line c\d" d="([^"]+)"', svg)
            assert area_of(path, (2, 62, 2, 62)) == pytest.approx(expected, abs=0.004)
    for chart, column in zip(part.charts, (1, 0), strict=True):
        check_overlay(chart, sorted(figure[column] for figure in figures), column == 1)


def check_overlay(chart: Chart, expected: list[float], is_roc: bool) -> None:
    ((left, bottom, right),) = re.findall(r'class="axis" d="M([\d.]+) ([\d.]+)H([\d.]+)"', chart.svg)
    box = (float(left), float(right), 10.0, float(bottom))
    found = sorted(area_of(path, box) for path in re.findall(r'class="faint muted" d="([^"]+)"', chart.svg))
    assert found == pytest.approx(expected, abs=0.004)
    (mean,) = re.findall(r'class="line c\d" d="([^"]+)"', chart.svg)
    # on a grid of fifty: what ROC curves do between two of its places is left out
    assert area_of(mean, box) == pytest.approx(np.mean(expected), abs=0.01 if is_roc else 0.002)


def test_a_tag_of_one_kind_has_no_curve() -> None:
    scores = np.array([0.1, 0.2, 0.3])
    assert roc_of(np.zeros(3, bool), scores) is None
    assert roc_of(np.ones(3, bool), scores) is None
    assert delong_interval(np.array([True, False, False]), scores) is None
    apart = np.array([0.1, 0.2, 0.8, 0.9])
    assert delong_interval(apart > 0.5, apart) is None


def test_delongs_interval_is_its_definition_over_all_pairs(one_tag: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = one_tag
    kernel = (scores[labels][:, None] > scores[~labels]) + 0.5 * (scores[labels][:, None] == scores[~labels])
    variance = kernel.mean(1).var(ddof=1) / labels.sum() + kernel.mean(0).var(ddof=1) / (~labels).sum()
    found = delong_interval(labels, scores)
    assert found is not None
    middle = roc_auc_score(labels, scores)
    assert found == pytest.approx((middle - 1.96 * variance**0.5, middle + 1.96 * variance**0.5), abs=1e-5)


def test_where_each_clip_has_one_tag_the_shares_are_the_confusion_matrix() -> None:
    rng = np.random.default_rng(5)
    truth, scores = rng.integers(0, 4, 200), rng.random((200, 4))
    labels = np.eye(4, dtype=bool)[truth]
    expected = confusion_matrix(truth, scores.argmax(axis=1))
    np.testing.assert_allclose(co_predictions(labels, scores), expected / expected.sum(1, keepdims=True), atol=1e-12)
    np.fill_diagonal(expected, 0)
    np.testing.assert_array_equal(confusions(labels, scores), expected)


def test_a_clip_gets_as_many_tags_as_it_has() -> None:
    labels = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]], bool)
    scores = np.array([[0.1, 0.8, 0.7], [0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])
    expected = np.array([[0, 1, 1], [0, 0, 0], [1, 1, 1]], bool)
    np.testing.assert_array_equal(top_tags(labels, scores), expected)


def test_the_loss_of_a_clip_is_scikit_learns_log_loss_over_its_tags() -> None:
    rng = np.random.default_rng(6)
    labels, scores = rng.random((20, 5)) < 0.5, rng.uniform(0.01, 0.99, (20, 5))
    expected = [log_loss(row, p, labels=[False, True]) for row, p in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(clip_losses(labels, scores), expected, rtol=1e-12)
    assert np.isfinite(clip_losses(np.array([[True]]), np.array([[0.0]]))).all()


def test_unknown_labels_are_left_out_of_every_figure() -> None:
    """What is said of the known ones is what is said where the others are not there at all, or score otherwise."""
    rng = np.random.default_rng(7)
    labels = rng.choice([-1, 0, 1], (200, 4), p=[0.3, 0.4, 0.3]).astype(np.int8)
    scores, known = np.round(rng.random((200, 4)), 2), labels >= 0
    one, kept = labels[:, 0], known[:, 0]
    for figure in (delong_interval, histograms):
        assert figure(one, scores[:, 0]) == figure(one[kept], scores[kept, 0])
    roc = roc_of(one, scores[:, 0])
    assert roc is not None
    np.testing.assert_allclose(
        (roc.false_positive_rate, roc.true_positive_rate),
        roc_curve(one[kept], scores[kept, 0], drop_intermediate=False)[:2],
        atol=1e-12,
    )
    losses = clip_losses(labels, scores.clip(0.01, 0.99))
    for i in range(200):
        row, p = labels[i, known[i]], scores[i, known[i]].clip(0.01, 0.99)
        assert losses[i] == pytest.approx(log_loss(row, p, labels=[0, 1]) if len(row) else 0, rel=1e-12)
    hits, counts, wrong = np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((4, 4))
    for row, p in zip(labels, scores, strict=True):
        ranked = sorted(np.flatnonzero(row >= 0), key=lambda i: -p[i])[: (row > 0).sum()]
        for i in np.flatnonzero(row > 0):
            for j in np.flatnonzero(row >= 0):
                counts[i, j] += 1
                hits[i, j] += j in ranked
                wrong[i, j] += i not in ranked and j in ranked and row[j] == 0
    np.testing.assert_allclose(co_predictions(labels, scores), hits / counts, rtol=1e-12)
    np.testing.assert_array_equal(confusions(labels, scores), wrong)


def test_histograms_hold_shares_of_each_kind() -> None:
    negatives, positives = histograms(np.array([True, False, False]), np.array([1.0, 0.0, 0.02]))
    assert (negatives[0], positives[-1], sum(negatives), sum(positives)) == (1.0, 1.0, 1.0, 1.0)
