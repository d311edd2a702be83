"""Groups of runs side by side, against plain NumPy, SciPy and scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from score_runs import TAGS, make_scores, write_run
from sklearn.metrics import average_precision_score, roc_auc_score

from fcn4dist.cli.main import main
from fcn4dist.config import format_config, load_config
from fcn4dist.evaluate.document import Scores


def write_seed(folder: Path, seed: int, skill: float, draw: int, scores: Scores | None = None) -> Scores:
    scores = scores or make_scores(draw, skill)
    write_run(folder, scores)
    (folder / "config.yaml").write_text(
        format_config(load_config(None, [f"train.seed={seed}", "data.records_dir=/gone"]))
    )
    return scores


def compare(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = 0
    try:
        main(["evaluate", "--compare", *map(str, arguments)])
    except SystemExit as ended:
        code = int(ended.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def macro(scores: Scores, metric: object) -> float:
    return float(np.mean([metric(scores.labels[:, i], scores.scores[:, i]) for i in range(2)]))  # type: ignore[operator]


def test_mean_and_spread_of_the_differences_are_those_of_numpy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The groups name their seeds in another order: pairs are by seed, and each figure is scikit-learn's."""
    seeds = (3, 1, 2)
    a = [write_seed(tmp_path / "a" / f"seed-{s}", s, 0.3, 10 + s) for s in seeds]
    b = {s: write_seed(tmp_path / "b" / f"run-{9 - s}", s, 0.5, 20 + s) for s in (1, 2, 3)}
    folders = ",".join(str(tmp_path / "a" / f"seed-{s}") for s in seeds)
    code, out, _ = compare(capsys, folders, tmp_path / "b", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["num_pairs"], found["is_by_seed"], len(found["tags"])) == (3, True, 2)
    for key, metric in (("roc_auc_macro", roc_auc_score), ("pr_auc_macro", average_precision_score)):
        values = np.array([[macro(own, metric), macro(b[s], metric)] for s, own in zip(seeds, a, strict=True)])
        for name, column in (("a", values[:, 0]), ("b", values[:, 1]), ("difference", values[:, 1] - values[:, 0])):
            expected = {"mean": column.mean(), "deviation": column.std(ddof=1), "num": 3}
            assert found[key][name] == pytest.approx(expected, rel=1e-9), (key, name)
        test = stats.ttest_rel(values[:, 1], values[:, 0])
        assert found[key]["p_value"] == pytest.approx(test.pvalue, rel=1e-9)
        assert found[key]["ci95"] == pytest.approx(tuple(test.confidence_interval(0.95)), rel=1e-9)
    own = [
        [roc_auc_score(s.labels[:, 1], s.scores[:, 1]) for s in (x, b[seed])] for seed, x in zip(seeds, a, strict=True)
    ]
    assert found["tags"][1]["tag"] == TAGS[1]
    assert found["tags"][1]["roc_auc"]["difference"]["mean"] == pytest.approx(
        np.mean([y - x for x, y in own]), rel=1e-9
    )
    _, text, _ = compare(capsys, folders, tmp_path / "b")
    assert "seed 3, " in text.splitlines()[0]
    assert "n = 3 pairs of runs on the same clips, by seed; ± is the sample standard deviation" in text
    difference = found["roc_auc_macro"]["difference"]
    assert f"B - A {difference['mean']:+.4f} ± {difference['deviation']:.4f} (95 % interval " in text
    assert f"A: {tmp_path}/a/seed-3: step-00000001\n" in text


def test_other_seeds_are_paired_in_their_order_and_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2):
        write_seed(tmp_path / "a" / str(seed), seed, 0.3, seed)
        write_seed(tmp_path / "b" / str(seed), 5 + seed, 0.3, seed)  # the same scores: no difference at all
    code, text, _ = compare(capsys, tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "B - A +0.0000 ± 0.0000\n" in text
    assert "n = 2 pairs of runs on the same clips, in their order" in text


def test_groups_that_cannot_be_paired_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2, 3):
        write_seed(tmp_path / "a" / str(seed), seed, 0.3, seed)
    write_seed(tmp_path / "b" / "1", 1, 0.3, 7)
    write_seed(tmp_path / "b" / "2", 2, 0.3, 8)
    code, _, said = compare(capsys, tmp_path / "a", tmp_path / "b")
    assert (code, said.count("\n")) == (2, 1)
    assert "--compare: 3 runs in A, 2 in B; expected as many of each on the same clips" in said
    write_seed(tmp_path / "b" / "3", 3, 0.3, 0, make_scores(9, 0.3, 100))
    code, _, said = compare(capsys, tmp_path / "a", tmp_path / "b")
    assert (code, said.count("\n")) == (2, 1)
    assert "is in A only" in said
