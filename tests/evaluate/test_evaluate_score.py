"""Scores of a network: they rank clips as its logits do, also where the sigmoid is 1 in float32."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, getcontext
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from fcn4dist.config import ModelConfig
from fcn4dist.data.dataset import open_dataset
from fcn4dist.data.shards import Row, RowFormat, write_shard
from fcn4dist.errors import DataError
from fcn4dist.evaluate.document import Evaluated, EvaluationFiles, load_score_source
from fcn4dist.evaluate.evaluation import evaluate_scores
from fcn4dist.evaluate.score import logit_of_mean, score_split
from fcn4dist.job.rank import SINGLE
from fcn4dist.model.fcn4 import FCN4

NUM_CLIPS = 40
MODEL = ModelConfig(channels=[4, 4, 6, 8], pools=[(2, 2), (2, 2), (2, 2)])


def test_clips_rank_by_logits_where_the_sigmoid_is_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(0, 1, (NUM_CLIPS, 1, 8, 16)).astype(np.float32)
    labels = (rng.random((NUM_CLIPS, 2)) < 0.4).astype(np.int8)
    rows = (Row(i, features[i], labels[i]) for i in range(NUM_CLIPS))
    assert write_shard(
        tmp_path / "val.mindrecord0", rows, NUM_CLIPS, RowFormat((1, 8, 16), "float32", 2), ["val.mindrecord0"]
    )
    data = open_dataset(tmp_path)
    ms.set_seed(1)
    network = FCN4(MODEL, 2)
    network.dense.weight.set_data(ms.Tensor(rng.normal(0, 20, (2, 8)), ms.float32))
    network.dense.bias.set_data(ms.Tensor([45.0, 45.0], ms.float32))
    network.set_train(False)
    logits = np.concatenate([network(ms.Tensor(features[i : i + 1])).asnumpy() for i in range(NUM_CLIPS)])
    assert (logits > 17).all()
    assert len(np.unique(expit(logits))) == 1  # what float32 leaves of them

    found = score_split(network, data.split("val"), 16, SINGLE)
    np.testing.assert_allclose(found.ranking, logits, rtol=1e-5)
    evaluation = evaluate_scores(found, ("a", "b"), Evaluated("val", "random", NUM_CLIPS), None, num_resamples=20)
    for i, tag in enumerate(evaluation.metrics.tags):
        assert tag.roc_auc == pytest.approx(roc_auc_score(labels[:, i], found.ranking[:, i]), abs=1e-12)
        assert tag.pr_auc == pytest.approx(average_precision_score(labels[:, i], found.ranking[:, i]), abs=1e-12)
        assert tag.roc_auc != 0.5
        assert tag.roc_auc_ci95 is not None
        assert tag.roc_auc_ci95[0] < tag.roc_auc_ci95[1]  # resamples see the order, too

    # and what is kept ranks alike when it is measured again
    files = EvaluationFiles.in_folder(tmp_path / "out")
    (tmp_path / "out").mkdir()
    files.save(evaluation, None)
    again = load_score_source(tmp_path / "out")
    np.testing.assert_array_equal(again.scores.ranking, found.ranking)
    damaged = replace(evaluation, scores=replace(found, logits=np.full_like(found.ranking, np.inf)))
    files.save(damaged, None)
    with pytest.raises(DataError, match=r"scores.npz: logits .* expected a number for each score"):
        load_score_source(tmp_path / "out")


@pytest.mark.parametrize("logits", [[-3.0, 0.5, 2.0], [17.0, 40.0, 60.0], [-90.0, -120.0], [100.0, -100.0]])
def test_the_logit_of_a_mean_score_is_exact(logits: list[float]) -> None:
    """Against decimal numbers of 80 digits; a float32 sigmoid of any of the large ones is 0 or 1."""
    getcontext().prec = 80
    ones = [1 / (1 + (-Decimal(value)).exp()) for value in logits]
    mean = sum(ones, Decimal(0)) / len(ones)
    expected = float((mean / (1 - mean)).ln())
    found = logit_of_mean(np.array(logits, np.float32)[:, None])
    assert float(found[0]) == pytest.approx(expected, rel=1e-6, abs=1e-6)
