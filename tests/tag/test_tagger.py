"""Windows of several files in one pass, in files' order, with a scorer that counts its passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from small_onnx import MEL, TAGS, expected_scores

import fcn4dist
from fcn4dist.config import ModelConfig
from fcn4dist.data.mel import log_mel
from fcn4dist.export.scorer import Listener
from fcn4dist.tag.tagger import Tagger, Tagging, Untagged

RATE_HZ, WINDOW = 12_000, 24_000


class CountingScorer:
    """Scores by NumPy; keeps how many clips each pass had."""

    listener = Listener(MEL, ModelConfig(pools=[(2, 2), (2, 2), (2, 2)]), tuple(TAGS))

    def __init__(self, compiles_each_batch: bool = False) -> None:
        self.compiles_each_batch = compiles_each_batch
        self.passes: list[int] = []

    def score(self, mel_db: Any) -> Any:
        self.passes.append(len(mel_db))
        return expected_scores(mel_db).astype(np.float32)


def write_pieces(folder: Path, num_windows: list[int]) -> list[Path]:
    """Write a piece for each number of windows; 0 is a silent one of three, -1 is no audio."""
    files = []
    for i, count in enumerate(num_windows):
        files.append(folder / f"{i}.wav")
        wave = np.random.default_rng(i).normal(0, 0.02 * (i % 9 + 1), (count or 3) * WINDOW if count >= 0 else 0)
        soundfile.write(files[-1], (wave * (count > 0)).astype(np.float32), RATE_HZ)
    return files


@pytest.mark.parametrize("compiles", [False, True])
def test_a_pass_holds_windows_of_several_files_and_scores_stay_with_their_files(tmp_path: Path, compiles: bool) -> None:
    counts = [1, 5, 0, 1, -1, 20, 1, 1, 0, 2, 3]
    files = write_pieces(tmp_path, counts)
    scorer = CountingScorer(compiles)
    found = list(Tagger(scorer).tag_many(files))
    assert scorer.passes == [8, 8, 8, 8, 8 if compiles else 2]  # 34 windows with sound
    assert [outcome.file for outcome in found] == files
    for count, outcome in zip(counts, found, strict=True):
        if count <= 0:
            assert isinstance(outcome, Untagged)
            assert outcome.reason.startswith("silent: no window" if count == 0 else "no samples")
            continue
        assert isinstance(outcome, Tagging)
        wave = soundfile.read(outcome.file, dtype="float32")[0].reshape(count, WINDOW)
        by_hand = np.stack([expected_scores(log_mel(window, MEL)[None, None])[0] for window in wave])
        np.testing.assert_allclose(outcome.window_scores, by_hand, atol=1e-6)
        np.testing.assert_allclose(outcome.scores, by_hand.mean(axis=0), atol=1e-6)
        assert outcome.times_s.tolist() == [2.0 * k for k in range(count)]
        assert outcome.top(2) == sorted(zip(TAGS, outcome.scores.tolist(), strict=True), key=lambda pair: -pair[1])[:2]


def test_a_file_comes_as_soon_as_it_is_done_and_none_is_opened_long_before(tmp_path: Path) -> None:
    """So memory grows neither with the number of files nor with those that are silent."""
    opened = []

    def names() -> Any:
        for file in write_pieces(tmp_path, [1, *[0] * 30, *[1] * 30]):
            opened.append(file)
            yield file

    for num_done, _ in enumerate(Tagger(CountingScorer()).tag_many(names())):
        assert len(opened) - num_done <= 10
    assert len(opened) == 61


def test_one_file_is_an_error_where_many_are_a_result(tmp_path: Path) -> None:
    silent, nothing = write_pieces(tmp_path, [0, -1])
    tagger = Tagger(CountingScorer())
    with pytest.raises(fcn4dist.errors.DataError, match=r"0\.wav: silent: no window of 2 s has any sound"):
        tagger.tag(silent)
    for wrong, message in (
        ({"hop_s": 0}, "a hop of 0 s; expected more than 0"),
        ({"window_s": -1.0}, "a window of -1 s is too short"),
        ({"hop_s": float("inf")}, "expected a number of seconds"),
        ({"combine": "median"}, "combine is 'median'; expected one of mean, max"),
    ):
        with pytest.raises(fcn4dist.errors.ConfigError, match=message):
            tagger.tag(nothing, **wrong)
