"""The pipeline of `fcn4dist evaluate`: score a checkpoint alone, in this process."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from fcn4dist.config import EvaluateConfig, RunConfig
from fcn4dist.data.dataset import DataSet, open_dataset
from fcn4dist.errors import CheckpointError, DataError
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
        check_fits(model.path, card.tags, list(data.tags), "tags")
        check_fits(model.path, card.mel.model_dump(), data.mel.model_dump(), "mel")
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


def check_fits(folder: Path, trained: object, found: object, what: str) -> None:
    """Raise CheckpointError when the data set's tags or mel are not those that the network was trained with."""
    if trained != found:
        raise CheckpointError(f"{folder}: trained with {what} {trained}; the data set has {found}")


def _choose_on_val(network: FCN4, data: DataSet, config: EvaluateConfig, trained_on: TrainedOn) -> Thresholds | None:
    _log.info("%s: scoring the val part first, for the thresholds of precision, recall and F1", data.path)
    quick = config.model_copy(update={"num_resamples": 0})
    return evaluate_network(network, data.split("val"), data, quick, trained_on).thresholds
