"""One rule for report, evaluate, --compare, export and tag: the best checkpoint, unless another is named, and it is said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from jobs import TINY, run_here
from sklearn.metrics import roc_auc_score


@dataclass(frozen=True)
class Spoilt:
    """A run whose second epoch undid what the first had learnt."""

    run: Path
    data: Path
    best: str
    last: str
    roc_auc: dict[str, float]  # of each checkpoint, as the run noted it


@pytest.fixture
def spoilt(finite_shards: Path, tmp_path: Path) -> Spoilt:
    run = tmp_path / "run"
    common = ["--set", "mel.clip_s=0.67", "--set", "evaluate.num_resamples=30"]
    result = run_here(
        *("train", "--data", finite_shards, "--run-dir", run, *TINY, *common),
        *("--set", "train.epochs=2", "--set", "train.lr=0.02"),
    )
    assert result.returncode == 0, result.stderr
    result = run_here("train", "--resume", run, "--force", "--set", "train.epochs=3", "--set", "train.lr=5")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (run / "metrics" / "evaluations.jsonl").read_text().splitlines()]
    roc = {f"step-{line['step']:08d}": line["roc_auc_macro"] for line in lines}
    best, last = ((run / "checkpoints" / name).read_text().strip() for name in ("best", "latest"))
    assert best != last == "step-00000015"
    assert roc[best] == max(roc.values()) > roc[last]
    assert f"best: {best}, ROC-AUC {roc[best]:.4f}" in result.stdout.splitlines()[-1]
    return Spoilt(run, finite_shards, best, last, roc)


def test_all_commands_use_the_best_checkpoint_and_name_it(
    spoilt: Spoilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*arguments: object) -> tuple[int, str, str]:
        done = run_here(*arguments)
        return done.returncode, done.stdout, done.stderr

    monkeypatch.chdir(tmp_path)
    run, best, last = spoilt.run, spoilt.best, spoilt.last
    shown = {name: f"{value:.4f}" for name, value in spoilt.roc_auc.items()}

    # report, whose figures have intervals although the best is not the last
    assert call("report", run)[0] == 0
    page = (run / "report.html").read_text()
    assert f"ROC-AUC {shown[best]} on 13 val clips" in page
    assert f"of {best}, the best checkpoint" in page
    assert f"Last: {last}, ROC-AUC {shown[last]}" in page
    assert json.loads((run / "evaluation-best.json").read_text())["roc_auc_ci95"] is not None
    assert call("report", run, "--last", "--output", "last.html")[0] == 0
    page = (tmp_path / "last.html").read_text()
    assert f"ROC-AUC {shown[last]} on 13 val clips" in page
    assert f"Best: {best}, ROC-AUC {shown[best]}" in page

    # evaluate, of a checkpoint and of the scores that the run left
    def evaluate(*arguments: object) -> str:
        code, text, said = call("evaluate", *arguments, "--set", "evaluate.num_resamples=0")
        assert code == 0, said
        return text

    text = evaluate("--checkpoint", run, "--data", spoilt.data)
    assert f"checkpoint: {best}, the best checkpoint of {run}\n" in text
    assert f"ROC-AUC {shown[best]}" in text
    assert "caution: only 13 clips" in text
    text = evaluate("--checkpoint", run / "checkpoints" / "latest", "--data", spoilt.data)
    assert f"checkpoint: {last}, the latest checkpoint of " in text
    assert f"ROC-AUC {shown[last]}" in text
    assert f"checkpoint: {best}, the best checkpoint of {run}\n" in evaluate("--scores", run)
    assert f"ROC-AUC {shown[last]}" in evaluate("--scores", run / "scores.npz")
    with np.load(run / "scores-best.npz") as kept:
        by_hand = [roc_auc_score(kept["labels"][:, i], kept["logits"][:, i]) for i in range(3)]
    assert np.mean(by_hand) == pytest.approx(spoilt.roc_auc[best], abs=1e-12)

    # --compare: the best against the last
    _, text, _ = call("evaluate", "--compare", run, run / "scores.npz", "--set", "evaluate.num_resamples=20")
    assert f"A: {run}: {best}, the best checkpoint\n" in text
    assert f"B: {run / 'scores.npz'}: {last}, the last checkpoint evaluated\n" in text
    assert f"ROC-AUC  A {shown[best]}  B {shown[last]}" in text

    # export, with the figures of that very checkpoint on its card
    output = tmp_path / "model.safetensors"
    code, text, said = call("export", "--checkpoint", run, "--output", output)
    assert code == 0, said
    assert f"checkpoint: {best}, the best checkpoint of {run}\n" in text
    card = json.loads(Path(f"{output}.json").read_text())
    assert (card["checkpoint"], card["metrics"]["roc_auc_macro"]) == (best, spoilt.roc_auc[best])

    # tag
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 24_000), 12_000)
    code, _, said = call("tag", "a.wav", "--checkpoint", run)
    assert (code, said) == (0, f"checkpoint: {best}, the best checkpoint of {run}\n")
    document = json.loads(call("tag", "a.wav", "--checkpoint", run / "checkpoints" / last, "--json")[1])
    assert document["used"] == last

    # a part that is not there
    code, _, said = call("evaluate", "--checkpoint", run, "--data", spoilt.data, "--split", "test")
    assert (code, said.count("\n")) == (2, 1)
    assert "evaluate.split: test, but the split" in said
    assert (
        "has no test clips; it has train, val: name one of these, or prepare with a split that has a test part" in said
    )
    code, _, said = call("launch", "--data", spoilt.data, "--run-dir", "no", *TINY, "--set", "evaluate.split=test")
    assert code == 2
    assert "evaluate.split: test, but the split" in said
    assert not (tmp_path / "no").exists()
