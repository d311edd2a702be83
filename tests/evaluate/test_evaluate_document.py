"""Files of scores: what is read, what is refused, and what a folder tells about them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from score_runs import TAGS, make_scores, write_clip_list, write_run

from fcn4dist.errors import DataError
from fcn4dist.evaluate.document import EvaluationFiles, Scores, load_score_source

GOOD = {
    "clip_ids": np.array([7, 3]),
    "labels": np.array([[1, 0], [0, 1]]),
    "scores": np.array([[0.9, 0.2], [0.3, 0.4]], np.float32),
}


def load_scores(file: Path, tags: tuple[str, ...] | None = None) -> Scores:
    return EvaluationFiles(file.with_name("evaluation.json"), file).load_scores(tags)


def write(file: Path, **changes: np.ndarray | None) -> Path:
    np.savez(file, **{name: array for name, array in {**GOOD, **changes}.items() if array is not None})
    return file


def test_clips_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    scores = load_scores(write(tmp_path / "s.npz"))
    assert scores.clip_ids.tolist() == [3, 7]
    assert scores.labels.tolist() == [[0, 1], [1, 0]]
    np.testing.assert_array_equal(scores.scores[1], GOOD["scores"][0])


@pytest.mark.parametrize("dtype", [np.int8, np.float32, np.float64])
def test_unknown_labels_are_minus_one_or_nan(tmp_path: Path, dtype: type) -> None:
    unknown = -1 if dtype is np.int8 else np.nan
    scores = load_scores(write(tmp_path / "s.npz", labels=np.array([[1, unknown], [0, -1]], dtype)))
    assert scores.labels.tolist() == [[0, -1], [1, -1]]
    assert scores.labels.dtype == np.int32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, r"s\.npz: no array 'scores'; found clip_ids, labels; expected clip_ids, labels, scores"),
        ({"scores": np.ones((2, 3), np.float32)}, r"scores \(2, 3\); expected \(N,\), \(N, tags\), \(N, tags\)"),
        ({"scores": np.array([[1, 0], [0, 1]])}, "scores int64; expected whole numbers"),
        ({"clip_ids": np.array([7, 7])}, "clip 7 occurs twice"),
        ({"labels": np.array([[1, 0.5], [0, np.nan]])}, r"clip 7, tag 1: label 0\.5; expected 0, 1 or -1"),
        ({"labels": np.array([[1, 2], [0, 1]])}, "clip 7, tag 1: label 2; expected 0, 1 or -1"),
        (
            {"scores": np.array([[0.9, 0.2], [0.3, np.nan]], np.float32)},
            r"s\.npz: scores: clip 3, tag 'jazz' is nan; 1 of 2",
        ),
        ({"scores": np.array([["a", "b"], ["c", "d"]])}, "scores <U1"),
        ({"clip_ids": np.array([7, None], object)}, "damaged, or no file of scores"),
        (
            {"clip_ids": np.empty(0, int), "labels": np.empty((0, 2), int), "scores": np.empty((0, 2), np.float32)},
            "holds no scores",
        ),
    ],
)
def test_wrong_arrays_are_explained(tmp_path: Path, changes: dict[str, np.ndarray | None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_scores(write(tmp_path / "s.npz", **changes), ("rock", "jazz"))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut short"])
def test_a_file_of_another_kind_is_one_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"s\.npz: damaged, or no file of scores"):
        load_scores(tmp_path / "s.npz")
    with pytest.raises(DataError, match=r"none\.npz: cannot be read: No such file"):
        load_scores(tmp_path / "none.npz")


def test_a_run_tells_tags_and_split_unless_its_evaluation_is_of_other_clips(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_scores(1, 0.5))
    source = load_score_source(run)
    assert source.tags == TAGS
    assert (source.describe().split, source.describe().split_name) == ("val", "random-by-track")
    assert source.tracks is None
    assert load_score_source(run / "scores.npz").describe() == source.describe()
    document = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps({**document, "split_checksum": "0"}))
    assert load_score_source(run).describe().split == "unknown part"
    (run / "evaluation.json").write_text(json.dumps({**document, "trained_on": [1]}))
    with pytest.raises(DataError, match=r"its evaluation\.json is damaged"):
        load_score_source(run).describe()
    (run / "evaluation.json").write_text("{")
    assert load_score_source(run).tags == ("tag0", "tag1", "tag2")


def test_scores_of_one_part_are_not_measured_as_another(tmp_path: Path) -> None:
    source = load_score_source(write_run(tmp_path / "run", make_scores(1, 0.5)))
    assert source.describe("val") == source.describe()
    with pytest.raises(DataError, match=r"run: its scores are of val; expected test \(--split\)"):
        source.describe("test")
    (tmp_path / "run" / "evaluation.json").unlink()
    assert load_score_source(tmp_path / "run").describe("test").split == "test"


def test_tracks_come_from_the_data_set_that_the_run_names(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_scores(1, 0.5))
    (run / "config.yaml").write_text(f"data:\n  records_dir: {write_clip_list(tmp_path / 'data')}\n")
    tracks = load_score_source(run).tracks
    assert tracks is not None
    assert len(set(tracks.tolist())) == 30
    write_clip_list(tmp_path / "data", num_clips=5)
    with pytest.raises(DataError, match=r"clip 105 is not in its clips\.tsv"):
        _ = load_score_source(run).tracks
