from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fcn4dist.errors import DataError
from fcn4dist.evaluate.metrics import RankedTag, bootstrap_intervals, measure, top_tag_accuracy

TAGS = ("a", "b", "c", "never")


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 4)) < [0.5, 0.2, 0.1, 0.0]).astype(np.int32)
    scores = np.round(rng.random((60, 4)) * 0.5 + labels * 0.3, 1).astype(np.float32)  # rounded: many ties
    return labels, scores


def test_figures_are_those_of_scikit_learn(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    metrics = measure(labels, scores, TAGS, num_resamples=0)
    roc = [roc_auc_score(labels[:, i], scores[:, i]) for i in range(3)]
    pr = [average_precision_score(labels[:, i], scores[:, i]) for i in range(3)]
    assert [tag.roc_auc for tag in metrics.tags[:3]] == pytest.approx(roc, abs=1e-12)
    assert [tag.pr_auc for tag in metrics.tags[:3]] == pytest.approx(pr, abs=1e-12)
    assert metrics.roc_auc_macro == pytest.approx(np.mean(roc), abs=1e-12)
    assert metrics.pr_auc_macro == pytest.approx(np.mean(pr), abs=1e-12)
    assert metrics.undefined_tags == ("never",)
    assert metrics.tags[3].roc_auc is None
    assert metrics.roc_auc_ci95 is None


def test_weighted_figures_are_those_of_scikit_learn(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    weights = np.random.default_rng(1).integers(0, 4, (5, 60)).astype(float)
    roc, pr = RankedTag.of(labels[:, 1], scores[:, 1]).weighted_auc(weights)
    for k, weight in enumerate(weights):
        assert roc[k] == pytest.approx(roc_auc_score(labels[:, 1], scores[:, 1], sample_weight=weight), abs=1e-12)
        expected = average_precision_score(labels[:, 1], scores[:, 1], sample_weight=weight)
        assert pr[k] == pytest.approx(expected, abs=1e-12)


def test_intervals_are_those_of_a_plain_bootstrap_over_groups(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored[0][:, :2], scored[1][:, :2]
    groups = np.arange(60) // 3
    (low, high), _ = bootstrap_intervals(labels, scores, groups, 200, seed=4)
    rng = np.random.default_rng(4)
    figures = []
    for counts in np.concatenate([rng.multinomial(20, np.full(20, 1 / 20), size=100) for _ in range(2)]):
        clips = np.concatenate([np.repeat(np.flatnonzero(groups == g), n) for g, n in enumerate(counts)])
        figures.append(np.mean([roc_auc_score(labels[clips, i], scores[clips, i]) for i in range(2)]))
    assert (low, high) == pytest.approx(tuple(np.quantile(figures, [0.025, 0.975])), abs=1e-9)


def test_clips_of_one_piece_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(rng.integers(0, 2, (30, 1)), 10, axis=0).astype(np.int32)
    scores = np.repeat(rng.random((30, 1)), 10, axis=0) + labels * 0.3
    (low, high), _ = bootstrap_intervals(labels, scores, np.arange(300), 300, 0)
    (group_low, group_high), _ = bootstrap_intervals(labels, scores, np.arange(300) // 10, 300, 0)
    assert group_high - group_low > 2 * (high - low)


def test_scores_that_are_not_numbers_are_refused(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    scores[3, 1] = np.nan
    with pytest.raises(DataError, match="1 of 60 clips have a NaN"):
        measure(labels, scores, TAGS)


def test_nothing_is_invented_where_no_tag_is_defined() -> None:
    metrics = measure(np.ones((3, 1), np.int32), np.ones((3, 1)), ("x",))
    assert metrics.roc_auc_macro is None
    assert metrics.undefined_tags == ("x",)


def test_the_top_tag_counts_only_where_each_clip_has_one() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert top_tag_accuracy(np.array([[1, 0], [0, 1]]), scores) == 0.5
    assert top_tag_accuracy(np.array([[1, 1], [0, 1]]), scores) is None
