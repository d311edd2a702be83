"""Every figure of an evaluation against scikit-learn or plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from fcn4dist.errors import DataError
from fcn4dist.evaluate.metrics import exact_aucs, measure, measure_ranks, top_tag_accuracy

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
    assert metrics.roc_auc_macro == pytest.approx(
        roc_auc_score(labels[:, :3], scores[:, :3], average="macro"), abs=1e-12
    )
    assert metrics.pr_auc_macro == pytest.approx(np.mean(pr), abs=1e-12)
    assert metrics.roc_auc_micro == pytest.approx(roc_auc_score(labels, scores, average="micro"), abs=1e-12)
    assert metrics.pr_auc_micro == pytest.approx(average_precision_score(labels, scores, average="micro"), abs=1e-12)
    assert metrics.undefined_tags == ("never",)
    assert metrics.tags[3].roc_auc is None
    assert metrics.roc_auc_ci95 is None
    assert metrics.decisions is None
    assert metrics.num_tagged == int(labels.any(axis=1).sum())


def test_decisions_are_those_of_scikit_learn(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    thresholds = (0.4, 0.7, 2.0, None)  # the third tags nothing, the fourth is not decided about
    metrics = measure(labels, scores, TAGS, num_resamples=0, thresholds=thresholds)
    tagged = scores[:, :3] >= np.array(thresholds[:3], np.float32)
    true = labels[:, :3]
    assert [tag.f1 for tag in metrics.tags[:3]] == pytest.approx(f1_score(true, tagged, average=None), abs=1e-12)
    assert [tag.precision for tag in metrics.tags[:2]] == pytest.approx(
        precision_score(true[:, :2], tagged[:, :2], average=None), abs=1e-12
    )
    assert metrics.tags[2].precision is None
    assert [tag.recall for tag in metrics.tags[:3]] == pytest.approx(
        recall_score(true, tagged, average=None), abs=1e-12
    )
    assert (metrics.tags[3].threshold, metrics.tags[3].f1) == (None, None)
    decisions = metrics.decisions
    assert decisions is not None
    assert decisions.f1_macro == pytest.approx(f1_score(true, tagged, average="macro"), abs=1e-12)
    assert decisions.f1_micro == pytest.approx(f1_score(true, tagged, average="micro"), abs=1e-12)
    assert decisions.precision_micro == pytest.approx(precision_score(true, tagged, average="micro"), abs=1e-12)
    assert decisions.recall_micro == pytest.approx(recall_score(true, tagged, average="micro"), abs=1e-12)


def test_precision_and_recall_at_k_are_those_of_a_plain_loop(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    assert not labels.any(axis=1).all()  # some clips have no tag: they take no part
    for found in measure_ranks(labels, scores, ranks=(1, 2, 4, 9)):
        precision, recall = [], []
        for label, score in zip(labels, scores, strict=True):
            if label.any():
                top = sorted(range(4), key=lambda i: (-score[i], i))[: found.k]
                precision.append(sum(label[i] for i in top) / found.k)
                recall.append(sum(label[i] for i in top) / label.sum())
        assert (found.precision, found.recall) == pytest.approx((np.mean(precision), np.mean(recall)), abs=1e-12)
    assert [found.k for found in measure_ranks(labels, scores, ranks=(1, 2, 4, 9))] == [1, 2, 4]
    assert measure_ranks(np.zeros((3, 2), np.int32), np.ones((3, 2))) == ()


def test_scores_that_are_not_numbers_are_refused_by_clip_and_tag(scored: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = scored
    scores[3, 1] = np.nan
    scores[40, 0] = np.inf
    with pytest.raises(DataError, match=r"clip 1003, tag 'b' is nan; 2 of 60 clips have a NaN"):
        measure(labels, scores, TAGS, clip_ids=np.arange(1000, 1060))
    with pytest.raises(DataError, match=r"clip 3, tag 'b' is nan"):
        measure(labels, scores, TAGS)


def test_ties_count_half_and_unknown_labels_not_at_all() -> None:
    labels, scores = np.array([1, 0, 1, 0, 0, -1]), np.array([0.9, 0.5, 0.5, 0.5, 0.1, 0.7], np.float32)
    roc_auc, pr_auc = exact_aucs(labels, scores)
    # 6 pairs: 0.9 beats three, 0.5 beats one and ties with two; precision 1 at 0.9, 2 of 4 at 0.5
    assert (roc_auc, pr_auc) == pytest.approx(((3 + 1 + 2 / 2) / 6, (1 + 2 / 4) / 2))
    for label in (0, 1, -1):
        assert np.isnan(exact_aucs(np.full(4, label), np.arange(4.0))).all()


def test_nothing_is_invented_where_no_tag_is_defined() -> None:
    metrics = measure(np.ones((3, 1), np.int32), np.ones((3, 1)), ("x",), thresholds=(None,))
    assert metrics.roc_auc_macro is None
    assert metrics.roc_auc_micro is None
    assert metrics.roc_auc_ci95 is None
    assert metrics.undefined_tags == ("x",)
    assert metrics.decisions is not None
    assert metrics.decisions.f1_macro is None


def test_the_top_tag_counts_only_where_each_clip_has_one() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert top_tag_accuracy(np.array([[1, 0], [0, 1]]), scores) == 0.5
    assert top_tag_accuracy(np.array([[1, 1], [0, 1]]), scores) is None
