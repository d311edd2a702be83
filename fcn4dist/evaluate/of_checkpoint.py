"""The pipeline of `fcn4dist evaluate`: score a checkpoint alone, in this process."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from fcn4dist.config import EvaluateConfig, MelConfig, RunConfig
from fcn4dist.data.dataset import DataSet, open_dataset
from fcn4dist.errors import CheckpointError, DataError, quoted
from fcn4dist.evaluate.document import Evaluation, TrainedOn
from fcn4dist.evaluate.evaluation import evaluate_network
from fcn4dist.evaluate.thresholds import Thresholds, load_thresholds
from fcn4dist.model.fcn4 import FCN4
from fcn4dist.model.trained import open_model
from fcn4dist.run.figures import Figures
from fcn4dist.run.folder import RunDir

_log = logging.getLogger(__name__)


def evaluate_checkpoint(
    checkpoint: Path,
    data_dir: Path,
    split_name: str,
    config: RunConfig,
    thresholds_file: Path | None = None,
) -> tuple[Evaluation, Path]:
    """Score the part `split_name` of `data_dir` and return the evaluation and the checkpoint that was used.

    The network, its tags and its mel are the checkpoint's own; of a ModelZoo file, see `open_model`. Thresholds come from
    `thresholds_file`, else from the run's own validation of this checkpoint, else from scoring the data set's val part first;
    a val part chooses its own. Raises CheckpointError or DataError when the checkpoint is damaged or the data set is another
    kind (other tags, other mel).
    """
    model = open_model(checkpoint, config, data_dir)
    card, tags = model.card, tuple(model.card.tags)
    data = open_dataset(data_dir, tags)
    data.check_part(split_name, "evaluate.split")
    data.check(config.data.verify, (split_name, "val"))
    if data.mel is not None:
        check_tags(model.path, card.tags, list(data.tags))
        check_mel(model.path, card.mel, data.mel)
    thresholds = None if thresholds_file is None else load_thresholds(thresholds_file, tags)
    split = data.split(split_name)
    network = model.build_network()
    trained_on = TrainedOn(card.split_name, card.clip_list_sha256.get("train"))
    if thresholds is None and split_name != "val":
        thresholds = find_thresholds(model.path, data, tags)
        if thresholds is None and "val" in data.parts:
            thresholds = _choose_on_val(network, data, config.evaluate, trained_on)
    evaluation = evaluate_network(network, split, data, config.evaluate, trained_on, thresholds)
    return evaluation, model.path


def find_thresholds(folder: Path, data: DataSet, tags: tuple[str, ...]) -> Thresholds | None:
    """Return the thresholds that the run of checkpoint `folder` chose on the val part of this very data set, if it did."""
    val = data.clip_lists.get("val")
    if val is None or folder.parent.name != "checkpoints":
        return None
    run = RunDir(folder.parent.parent)
    for file in (run.evaluation, run.best_evaluation):
        if Figures.load(file).checkpoint != folder.name:
            continue
        with contextlib.suppress(DataError):  # it has none
            if (found := load_thresholds(file, tags)).split_checksum == val:
                return found
    return None


def check_tags(folder: Path, trained: list[str], found: list[str]) -> None:
    """Raise CheckpointError when the data set's tags are not those that the network was trained with, in their order."""
    if trained == found:
        return
    differing = {
        "without": [tag for tag in trained if tag not in found],
        "with": [tag for tag in found if tag not in trained],
    }
    words = [f"{how} {_list_some(tags)}" for how, tags in differing.items() if tags] or ["in another order"]
    raise CheckpointError(
        f"{folder}: trained with {len(trained)} tags; the data set has {len(found)}, {', and '.join(words)}; expected the same "
        "tags in the same order: prepare with data.tags as in the run's config.yaml"
    )


def check_mel(folder: Path, trained: MelConfig, found: MelConfig) -> None:
    """Raise CheckpointError when the data set's spectrograms are not of the kind that the network was trained with."""
    ours, theirs = trained.model_dump(), found.model_dump()
    keys = [key for key in ours if ours[key] != theirs[key]]
    if keys:
        trained_with, has = (", ".join(f"{key} {_say(mel[key])}" for key in keys) for mel in (ours, theirs))
        options = " ".join(f"--set mel.{key}={'null' if ours[key] is None else ours[key]}" for key in keys)
        raise CheckpointError(
            f"{folder}: trained with mel {trained_with}; the data set has {has}; prepare one with {options}"
        )


def _say(value: object) -> str:
    return "none" if value is None else str(value)


def _list_some(tags: list[str], most: int = 5) -> str:
    return ", ".join(map(quoted, tags[:most])) + (f" and {len(tags) - most} more" if len(tags) > most else "")


def _choose_on_val(network: FCN4, data: DataSet, config: EvaluateConfig, trained_on: TrainedOn) -> Thresholds | None:
    _log.info("%s: scoring the val part first, for the thresholds of precision, recall and F1", data.path)
    quick = config.model_copy(update={"num_resamples": 0})
    return evaluate_network(network, data.split("val"), data, quick, trained_on).thresholds
