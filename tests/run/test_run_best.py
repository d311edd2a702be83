"""The rule which checkpoint stands for a run, on run folders of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fcn4dist.run.best import choose_evaluation, describe_best, describe_checkpoint
from fcn4dist.run.figures import Figures
from fcn4dist.run.folder import RunDir


def write(run: RunDir, *, best: str | None, last: str, kept: str | None = None, has_scores: bool = True) -> RunDir:
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "latest").write_text(f"{last}\n")
    if best is not None:
        (run.checkpoints / "best").write_text(f"{best}\n")
    run.evaluation.write_text(json.dumps({"checkpoint": f"checkpoints/{last}", "roc_auc_macro": 0.5}))
    run.scores.touch()
    if kept is not None:
        run.best_evaluation.write_text(json.dumps({"checkpoint": f"checkpoints/{kept}", "roc_auc_macro": 0.75}))
    if has_scores:
        run.best_scores.touch()
    return run


@pytest.mark.parametrize(
    ("best", "kept", "has_scores", "chosen", "words"),
    [
        ("step-00000010", "step-00000010", True, 10, "step-00000010, the best checkpoint"),
        ("step-00000020", "step-00000020", True, 20, "step-00000020, the best checkpoint and the last"),
        (None, None, False, 20, "step-00000020, the last checkpoint evaluated"),
        # an older fcn4dist kept no scores of the best, or another's; said, not passed over
        ("step-00000010", "step-00000010", False, 20, "the evaluation of the best, step-00000010, was not kept"),
        ("step-00000010", "step-00000005", True, 20, "the evaluation of the best, step-00000010, was not kept"),
        ("../../x", None, False, 20, "step-00000020, the last checkpoint evaluated"),
    ],
)
def test_the_best_stands_for_a_run_where_it_is_known(
    tmp_path: Path, best: str | None, kept: str | None, has_scores: bool, chosen: int, words: str
) -> None:
    run = write(RunDir(tmp_path), best=best, last="step-00000020", kept=kept, has_scores=has_scores)
    found = choose_evaluation(run)
    assert Figures.load(found.figures).checkpoint == found.checkpoint == f"step-{chosen:08d}"
    assert found.scores == (run.best_scores if chosen == 10 else run.scores)
    assert found.words.endswith(words)
    assert describe_best(run) == ("best: step-00000010, ROC-AUC 0.7500" if chosen == 10 else "")
    assert choose_evaluation(run, last=True).checkpoint == "step-00000020"


def test_a_folder_of_one_evaluation_says_its_checkpoint_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert choose_evaluation(run).words == "of a checkpoint that is not named"
    run.evaluation.write_text(json.dumps({"checkpoint": "runs/a/checkpoints/step-00000010"}))
    assert choose_evaluation(run).words == "step-00000010"


def test_a_checkpoint_is_named_by_what_it_is(tmp_path: Path) -> None:
    run = write(RunDir(tmp_path / "r"), best="step-00000010", last="step-00000020")
    assert describe_checkpoint(run.path, "step-00000010") == f"step-00000010, the best checkpoint of {run.path}"
    own = run.checkpoints / "step-00000020"
    assert describe_checkpoint(own, own.name) == own.name
    latest = run.checkpoints / "latest"
    assert describe_checkpoint(latest, own.name) == f"{own.name}, the latest checkpoint of {run.checkpoints}"
    assert describe_checkpoint(Path("model.onnx"), own.name) == f"{own.name} of model.onnx"
    (run.checkpoints / "best").unlink()
    assert "the last checkpoint of" in describe_checkpoint(run.path, own.name)


@pytest.mark.parametrize(
    ("document", "caution"),
    [
        ({"num_scored": 20, "tags": [{"tag": "a"}], "undefined_tags": []}, ""),
        ({"num_scored": 4}, "only 4 clips, so AUCs say little"),
        (
            {"num_scored": 60, "num_tags": 7, "num_undefined_tags": 2},
            "2 of 7 tags left out: all clips have the tag, or none",
        ),
        (
            {"num_scored": 1, "tags": [{"tag": t} for t in "abcde"], "undefined_tags": list("abcde")},
            "only 1 clip, so AUCs say little; no AUC for any tag (a, b, c, …): all clips have the tag, or none",
        ),
        ({}, ""),
    ],
)
def test_what_is_said_beside_an_auc(document: dict[str, object], caution: str) -> None:
    assert Figures(document).caution == caution
