"""MODEL_CARD.md beside exported files: what the model is, for people and for the Hugging Face Hub.

One card describes one model, in all formats that lie in its folder. It ends in a mark: the digest of the model's weights and one
of the card's own text. So a card of another model, or one that somebody has edited, is never written over.
"""

from __future__ import annotations

import hashlib
import html
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fcn4dist.errors import CheckpointError, ConfigError, shorten_name
from fcn4dist.evaluate.thresholds import MIN_SUPPORT
from fcn4dist.export.card import ExportCard, card_file, load_card
from fcn4dist.files import save_text
from fcn4dist.run.figures import Figures
from fcn4dist.run.state import value_of

logger = logging.getLogger(__name__)

NAME = "MODEL_CARD.md"
MARK = re.compile(r"<!-- fcn4dist: weights ([0-9a-f]{64}), text ([0-9a-f]{64}) -->\n\Z")
MACRO = (  # key, its type on the Hub, its name
    ("roc_auc_macro", "roc_auc", "ROC-AUC, macro"),
    ("pr_auc_macro", "average_precision", "PR-AUC (average precision), macro"),
    ("roc_auc_micro", "roc_auc", "ROC-AUC, micro"),
    ("pr_auc_micro", "average_precision", "PR-AUC (average precision), micro"),
    ("f1_macro", "f1", "F1, macro"),
    ("f1_micro", "f1", "F1, micro"),
    ("top_tag_accuracy", "accuracy", "top tag is right"),
)


def save_model_card(output: Path, card: ExportCard) -> Path | None:
    """Write the model card of the exported file `output`, which `card` describes, and return where it stands.

    It is MODEL_CARD.md; where that is of another model or was edited, MODEL_CARD.<name of the file>.md; none, and a warning,
    where that is taken too. Raises ConfigError when it cannot be written.
    """
    cards = _cards_of_model(output, card)
    text = format_model_card(cards)
    for file in (output.with_name(NAME), _second_name(output)):
        try:
            if _may_write(file, cards):
                save_text(file, text)
                return file
        except OSError as error:
            raise ConfigError(f"{file}: cannot be written: {error.strerror or error}") from None
    logger.warning("%s and %s are of other models, or were edited: no model card is written", NAME, file.name)
    return None


def find_model_card(output: Path, card: ExportCard) -> Path | None:
    """Return the model card beside `output` that is of the same model, edited or not."""
    for file in (output.with_name(NAME), _second_name(output)):
        mark = _mark_of(file)
        if mark is not None and mark[0] == card.weights_sha256:
            return file
    return None


def format_model_card(cards: Sequence[ExportCard]) -> str:
    """Return the model card of one model, exported in one format or in several; the first card has the figures."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    card = cards[0]
    metrics, figures = card.metrics or {}, Figures(card.metrics or {})
    environment = Environment(
        loader=PackageLoader("fcn4dist.export", ""),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown: names from users go through `text`, `code` and `python`
    )
    environment.filters |= {"text": _text, "code": lambda name: shorten_name(name).replace("`", "'"), "python": _python}
    body = environment.get_template("model_card.md.jinja").render(
        card=card,
        cards=cards,
        figures=figures,
        metrics=metrics,
        front_matter=yaml.safe_dump(_front_matter(cards), sort_keys=False, allow_unicode=True, width=1000),
        train_clips=card.split.clip_list_sha256.get("train"),
        measured_on=_measured_on(metrics),
        macro_rows=_macro_rows(metrics),
        intervals=_describe_intervals(metrics),
        tag_rows=_tag_rows(card, figures),
        onnx=next((each for each in cards if each.format == "onnx"), None),
        torch=next((each for each in cards if each.format == "safetensors"), None),
        limits=_limits(card, figures),
    )
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f"{body}<!-- fcn4dist: weights {card.weights_sha256}, text {digest} -->\n"


def _front_matter(cards: Sequence[ExportCard]) -> dict[str, Any]:
    """Return what the Hub reads: https://huggingface.co/docs/hub/model-cards#model-card-metadata."""
    card, metrics = cards[0], cards[0].metrics or {}
    values = [
        {"type": kind, "name": name, "value": value}
        for key, kind, name in MACRO
        if (value := value_of(metrics, key)) is not None
    ]
    document: dict[str, Any] = {
        "library_name": "fcn4dist",
        "pipeline_tag": "audio-classification",
        "tags": ["music-tagging", "audio-tagging", "fcn-4", "mindspore", *sorted({each.format for each in cards})],
    }
    if values:
        split = str(metrics.get("split_name") or card.split.name)
        dataset = {"type": "other", "name": split, "split": str(metrics.get("split") or "unknown")}
        task = {"type": "audio-classification", "name": "Audio tagging (several tags a clip)"}
        result = {"task": task, "dataset": dataset, "metrics": values}
        document["metrics"] = sorted({value["type"] for value in values})
        document["model-index"] = [{"name": card.name, "results": [result]}]
    return document


def _cards_of_model(output: Path, card: ExportCard) -> list[ExportCard]:
    """Return `card` and those of the same weights beside it, whole and in the order of their files."""
    found = [card]
    for other in _json_files_of(output.absolute().parent, card.weights_sha256):
        file = other.with_suffix("")
        if file.name == output.name or card_file(file) != other:
            continue
        try:
            found.append(load_card(file))
        except CheckpointError:  # of another version, or of a file that is gone or replaced
            continue
    return found


