"""Pieces that are stored longer than a clip: random crops in training, all windows in evaluation, one row a clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_set import RATE_HZ, AudioSet, make_audio_set
from jobs import run_here

from fcn4dist.config import load_config
from fcn4dist.data.dataset import open_dataset
from fcn4dist.model.fcn4 import FCN4
from fcn4dist.model.stored import load_weights
from fcn4dist.run.checkpoints import named

CHOSEN = [
    *("--set", "model.channels=[4, 4, 6, 8]", "--set", "mel.n_mels=24", "--set", "mel.stored_s=3"),
    *("--set", "augment.crop=random", "--set", "train.global_batch=8", "--set", "train.epochs=2"),
    *("--set", "evaluate.batch=4", "--set", "evaluate.num_resamples=0", "--set", "train.freeze_batch_norm=true"),
]


def score_by_hand(run: Path) -> dict[int, tuple[int, np.ndarray]]:
    """Return windows and scores of each clip of the val part, in plain loops, from the weights of the newest checkpoint."""
    from mindspore import Tensor

    config = load_config(run / "config.yaml")
    assert config.data.records_dir is not None
    split = open_dataset(config.data.records_dir).split("val")
    network, checkpoint = FCN4(config.model, 3), named(run / "checkpoints", "latest")
    assert checkpoint is not None
    load_weights(checkpoint, list(network.get_parameters()))
    network.set_train(False)
    assert split.table is not None
    found = {}
    for position, clip_id in enumerate(split.clip_ids.tolist()):
        sound = min(141, 1 + int(split.table.durations_s[position] * 12000) // 256)
        starts = sorted({*range(0, max(0, sound - 47) + 1, 47), max(0, sound - 47)})
        piece = split.read([position])
        logits = [network(Tensor(piece[..., start : start + 47])).asnumpy()[0] for start in starts]
        found[clip_id] = len(starts), np.mean([1 / (1 + np.exp(-x.astype(float))) for x in logits], axis=0)
    return found


@pytest.fixture
def audio(tmp_path: Path) -> AudioSet:
    """Clips of 1 s, but some pieces of 3 and of 2.5 s."""
    audio = make_audio_set(tmp_path / "audio")
    rng = np.random.default_rng(1)
    for row, length_s in ((9, 3.0), (21, 2.5), (0, 3.0), (1, 4.0)):
        soundfile.write(audio.file(row), rng.normal(0, 0.2, round(length_s * RATE_HZ)), RATE_HZ)
    return audio


def test_random_crops_train_and_every_window_is_scored(audio: AudioSet, tmp_path: Path) -> None:
    prepared = run_here("prepare", *audio.options, *CHOSEN, "--output", tmp_path / "data")
    assert prepared.returncode == 0, prepared.stderr
    options = ["--set", "mel.clip_s=1.0", "--set", "model.pools=[[2,2],[2,2],[2,2]]", *CHOSEN]
    for devices, command in ((1, ["train"]), (2, ["launch", "--devices", 2])):
        done = run_here(*command, "--data", tmp_path / "data", "--run-dir", tmp_path / f"run-{devices}", *options)
        assert done.returncode == 0, done.stderr
    one, two = (np.load(tmp_path / f"run-{devices}" / "scores.npz") for devices in (1, 2))
    np.testing.assert_allclose(one["scores"], two["scores"], atol=1e-5)  # the crops do not depend on the ranks
    evaluation = json.loads((tmp_path / "run-1" / "evaluation.json").read_text())
    assert evaluation["num_scored"] == evaluation["num_expected"] == len(one["clip_ids"]) == 4
    by_hand = score_by_hand(tmp_path / "run-1")
    assert {clip_id: num for clip_id, (num, _) in by_hand.items()} == {991: 3, 979: 3, 967: 1, 955: 1}
    for clip_id, scores in zip(one["clip_ids"].tolist(), one["scores"], strict=True):
        np.testing.assert_allclose(scores, by_hand[clip_id][1], atol=1e-5)
