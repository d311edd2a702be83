"""The figures that a card takes of a checkpoint: its own, as whole as its run still has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fcn4dist.config import MelConfig, ModelConfig
from fcn4dist.errors import CheckpointError

TAGS = ("rock", "jazz")


def model_of(run: Path, step: int) -> Any:
    from fcn4dist.model.trained import TrainedModel
    from fcn4dist.train.checkpoint import ModelCard

    card = ModelCard(name="x", model=ModelConfig(), mel=MelConfig(), tags=list(TAGS), split_name="s")
    return TrainedModel(run / "checkpoints" / f"step-{step:08d}", card)


def write_evaluation(file: Path, step: int) -> dict[str, Any]:
    document = {
        "checkpoint": f"checkpoints/step-{step:08d}",
        "roc_auc_macro": step / 100,
        "tags": [{"tag": tag, "threshold": step / 1000} for tag in TAGS],
    }
    file.write_text(json.dumps(document))
    return document


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose best checkpoint is of step 20 and whose last is of step 30."""
    (tmp_path / "metrics").mkdir()
    lines = [
        {"step": step, "epoch": 1, "time": 1.0, "roc_auc_macro": 0.5, "pr_auc_macro": 0.4}
        | {"split": "val", "split_name": "folds", "split_checksum": "abc"}
        for step in (10, 20, 30)
    ]
    (tmp_path / "metrics" / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_evaluation(tmp_path / "evaluation.json", 30)
    write_evaluation(tmp_path / "evaluation-best.json", 20)
    return tmp_path


@pytest.mark.parametrize("is_damaged", [False, True])
def test_the_best_checkpoint_has_all_its_figures_and_thresholds(run: Path, is_damaged: bool) -> None:
    from fcn4dist.export.provenance import find_evaluation, load_thresholds

    if is_damaged:
        (run / "evaluation.json").write_text("{")
    assert find_evaluation(model_of(run, 20)) == json.loads((run / "evaluation-best.json").read_text())
    assert load_thresholds(model_of(run, 20)) == (0.02, 0.02)


def test_the_last_checkpoint_has_its_own(run: Path) -> None:
    from fcn4dist.export.provenance import find_evaluation

    assert find_evaluation(model_of(run, 30)) == json.loads((run / "evaluation.json").read_text())


def test_another_checkpoint_has_macro_figures_and_says_of_what(run: Path) -> None:
    from fcn4dist.export.provenance import find_evaluation, load_thresholds

    assert find_evaluation(model_of(run, 10)) == {
        **{"split": "val", "split_name": "folds", "split_checksum": "abc"},
        **{"roc_auc_macro": 0.5, "pr_auc_macro": 0.4},
    }
    assert load_thresholds(model_of(run, 10)) is None
    assert find_evaluation(model_of(run, 40)) is None


def test_a_file_with_figures_of_another_checkpoint_is_refused(run: Path) -> None:
    from fcn4dist.export.provenance import find_evaluation

    file = run / "evaluation.json"
    with pytest.raises(CheckpointError, match=r"evaluation\.json: figures of step-00000030; expected .*step-00000020"):
        find_evaluation(model_of(run, 20), file)
    document = find_evaluation(model_of(run, 30), file)
    assert document is not None
    assert document == json.loads(file.read_text())
    file.write_text(json.dumps({**document, "checkpoint": None}))  # measured from scores alone: it does not say
    assert find_evaluation(model_of(run, 20), file) == {**document, "checkpoint": None}
