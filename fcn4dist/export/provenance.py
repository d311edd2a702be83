"""What is known of a checkpoint, from its state.json and from the run that it stands in."""

from __future__ import annotations

import contextlib
import json
import logging
import platform
from pathlib import Path
from typing import Any

from fcn4dist import __version__
from fcn4dist.config import load_config
from fcn4dist.data.dataset import open_dataset
from fcn4dist.errors import CheckpointError, DataError, UserError
from fcn4dist.evaluate.thresholds import reliable_thresholds
from fcn4dist.export.card import SplitCard
from fcn4dist.model.trained import TrainedModel
from fcn4dist.run.best import run_of
from fcn4dist.run.figures import Figures
from fcn4dist.run.folder import RunDir
from fcn4dist.train.checkpoint import STATE, State, load_state

logger = logging.getLogger(__name__)
LINE_KEYS = ("split", "split_name", "split_checksum", "roc_auc_macro", "pr_auc_macro")  # of metrics/evaluations.jsonl


def state_of(model: TrainedModel) -> State | None:
    """Return state.json; none for a checkpoint that has none."""
    return load_state(model.path) if (model.path / STATE).is_file() else None


def find_evaluation(model: TrainedModel, file: Path | None = None) -> dict[str, Any] | None:
    """Return the figures of this very checkpoint: those in `file`, else those that its run left.

    The run has all figures of its last and of its best checkpoint, in evaluation.json and evaluation-best.json; of another one
    metrics/evaluations.jsonl has the macro figures and what was scored.
    Raises CheckpointError when `file` cannot be read, or is of other tags or of another checkpoint.
    """
    if file is not None:
        figures = Figures.load(file)
        if not figures:
            raise CheckpointError(f"{file}: cannot be read as an evaluation; expected an evaluation.json")
        if list(figures.tag_names) != model.card.tags:
            raise CheckpointError(f"{file}: its tags are not those of {model.path}")
        if figures.checkpoint not in (None, model.path.name):
            raise CheckpointError(f"{file}: figures of {figures.checkpoint}; expected those of {model.path}")
        return figures.document
    run = run_of(model.path)
    if run is None:
        return None
    for whole in (run.evaluation, run.best_evaluation):
        figures = Figures.load(whole)
        if figures.checkpoint == model.path.name:
            return figures.document
    return _find_macro_figures(model, run)


def load_thresholds(model: TrainedModel, evaluation: dict[str, Any] | None = None) -> tuple[float | None, ...] | None:
    """Return the threshold of each tag, in the order of the tags; none where the evaluation chose none that is reliable."""
    figures = Figures((evaluation if evaluation is not None else find_evaluation(model)) or {})
    chosen = dict(zip(figures.tag_names, reliable_thresholds(figures)[0], strict=True))
    thresholds = tuple(chosen.get(tag) for tag in model.card.tags)
    return None if all(threshold is None for threshold in thresholds) else thresholds


def find_data(model: TrainedModel) -> Path | None:
    """Return the data set that the checkpoint's run names, if it is there."""
    run = run_of(model.path)
    if run is None or not run.config.is_file():
        return None
    try:
        folder = load_config(run.config).data.records_dir
    except UserError:
        return None
    return folder if folder is not None and folder.is_dir() else None


def describe_split(model: TrainedModel, state: State | None) -> SplitCard:
    """Return the split's name and the checksums of its clip lists.

    They stand in the checkpoint; for one of an older fcn4dist, in its data set, if that still has the same training clips.
    """
    lists = model.card.clip_list_sha256
    folder = find_data(model)
    if not lists and state is not None and folder is not None:
        with contextlib.suppress(DataError):
            data = open_dataset(folder)
            if data.train_checksum() == state.origin.train_clips:
                lists = data.clip_lists
    return SplitCard(name=model.card.split_name, clip_list_sha256=lists)


def list_versions(state: State | None, mindspore: str) -> dict[str, str]:
    """Return the versions that made the checkpoint, and those at work now; `mindspore` is its own."""
    versions = {"fcn4dist": __version__, "mindspore": mindspore, "python": platform.python_version()}
    if state is not None:
        versions |= {"trained_with_fcn4dist": state.fcn4dist, "trained_with_mindspore": state.mindspore}
    return versions


def _find_macro_figures(model: TrainedModel, run: RunDir) -> dict[str, Any] | None:
    try:
        lines = run.evaluations.read_text(encoding="utf-8").splitlines()
        found = [line for line in map(json.loads, lines) if model.path.name == f"step-{line['step']:08d}"]
        return {key: found[-1][key] for key in LINE_KEYS if key in found[-1]} if found else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.info("no figures of %s: %s", model.path.name, error)
        return None