def _may_write(file: Path, cards: Sequence[ExportCard]) -> bool:
    """Return whether there is no card, or an unedited one: of this model, or of one whose files are all gone."""
    if not file.exists() and not file.is_symlink():
        return True
    mark = _mark_of(file)
    if mark is None or not mark[1]:
        return False
    return mark[0] == cards[0].weights_sha256 or not _json_files_of(file.parent, mark[0])


def _json_files_of(folder: Path, weights: str) -> list[Path]:
    """Return the JSON files in `folder` that name these weights: cards of exported files."""
    files = [file for file in sorted(folder.glob("*.json")) if file.is_file()]
    return [file for file in files if f'"weights_sha256": "{weights}"' in file.read_text(errors="replace")]


def _mark_of(file: Path) -> tuple[str, bool] | None:
    """Return of which weights a model card is, and whether its text is as it was written; none of any other file."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    mark = MARK.search(text)
    if mark is None:
        return None
    return mark[1], hashlib.sha256(text[: mark.start()].encode()).hexdigest() == mark[2]


def _second_name(output: Path) -> Path:
    return output.with_name(f"MODEL_CARD.{output.stem}.md")


def _measured_on(metrics: dict[str, Any]) -> str:
    checksum = metrics.get("split_checksum")
    clips = f" (clip list {str(checksum)[:12]})" if checksum else ""
    return f"{metrics.get('split', 'unknown part')} of {metrics.get('split_name', 'unknown split')}{clips}"


def _macro_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    rows = []
    for key, _, name in MACRO:
        if (value := value_of(metrics, key)) is not None:
            interval = _interval(metrics.get(key.replace("_macro", "_ci95"))) if key.endswith("auc_macro") else "-"
            rows.append({"name": name, "value": f"{value:.4f}", "interval": interval})
    return rows


def _tag_rows(card: ExportCard, figures: Figures) -> list[tuple[str, ...]]:
    thresholds = card.thresholds or [None] * len(card.tags)
    if list(figures.tag_names) != card.tags:
        return []
    rows: list[tuple[str, ...]] = []
    for tag, entry, threshold in zip(card.tags, figures.tag_entries, thresholds, strict=True):
        values = [_number(entry, key) for key in ("roc_auc", "pr_auc")]
        positives = value_of(entry, "positives")
        rows.append(
            (
                _text(tag),
                "-" if positives is None else f"{positives:.0f}",
                values[0],
                _interval(entry.get("roc_auc_ci95")),
                values[1],
                "-" if threshold is None else f"{threshold:.4f}",
            )
        )
    return rows


def _describe_intervals(metrics: dict[str, Any]) -> str:
    drawn = metrics.get("bootstrap")
    if not isinstance(drawn, dict) or not drawn.get("num_resamples") or not metrics.get("roc_auc_ci95"):
        return ""
    unit = str(drawn.get("unit"))
    text = f"Intervals: {drawn['num_resamples']} resamples of {drawn.get('num_units')} {unit}s."
    if unit == "clip":
        text += " Which clips are of one track is not known, so the intervals are too narrow where some are."
    return text


def _limits(card: ExportCard, figures: Figures) -> list[str]:
    """Return what a reader must know before he trusts the figures."""
    limits = []
    metrics = card.metrics or {}
    if figures.caution:
        limits.append(f"Caution: {_text(figures.caution, 300)}.")
    few = [
        entry
        for entry in figures.tag_entries
        if (positives := value_of(entry, "positives")) is not None and positives < MIN_SUPPORT
    ]
    if few:
        limits.append(
            f"{len(few)} of {len(card.tags)} tags were measured on fewer than {MIN_SUPPORT} clips that have them."
        )
    if metrics.get("split") == "val":
        limits.append(
            "Measured on validation clips, by which checkpoint and thresholds are chosen: on other clips expect lower figures."
        )
    warnings = metrics.get("warnings")
    limits += [f"{_text(warning, 300)}." for warning in warnings] if isinstance(warnings, list) else []
    without = len(card.tags) if card.thresholds is None else card.thresholds.count(None)
    if without:
        limits.append(
            f"{without} of {len(card.tags)} tags have no threshold: none was chosen, or from fewer than {MIN_SUPPORT} clips with "
            "the tag or without it."
        )
    if (check := card.verification) is not None:
        limits.append(
            f"The scores of `{card.file}` differ from the checkpoint's by at most {check.max_difference:.1e} ({check.clips})."
        )
    else:
        limits.append(f"`{card.file}` was not compared with the checkpoint.")
    limits.append(
        "Nothing else was measured: not other kinds of audio, not other ways of recording, not fairness between kinds of music."
    )
    return limits


def _number(entry: dict[str, Any], key: str) -> str:
    value = value_of(entry, key)
    return "-" if value is None else f"{value:.4f}"


def _interval(bounds: Any) -> str:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return "-"
    return f"{bounds[0]:.4f} to {bounds[1]:.4f}"


def _text(name: object, width: int = 80) -> str:
    """Return a name or text as Markdown that shows just its letters, also in a table."""
    return re.sub(r"([\\`*_\[\]#~|])", r"\\\1", html.escape(shorten_name(name, width), quote=False))


def _python(name: str) -> str:
    """Return a string of Python's in double quotes, as the lines around it have them."""
    return '"' + name.encode("unicode_escape").decode().replace('"', '\\"') + '"'
