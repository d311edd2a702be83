"""Resampled figures against scikit-learn with weights and with copied rows, and how long they take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, roc_auc_score

from fcn4dist.evaluate.bootstrap import RankedTag, Resampling, draw_tracks, interval_of, macro_means, resample_aucs


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 3)) < [0.5, 0.4, 0.1]).astype(np.int32)
    scores = np.round(rng.random((60, 3)) * 0.5 + labels * 0.3, 1).astype(np.float32)  # rounded: many ties
    return labels, scores


@settings(deadline=None, max_examples=60)
@given(
    labels=arrays.arrays(np.int32, 24, elements=st.integers(0, 1)),
    scores=arrays.arrays(np.float32, 24, elements=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.5 + 2**-24, 1.0])),
    tracks=arrays.arrays(np.intp, 24, elements=st.integers(0, 7)),
    weights=arrays.arrays(np.float64, (8, 3), elements=st.integers(0, 4)),
)
def test_weighted_figures_are_those_of_scikit_learn(
    labels: np.ndarray, scores: np.ndarray, tracks: np.ndarray, weights: np.ndarray
) -> None:
    roc, pr = RankedTag.of(labels, scores, tracks, 8).weighted_auc(weights)
    for k in range(3):
        weight = weights[tracks, k]
        if not {0, 1} <= set(labels[weight > 0].tolist()):
            assert np.isnan(roc[k])
            assert np.isnan(pr[k])
            continue
        assert roc[k] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weight), abs=1e-12)
        assert pr[k] == pytest.approx(average_precision_score(labels, scores, sample_weight=weight), abs=1e-12)


def test_intervals_are_those_of_a_plain_bootstrap_over_tracks(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored[0][:, :2], scored[1][:, :2]
    tracks = np.array([f"track {i // 3}" for i in range(60)])
    figures = resample_aucs(labels, scores, tracks, Resampling(600, seed=4))
    members = np.unique(tracks, return_inverse=True)[1]
    rng = np.random.default_rng(4)
    roc, pr = [], []
    for counts in rng.multinomial(20, np.full(20, 1 / 20), size=600)[:100]:
        clips = np.concatenate([np.repeat(np.flatnonzero(members == g), n) for g, n in enumerate(counts)])
        roc.append([roc_auc_score(labels[clips, i], scores[clips, i]) for i in range(2)])
        pr.append([average_precision_score(labels[clips, i], scores[clips, i]) for i in range(2)])
    np.testing.assert_allclose(figures[0, :, :100], np.transpose(roc), atol=1e-12)
    np.testing.assert_allclose(figures[1, :, :100], np.transpose(pr), atol=1e-12)
    assert figures.shape == (2, 2, 600)
    means = macro_means(figures[0])
    assert interval_of(means) == pytest.approx(tuple(np.quantile(figures[0].mean(axis=0), [0.025, 0.975])), abs=1e-12)


def test_a_seed_draws_the_same_tracks_whatever_the_block() -> None:
    drawn = np.concatenate(list(draw_tracks(11, Resampling(700, seed=3))), axis=1)
    expected = np.random.default_rng(3).multinomial(11, np.full(11, 1 / 11), size=700).T
    np.testing.assert_array_equal(drawn, expected)
    other = np.concatenate(list(draw_tracks(11, Resampling(700, seed=4))), axis=1)
    assert (other != expected).any()


def test_a_tag_that_a_resample_loses_is_left_out_of_its_mean() -> None:
    figures = np.array([[0.5, np.nan, np.nan], [0.7, 0.9, np.nan]])
    np.testing.assert_allclose(macro_means(figures), [0.6, 0.9, np.nan])
    assert interval_of(np.full(5, np.nan)) is None


def test_clips_of_one_track_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(rng.integers(0, 2, (30, 1)), 10, axis=0).astype(np.int32)
    scores = np.repeat(rng.random((30, 1)), 10, axis=0) + labels * 0.3
    narrow = interval_of(resample_aucs(labels, scores, None, Resampling(300))[0, 0])
    wide = interval_of(resample_aucs(labels, scores, np.arange(300) // 10, Resampling(300))[0, 0])
    assert narrow is not None
    assert wide is not None
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_a_test_set_as_large_as_magnatagatunes() -> None:
    """2,000 resamples of 5,329 clips x 50 tags of no skill: a macro AUC of one half."""
    rng = np.random.default_rng(1)
    labels = (rng.random((5329, 50)) < 0.054).astype(np.int32)
    scores = rng.random((5329, 50), dtype=np.float32)
    figures = resample_aucs(labels, scores, rng.integers(0, 1129, 5329), Resampling(2000))
    assert figures.shape == (2, 50, 2000)
    assert abs(macro_means(figures[0]).mean() - 0.5) < 0.02
