"""An evaluation in words and columns, for people."""

from __future__ import annotations

from fcn4dist.errors import shorten_name
from fcn4dist.evaluate.document import UNKNOWN_TRACKS, Evaluation
from fcn4dist.evaluate.metrics import Metrics

TAG_WIDTH = 24  # letters of a tag in print


def tabulate_evaluation(evaluation: Evaluation) -> str:
    """Return the evaluation for people: the summary, what was decided, a line a tag, what was resampled."""
    parts = (_format_decisions(evaluation), _format_tags(evaluation.metrics), _format_resampling(evaluation))
    return "\n".join([evaluation.summary, *(line for part in parts for line in part)])


def _format_decisions(evaluation: Evaluation) -> list[str]:
    metrics, lines = evaluation.metrics, []
    if metrics.roc_auc_micro is not None and metrics.pr_auc_micro is not None:
        lines.append(f"micro: ROC-AUC {metrics.roc_auc_micro:.4f}, PR-AUC {metrics.pr_auc_micro:.4f}")
    decisions, thresholds = metrics.decisions, evaluation.thresholds
    if decisions is None or thresholds is None:
        lines.append("F1: no thresholds at hand (they come from validation clips)")
    elif decisions.f1_macro is not None and decisions.f1_micro is not None:
        where = "these very clips, so flattered" if evaluation.chose_thresholds else f"val of {thresholds.split_name}"
        lines.append(
            f"F1: macro {decisions.f1_macro:.4f}, micro {decisions.f1_micro:.4f}; thresholds chosen on {where}"
        )
    if metrics.at_ranks:
        ranks = ", ".join(f"{found.k}: {found.precision:.3f} / {found.recall:.3f}" for found in metrics.at_ranks)
        lines.append(f"precision / recall at k: {ranks} ({metrics.num_tagged} clips with a tag)")
    return lines


def _format_tags(metrics: Metrics) -> list[str]:
    width = max(len("tag"), *(min(TAG_WIDTH, len(tag.tag)) for tag in metrics.tags))
    has_unknown = any(tag.unknown for tag in metrics.tags)
    unknown_head = "  unknown" if has_unknown else ""
    lines = [f"  {'tag':<{width}}  positives{unknown_head}  ROC-AUC            interval   PR-AUC      F1"]
    for tag in metrics.tags:
        unknown = f"  {tag.unknown:7d}" if has_unknown else ""
        start = f"  {shorten_name(tag.tag, TAG_WIDTH):<{width}}  {tag.positives:9d}{unknown}"
        if tag.roc_auc is None or tag.pr_auc is None:
            lines.append(f"{start}  undefined")
            continue
        interval = f"{tag.roc_auc_ci95[0]:.4f} to {tag.roc_auc_ci95[1]:.4f}" if tag.roc_auc_ci95 else "-"
        f1 = "-" if tag.f1 is None else f"{tag.f1:.4f}"
        lines.append(f"{start}   {tag.roc_auc:.4f}  {interval:>18}   {tag.pr_auc:.4f}  {f1:>6}")
    return lines


def _format_resampling(evaluation: Evaluation) -> list[str]:
    drawn = evaluation.resampling
    if not drawn.get("num_resamples") or evaluation.metrics.roc_auc_ci95 is None:
        return []
    units = f"{drawn['unit']}s"
    line = f"{drawn['num_units']} {units}, {drawn['num_resamples']} resamples of {units}, seed {drawn['seed']}"
    return [line, UNKNOWN_TRACKS] if drawn["unit"] == "clip" else [line]
