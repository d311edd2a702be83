"""MODEL_CARD.md: the Hub can read it, its lines run, and it never takes the place of another model's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_onnx import TAGS, write_small_onnx

import fcn4dist
from fcn4dist.export.card import ExportCard, load_card
from fcn4dist.export.model_card import find_model_card, format_model_card, save_model_card

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export-and-tag.md"
HOSTILE = ["<script>alert(1)</script>", "a|b\n# c", "`x`"]


def scored(card: ExportCard, tags: list[str] = TAGS) -> ExportCard:
    """Return the card with the figures of 40 clips by NumPy's seed 1."""
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, (40, 3)), rng.random((40, 3))
    labels[8:, 1] = 0  # a rare tag
    figures = fcn4dist.evaluate(labels, scores, tags=tags, split="val", split_name="folds", num_resamples=20)
    return card.model_copy(update={"tags": tags, "metrics": figures, "thresholds": [0.5, None, 0.25]})


@pytest.fixture
def card(tmp_path: Path) -> ExportCard:
    return load_card(write_small_onnx(tmp_path / "model.onnx"))


def front_matter_of(text: str) -> dict[str, Any]:
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def test_the_hub_can_read_it(card: ExportCard) -> None:
    text = format_model_card([scored(card)])
    front = front_matter_of(text)
    assert "license" not in front
    assert "\n# license:" in text
    (index,) = front["model-index"]
    (result,) = index["results"]
    metrics = scored(card).metrics or {}
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == {
        "ROC-AUC, macro": metrics["roc_auc_macro"],
        "PR-AUC (average precision), macro": metrics["pr_auc_macro"],
        "ROC-AUC, micro": metrics["roc_auc_micro"],
        "PR-AUC (average precision), micro": metrics["pr_auc_micro"],
        "F1, macro": metrics["f1_macro"],
        "F1, micro": metrics["f1_micro"],
    }
    assert result["task"]["type"] == "audio-classification"
    assert (result["dataset"]["name"], result["dataset"]["split"]) == ("folds", "val")
    low, high = metrics["roc_auc_ci95"]
    assert f"| ROC-AUC, macro | {metrics['roc_auc_macro']:.4f} | {low:.4f} to {high:.4f} |" in text
    assert "1 of 3 tags were measured on fewer than 10 clips that have them" in text
    assert "1 of 3 tags have no threshold" in text


def test_a_model_without_figures_has_a_card_too(card: ExportCard) -> None:
    text = format_model_card([card])
    assert "model-index" not in front_matter_of(text)
    assert "This checkpoint was not evaluated" in text
    assert "loud, soft, mid" in text
    macro = card.model_copy(update={"metrics": {"roc_auc_macro": 0.5, "split": "val", "split_name": "s"}})
    assert "| ROC-AUC, macro | 0.5000 | - |" in format_model_card([macro])


def test_names_of_tags_stay_in_their_cells(card: ExportCard) -> None:
    text = format_model_card([scored(card, HOSTILE)])
    rows = [line for line in text.splitlines() if re.match(r"\| (&lt;script|a\\\||\\`x)", line)]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)
    assert "<script" not in text


def test_the_module_for_pytorch_is_that_of_the_docs(card: ExportCard) -> None:
    """Other tests run that one."""
    weights = card.model_copy(update={"format": "safetensors", "file": "model.safetensors"})
    pattern = re.compile(r"^class FCN4.*?^```", re.DOTALL | re.MULTILINE)
    assert pattern.findall(format_model_card([card, weights])) == pattern.findall(DOCS.read_text())
    assert "class FCN4" not in format_model_card([card])


def test_it_never_takes_the_place_of_another_card(tmp_path: Path, card: ExportCard, caplog: Any) -> None:
    file, second = tmp_path / "MODEL_CARD.md", tmp_path / "MODEL_CARD.other.md"
    assert save_model_card(tmp_path / "model.onnx", card) == file
    first = file.read_text()
    assert save_model_card(tmp_path / "model.onnx", card) == file  # exported again
    assert file.read_text() == first

    write_small_onnx(tmp_path / "other.onnx")  # another model beside it
    path = tmp_path / "other.onnx.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_sha256": "1" * 64}, indent=2))
    other = load_card(tmp_path / "other.onnx")
    assert save_model_card(tmp_path / "other.onnx", other) == second
    assert find_model_card(tmp_path / "other.onnx", other) == second
    assert file.read_text() == first

    second.write_text(second.read_text().replace("# license: yours", "license: mit # yours"))  # edited
    edited = second.read_text()
    assert save_model_card(tmp_path / "other.onnx", other) is None
    assert "no model card is written" in caplog.text
    assert (second.read_text(), file.read_text()) == (edited, first)

    (tmp_path / "model.onnx.json").unlink()  # the first model is gone, so its card makes room
    assert save_model_card(tmp_path / "other.onnx", other) == file
    assert "other.onnx" in file.read_text()
