"""What an evaluation.json says over all tags; keys that it does not have are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fcn4dist.report.chart import clean
from fcn4dist.report.run_files import Record, RunFiles, number, step_of
from fcn4dist.run.checkpoints import step_name
from fcn4dist.run.figures import Figures

FIGURES = {
    "roc_auc_micro": "ROC-AUC, micro",
    "pr_auc_micro": "PR-AUC, micro",
    "f1_macro": "F1 at the thresholds, macro",
    "f1_micro": "F1 at the thresholds, micro",
    "precision_micro": "precision at the thresholds, micro",
    "recall_micro": "recall at the thresholds, micro",
}


@dataclass(frozen=True)
class Macro:
    """The figures over all tags."""

    roc: float | None
    pr: float | None
    roc_ci: str
    pr_ci: str
    accuracy: float | None  # of the top tag
    clips: str  # what was scored, in words
    checksum: str  # of the list of clips; empty where the evaluation has none


def format_figure(value: float | None, digits: int, missing: str = "–") -> str:
    """Return a number with so many digits after the point."""
    return missing if value is None else f"{value:.{digits}f}"


def format_percent(value: float | None) -> str:
    """Return a share in percent."""
    return "–" if value is None else f"{value:.1%}"


def macro_of(evaluation: Record) -> Macro:
    """Return an evaluation's figures over all tags."""
    scored = number(evaluation, "num_scored")
    words = [format_figure(scored, 0), clean(evaluation.get("split", "?"), 30), "clips,"]
    where = f"{' '.join(words)} {clean(evaluation.get('split_name', '?'), 80)}" if evaluation else ""
    return Macro(
        number(evaluation, "roc_auc_macro"),
        number(evaluation, "pr_auc_macro"),
        _bounds(evaluation.get("roc_auc_ci95")),
        _bounds(evaluation.get("pr_auc_ci95")),
        number(evaluation, "top_tag_accuracy"),
        where,
        clean(evaluation.get("split_checksum") or "", 64),
    )


def _bounds(values: Any) -> str:
    if not isinstance(values, list) or len(values) != 2:
        return ""
    low, high = (number({"v": value}, "v") for value in values)
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def describe_evaluation(files: RunFiles, macro: Macro) -> str:
    """Say what the figures were measured on, and of which checkpoint they are."""
    evaluation = files.evaluation
    expected = number(evaluation, "num_expected")
    text = f"Of {clean(name_checkpoint(files), 200)}: {macro.clips}."
    if expected is not None and expected != number(evaluation, "num_scored"):
        text += f" {expected:.0f} clips were expected."
    if macro.checksum:
        text += f" Checksum of the clips: {macro.checksum[:12]}."
    return text


def name_checkpoint(files: RunFiles) -> str:
    """Return the checkpoint whose figures the page shows, in words."""
    named = Figures(files.evaluation).checkpoint
    return files.kept.words if files.kept is not None and named is not None else "a checkpoint that is not named"


def describe_other(files: RunFiles) -> str:
    """Return the figures of the last checkpoint where the best one is shown, and of the best one where it is not."""
    kept, step = files.kept, files.best_step
    if kept is None or (kept.is_best and kept.is_last):
        return ""
    if kept.is_best:
        last = Figures(files.last_evaluation)
        return ", ".join(filter(None, [f"Last: {last.checkpoint or 'not named'}", last.macro])) + "."
    if step is None or step == step_of(files.evaluation.get("checkpoint")):
        return ""
    figures = files.best_evaluation
    if step_of(figures.get("checkpoint")) != step:  # of an older fcn4dist, or of another checkpoint
        figures = next((line for line in files.evaluations if number(line, "step") == step), {})
    return ", ".join(filter(None, [f"Best: {step_name(step)}", Figures(figures).macro])) + "."


def list_warnings(evaluation: Record) -> tuple[str, ...]:
    """Return what a reader must know: few clips, tags without an AUC, pieces shared with the training clips."""
    caution, found = Figures(evaluation).caution, evaluation.get("warnings")
    own = [f"Caution: {caution}."] if caution else []
    return tuple(clean(warning, 500) for warning in [*own, *(found[:20] if isinstance(found, list) else [])])


def list_figures(evaluation: Record) -> tuple[tuple[str, str], ...]:
    """Return (name, value) of the figures beside the macro AUCs."""
    rows = [(name, f"{value:.4f}") for key, name in FIGURES.items() if (value := number(evaluation, key)) is not None]
    for key, name in (("precision_at_k", "precision"), ("recall_at_k", "recall")):
        at_k = evaluation.get(key)
        for k in list(at_k)[:10] if isinstance(at_k, dict) else []:
            if (value := number(at_k, k)) is not None:
                rows.append((f"{name} at {clean(k, 10)}", f"{value:.4f}"))
    thresholds = evaluation.get("thresholds")
    if isinstance(thresholds, dict) and thresholds.get("chosen_on"):
        flattered = ": these very clips, so F1 is flattered" if thresholds.get("on_these_clips") else ""
        rows.append(("thresholds chosen on", f"{clean(thresholds['chosen_on'], 120)}{flattered}"))
    return tuple(rows)
