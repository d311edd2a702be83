"""Two evaluations side by side: the paired bootstrap, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from score_runs import NUM_CLIPS, TAGS, make_scores, tracks_of, write_clip_list, write_run
from sklearn.metrics import average_precision_score, roc_auc_score

from fcn4dist.errors import DataError
from fcn4dist.evaluate.bootstrap import Resampling
from fcn4dist.evaluate.compare import compare, format_comparison
from fcn4dist.evaluate.document import ScoreSource, load_score_source


def sources(tmp_path: Path, skill_a: float, skill_b: float) -> tuple[ScoreSource, ScoreSource]:
    data = write_clip_list(tmp_path / "data")
    folders = [
        write_run(tmp_path / name, make_scores(seed, skill))
        for name, seed, skill in (("a", 1, skill_a), ("b", 2, skill_b))
    ]
    a, b = (load_score_source(folder, data) for folder in folders)
    return a, b


def test_a_paired_bootstrap_by_hand_gives_the_same(tmp_path: Path) -> None:
    a, b = sources(tmp_path, 0.4, 0.5)
    found = compare(a, b, Resampling(150, seed=7))
    labels, tracks = a.scores.labels, tracks_of()
    rng = np.random.default_rng(7)
    differences = []
    for counts in rng.multinomial(30, np.full(30, 1 / 30), size=150):
        clips = np.repeat(np.arange(NUM_CLIPS), counts[tracks])
        values = [
            np.mean([roc_auc_score(labels[clips, i], source.scores.scores[clips, i]) for i in range(2)])
            for source in (a, b)
        ]
        differences.append(values[1] - values[0])
    drawn = np.array(differences)
    roc = found.macro["roc_auc"]
    assert roc.ci95 == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-12)
    assert roc.p_value == pytest.approx(min(1, 2 * (min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1) / 151), abs=1e-12)
    pr = found.macro["pr_auc"]
    plain = [np.mean([average_precision_score(labels[:, i], s.scores.scores[:, i]) for i in range(2)]) for s in (a, b)]
    assert (pr.a, pr.b) == pytest.approx(tuple(plain), abs=1e-12)
    assert pr.difference == pytest.approx(plain[1] - plain[0], abs=1e-12)
    assert (found.unit, found.num_units, found.num_clips) == ("track", 30, NUM_CLIPS)
    assert found.undefined_tags == ("never",)
    assert set(found.tags) == {"rock", "jazz"}


def test_a_run_does_not_differ_from_itself_and_skill_does(tmp_path: Path) -> None:
    a, b = sources(tmp_path, 0.1, 1.5)
    same = compare(a, a, Resampling(200))
    assert (same.macro["roc_auc"].difference, same.macro["roc_auc"].p_value) == (0.0, 1.0)
    assert same.is_identical
    assert "the scores are identical\n30 tracks" in format_comparison(same)
    assert "chance" not in format_comparison(same)
    other = compare(a, b, Resampling(20))
    assert not other.is_identical
    assert "identical" not in format_comparison(other)
    real = compare(a, b, Resampling(200)).macro["pr_auc"]
    assert real.p_value is not None
    assert real.p_value < 0.02
    assert real.ci95 is not None
    assert real.ci95[0] > 0
    back = compare(b, a, Resampling(200)).macro["pr_auc"]
    assert back.ci95 == pytest.approx((-real.ci95[1], -real.ci95[0]), abs=1e-12)


def test_without_tracks_clips_are_drawn_and_it_says_so(tmp_path: Path) -> None:
    a = load_score_source(write_run(tmp_path / "a", make_scores(1, 0.3)))
    found = compare(a, a, Resampling(50))
    assert (found.unit, found.num_units) == ("clip", NUM_CLIPS)
    assert "warning: tracks are not known" in format_comparison(found)
    data = write_clip_list(tmp_path / "data", names_tracks=False)
    b = load_score_source(tmp_path / "a", data)
    found = compare(b, b, Resampling(50))
    assert (found.unit, found.num_units) == ("clip", NUM_CLIPS)
    assert "warning: tracks are not known" in format_comparison(found)


def test_other_clips_labels_or_tags_are_refused_by_the_first_difference(tmp_path: Path) -> None:
    a, b = sources(tmp_path, 0.3, 0.3)
    fewer = replace(b, scores=make_scores(2, 0.3, NUM_CLIPS - 2))
    with pytest.raises(DataError, match=r"clip 218 is in A only, as are 1 more .*\(120 and 118 clips\)"):
        compare(a, fewer, Resampling(10))
    labels = b.scores.labels.copy()
    labels[5, 1] ^= 1
    with pytest.raises(
        DataError, match=rf"clip 105, tag 'jazz': label {a.scores.labels[5, 1]} in A, {labels[5, 1]} in B; 1 labels"
    ):
        compare(a, replace(b, scores=replace(b.scores, labels=labels)), Resampling(10))
    with pytest.raises(DataError, match="tag 1 is 'jazz' in A, 'blues' in B"):
        compare(a, replace(b, tags=("rock", "blues", "never")), Resampling(10))
    one = replace(b.scores, labels=labels[:, :1], scores=b.scores.scores[:, :1])
    with pytest.raises(DataError, match="3 tags in A, 1 in B"):
        compare(a, replace(b, scores=one, tags=TAGS[:1]), Resampling(10))
