"""Cards that are missing, of another version or of another file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_onnx import MEL, TAGS, expected_scores, write_small_onnx

from fcn4dist.config import load_config, override_config
from fcn4dist.errors import CheckpointError, ConfigError
from fcn4dist.export.card import card_file, load_card
from fcn4dist.export.onnx_scorer import OnnxScorer
from fcn4dist.export.open_scorer import open_scorer


def change(file: Path, **values: Any) -> None:
    card_file(file).write_text(json.dumps({**json.loads(card_file(file).read_text()), **values}))


def test_a_file_with_its_card_scores(tmp_path: Path) -> None:
    scorer = OnnxScorer.open(write_small_onnx(tmp_path / "m.onnx"))
    assert scorer.listener.tags == tuple(TAGS)
    assert scorer.listener.mel == MEL
    for shape in ((1, 1, 24, 40), (7, 1, 24, 94)):
        mel_db = np.random.default_rng(0).normal(-30, 10, shape).astype(np.float32)
        np.testing.assert_allclose(scorer.score(mel_db), expected_scores(mel_db), atol=1e-6)


CHANGES = {
    "no card": (lambda file: card_file(file).unlink(), r"no card beside it; expected m\.onnx\.json"),
    "newer": (lambda file: change(file, format_version=2), r"m\.onnx\.json: a card of format_version 2; .* reads 1"),
    "no version": (lambda file: change(file, format_version=None), "format_version None"),
    "a list": (lambda file: card_file(file).write_text("[1, 2]"), "format_version None"),
    "text": (lambda file: card_file(file).write_text("<script>"), "not a card"),
    "deep": (lambda file: card_file(file).write_text("[" * 100_000), "not a card"),
    "binary": (lambda file: card_file(file).write_bytes(b"\xff\x00"), "not a card"),
    "no tags": (lambda file: change(file, tags=None), "tags: "),
    "bad mel": (lambda file: change(file, mel={"hop_samples": -1}), "mel.hop_samples"),
    "few thresholds": (lambda file: change(file, thresholds=[0.5]), "1 thresholds for 3 tags"),
    "another model": (lambda file: file.write_bytes(file.read_bytes() + b"\0"), "changed or replaced"),
    "no model": (lambda file: file.unlink(), "no such file"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, name: str) -> None:
    file = write_small_onnx(tmp_path / "m.onnx")
    make, message = CHANGES[name]
    make(file)
    with pytest.raises(CheckpointError, match=message):
        load_card(file)


def test_a_damaged_graph_is_named(tmp_path: Path) -> None:
    from fcn4dist.files import digest_file

    file = write_small_onnx(tmp_path / "m.onnx")
    file.write_bytes(b"not a graph")
    change(file, file_sha256=digest_file(file))
    with pytest.raises(CheckpointError, match=r"m\.onnx: onnxruntime cannot load it"):
        OnnxScorer.open(file)


def test_a_card_with_another_number_of_tags_is_refused(tmp_path: Path) -> None:
    file = write_small_onnx(tmp_path / "m.onnx")
    change(file, tags=["one"])
    with pytest.raises(CheckpointError, match=r"scores of shape \(1, 3\); its card says \(1, 1\)"):
        OnnxScorer.open(file).score(np.zeros((1, 1, 24, 40), np.float32))


def test_what_the_card_says_cannot_be_set(tmp_path: Path) -> None:
    config = override_config(load_config(), mel={"clip_s": 20.0})
    with pytest.raises(ConfigError, match=r"mel\.clip_s: .*m\.onnx has its own in its card"):
        open_scorer(write_small_onnx(tmp_path / "m.onnx"), config)
