"""Unknown labels (-1): every figure is that of the known ones, against scikit-learn and plain loops over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_runs import tracks_of, write_clip_list
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from fcn4dist.data.dataset import open_dataset
from fcn4dist.evaluate.bootstrap import Resampling
from fcn4dist.evaluate.compare import compare
from fcn4dist.evaluate.document import Evaluated, EvaluationFiles, Scores, ScoreSource, load_score_source
from fcn4dist.evaluate.evaluation import evaluate_scores
from fcn4dist.evaluate.metrics import measure, top_tag_accuracy
from fcn4dist.evaluate.text import tabulate_evaluation
from fcn4dist.evaluate.thresholds import choose_thresholds

TAGS = ("a", "b", "c", "no positive known", "no negative known", "nothing known")
TRACKS = tracks_of(120)
Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture(params=[np.int8, np.int32])
def scored(request: pytest.FixtureRequest) -> Pair:
    rng = np.random.default_rng(0)
    labels = (rng.random((120, 6)) < [0.5, 0.3, 0.2, 0.0, 1.0, 0.5]).astype(request.param)
    scores = np.round(rng.random((120, 6)) * 0.5 + labels * 0.2, 1).astype(np.float32)  # rounded: many ties
    labels[rng.random((120, 6)) < [0.0, 0.3, 0.6, 0.2, 0.2, 1.0]] = -1
    labels[7] = -1  # a clip of which nothing is known
    return labels, scores


def known(scored: Pair, tag: int) -> Pair:
    kept = scored[0][:, tag] >= 0
    return scored[0][kept, tag], scored[1][kept, tag]


def test_every_figure_is_scikit_learns_of_the_known_labels(scored: Pair) -> None:
    labels, scores = scored
    thresholds = (*choose_thresholds(labels, scores)[:3], None, 0.3, 0.3)
    found = measure(labels, scores, TAGS, num_resamples=0, thresholds=thresholds)
    assert found.undefined_tags == TAGS[3:]
    assert [tag.unknown for tag in found.tags] == (labels == -1).sum(axis=0).tolist()
    assert [tag.positives for tag in found.tags] == (labels == 1).sum(axis=0).tolist()
    parts = [known(scored, i) for i in range(6)]
    for tag, (true, score) in zip(found.tags[:3], parts, strict=False):
        assert tag.roc_auc == pytest.approx(roc_auc_score(true, score), abs=1e-12)
        assert tag.pr_auc == pytest.approx(average_precision_score(true, score), abs=1e-12)
        tagged = score >= np.float32(tag.threshold)
        assert tag.precision == pytest.approx(precision_score(true, tagged), abs=1e-12)
        assert tag.recall == pytest.approx(recall_score(true, tagged), abs=1e-12)
        assert tag.f1 == pytest.approx(max(f1_score(true, score >= s) for s in np.unique(score)), abs=1e-12)
    assert (found.tags[5].precision, found.tags[5].recall) == (None, None)
    true, score = labels[labels >= 0], scores[labels >= 0]
    assert found.roc_auc_micro == pytest.approx(roc_auc_score(true, score), abs=1e-12)
    assert found.pr_auc_micro == pytest.approx(average_precision_score(true, score), abs=1e-12)
    true, tagged = (
        np.concatenate(arrays)
        for arrays in zip(
            *[(p[0], p[1] >= np.float32(t)) for p, t in zip(parts, thresholds, strict=True) if t], strict=True
        )
    )
    assert found.decisions is not None
    assert found.decisions.f1_micro == pytest.approx(f1_score(true, tagged), abs=1e-12)
    assert found.decisions.precision_micro == pytest.approx(precision_score(true, tagged), abs=1e-12)
    assert found.num_tagged == sum(1 in row for row in labels.tolist())
    for at_rank in found.at_ranks:
        precision, recall = [], []
        for row, values in zip(labels.tolist(), scores.tolist(), strict=True):
            if 1 in row:
                ranked = sorted((i for i in range(6) if row[i] >= 0), key=lambda i: (-values[i], i))[: at_rank.k]
                precision.append(np.mean([row[i] for i in ranked]))
                recall.append(sum(row[i] for i in ranked) / row.count(1))
        assert (at_rank.precision, at_rank.recall) == pytest.approx((np.mean(precision), np.mean(recall)), abs=1e-12)
    assert top_tag_accuracy(np.array([[1, 0], [1, -1]]), np.ones((2, 2))) is None


def resample(scored: Pair, num: int, seed: int) -> np.ndarray:
    """Return both AUCs (num, 2, 3) of the three defined tags by the plain way: copy the clips, then take the known ones."""
    figures = []
    for counts in np.random.default_rng(seed).multinomial(30, np.full(30, 1 / 30), size=num):
        clips = np.repeat(np.arange(120), counts[TRACKS])
        parts = [known((scored[0][clips], scored[1][clips]), i) for i in range(3)]
        figures.append([[figure(*part) for part in parts] for figure in (roc_auc_score, average_precision_score)])
    return np.array(figures)


def test_intervals_are_those_of_a_plain_bootstrap(scored: Pair) -> None:
    found = measure(*scored, TAGS, groups=TRACKS, num_resamples=60, seed=5)
    drawn = resample(scored, 60, 5)
    bounds, macro = (np.quantile(values, [0.025, 0.975], axis=0) for values in (drawn, drawn.mean(axis=2)))
    for i, tag in enumerate(found.tags[:3]):
        assert tag.roc_auc_ci95 == pytest.approx(bounds[:, 0, i], abs=1e-12)
        assert tag.pr_auc_ci95 == pytest.approx(bounds[:, 1, i], abs=1e-12)
    assert found.roc_auc_ci95 == pytest.approx(macro[:, 0], abs=1e-12)
    assert found.pr_auc_ci95 == pytest.approx(macro[:, 1], abs=1e-12)


def test_scores_of_unknown_labels_change_nothing(scored: Pair) -> None:
    labels, scores = scored
    other = np.where(labels < 0, np.random.default_rng(9).random(scores.shape), scores).astype(np.float32)
    settings: dict[str, Any] = {"groups": TRACKS, "num_resamples": 50, "thresholds": choose_thresholds(labels, scores)}
    assert choose_thresholds(labels, other) == settings["thresholds"]
    assert measure(labels, other, TAGS, **settings) == measure(labels, scores, TAGS, **settings)


def test_a_comparison_is_of_the_known_labels(scored: Pair, tmp_path: Path) -> None:
    labels, scores = scored
    better = np.where(labels > 0, scores + np.float32(0.1), scores)
    data = write_clip_list(tmp_path / "data", 120)
    ids = np.arange(100, 220, dtype=np.int32)
    known = open_dataset(data)
    a, b = (ScoreSource(data, Scores(ids, labels, values), TAGS, known) for values in (scores, better))
    found = compare(a, b, Resampling(60, seed=2))
    drawn = (resample((labels, better), 60, 2) - resample(scored, 60, 2)).mean(axis=2)
    for i, metric in enumerate(("roc_auc", "pr_auc")):
        assert found.macro[metric].ci95 == pytest.approx(np.quantile(drawn[:, i], [0.025, 0.975]), abs=1e-12)
    assert found.undefined_tags == TAGS[3:]


def test_the_document_and_the_text_say_how_many_are_unknown(scored: Pair, tmp_path: Path) -> None:
    labels, scores = scored
    ids = np.arange(120, dtype=np.int32)
    evaluation = evaluate_scores(
        Scores(ids, labels, scores), TAGS, Evaluated("val", "random", 120), None, num_resamples=0
    )
    EvaluationFiles.in_folder(tmp_path).save(evaluation, None)
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert [tag["unknown"] for tag in document["tags"]] == (labels < 0).sum(axis=0).tolist()
    assert document["num_unknown"] == (labels < 0).sum()
    np.testing.assert_array_equal(load_score_source(tmp_path).scores.labels, labels)
    assert "positives  unknown  ROC-AUC" in tabulate_evaluation(evaluation)
    all_known = evaluate_scores(
        Scores(ids, np.abs(labels), scores), TAGS, Evaluated("val", "random", 120), None, num_resamples=0
    )
    assert "unknown" not in tabulate_evaluation(all_known)
