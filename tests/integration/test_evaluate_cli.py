"""`fcn4dist evaluate` on a prepared data set: thresholds from validation for the test clips, and whose clips they are."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from audio_set import AudioSet, make_audio_set
from jobs import run_here
from sklearn.metrics import f1_score

from fcn4dist.config import MelConfig
from fcn4dist.data.manifest import load_manifest
from fcn4dist.errors import CheckpointError

SPLIT = "random-by-track"  # 76, 10 and 10 clips, each of its own track


@dataclass(frozen=True)
class Trained:
    """A run and the data set that it was trained on."""

    audio: AudioSet
    data: Path
    run: Path

    def call(self, *arguments: object) -> str:
        done = run_here(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout if "--json" in arguments else done.stdout + done.stderr

    def evaluate(self, *arguments: object, network: Path | None = None) -> dict[str, object]:
        options = ("--json", "--set", "evaluate.num_resamples=200")
        document = self.call("evaluate", network or self.run, *options, *arguments)
        return dict(json.loads(document))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    audio = make_audio_set(folder / "audio", num_clips=96)
    trained = Trained(audio, folder / "data", folder / "run")
    trained.call("prepare", *audio.options, "--output", trained.data, "--workers", 1, "--set", f"data.split={SPLIT}")
    options = ("--set", "model.channels=[4,4,6,8]", "--set", "model.pools=[[2,2],[2,2],[2,2]]")
    trained.call(
        *("train", "--data", trained.data, "--run-dir", trained.run, *options, "--set", "train.global_batch=12"),
        *("--set", "train.epochs=2", "--set", "train.lr=0.01", "--set", "evaluate.num_resamples=200"),
    )
    return trained


def test_test_clips_are_decided_by_the_thresholds_of_validation(trained: Trained, tmp_path: Path) -> None:
    manifest = load_manifest(trained.data)
    best = json.loads((trained.run / "evaluation-best.json").read_text())
    assert best["split_checksum"] == manifest.splits["val"].clip_list_sha256
    assert best["thresholds"]["on_these_clips"] is True
    assert best["trained_on"]["clip_list_sha256"] == manifest.splits["train"].clip_list_sha256
    found = trained.evaluate("--split", "TEST", "--output", tmp_path / "out")  # on the run's own data
    assert found["split_name"] == SPLIT
    assert found["split_checksum"] == manifest.splits["test"].clip_list_sha256
    assert found["thresholds"] == {
        "chosen_on": f"val of {SPLIT}",
        "clip_list_sha256": best["split_checksum"],
        "on_these_clips": False,
        "support": [min(tag["positives"], best["num_scored"] - tag["positives"]) for tag in best["tags"]],
    }
    thresholds = [tag["threshold"] for tag in found["tags"]]  # type: ignore[attr-defined]
    assert thresholds == [tag["threshold"] for tag in best["tags"]]
    scores = np.load(tmp_path / "out" / "scores.npz")
    tagged = scores["scores"] >= np.array(thresholds, np.float32)
    assert found["f1_macro"] == pytest.approx(f1_score(scores["labels"], tagged, average="macro"), abs=1e-12)
    assert found["f1_micro"] == pytest.approx(f1_score(scores["labels"], tagged, average="micro"), abs=1e-12)

    # a checkpoint that left its run has val scored first, and comes to the same
    alone = tmp_path / "checkpoint"
    shutil.copytree(trained.run / "checkpoints" / Path(best["checkpoint"]).name, alone / Path(best["checkpoint"]).name)
    copy = alone / Path(best["checkpoint"]).name
    again = trained.evaluate("--data", trained.data, "--split", "test", network=copy)
    assert {**again, "checkpoint": ""} == {**found, "checkpoint": ""}


def test_scoring_clips_of_another_split_warns(trained: Trained, tmp_path: Path) -> None:
    other = tmp_path / "other"
    trained.call("prepare", *trained.audio.options, "--output", other, "--workers", 1, "--set", "data.split=random")
    document = trained.evaluate("--data", other)
    warnings = document["warnings"]
    assert isinstance(warnings, list)
    assert f"trained on another split ({SPLIT}, clip list" in warnings[-1]
    assert document["split_name"] == "random"


def test_a_run_tells_the_tracks_when_it_is_compared(trained: Trained) -> None:
    text = trained.call("evaluate", "--compare", trained.run, trained.run, "--set", "evaluate.num_resamples=50")
    assert f"val of {SPLIT} (clip list " in text
    assert "10 tracks, 50 paired resamples of tracks" in text
    assert "the scores are identical" in text


def test_a_data_set_of_another_kind_is_refused_with_what_differs() -> None:
    from fcn4dist.evaluate.of_checkpoint import check_mel, check_tags

    here, mel = Path("step-1"), MelConfig(stored_s=60)
    with pytest.raises(CheckpointError) as refused:
        check_mel(here, mel, MelConfig(n_fft=1024))
    assert str(refused.value) == (
        "step-1: trained with mel n_fft 512, stored_s 60.0; the data set has n_fft 1024, stored_s none; "
        "prepare one with --set mel.n_fft=512 --set mel.stored_s=60.0"
    )
    for found, words in (
        (["rock", "jazz"], r"with 3 tags; the data set has 2, without 'pop'; expected"),
        (["rock", "pop", "folk", "jazz", "soul"], r"the data set has 5, with 'folk', 'soul'; expected"),
        (["pop", "rock", "jazz"], r"the data set has 3, in another order; expected"),
        ([*"abcdefg"], r"without 'rock', 'pop', 'jazz', and with 'a', 'b', 'c', 'd', 'e' and 2 more; expected"),
    ):
        with pytest.raises(CheckpointError, match=words):
            check_tags(here, ["rock", "pop", "jazz"], found)
    check_mel(here, mel, mel)
    check_tags(here, ["rock"], ["rock"])
