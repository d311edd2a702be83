"""The pipeline of `fcn4dist evaluate`: score a checkpoint alone, in this process."""

from __future__ import annotations

from pathlib import Path

from fcn4dist.cluster.devices import Target
from fcn4dist.cluster.rank import SINGLE
from fcn4dist.config import RunConfig
from fcn4dist.data.batches import open_split
from fcn4dist.data.manifest import MANIFEST, check_shards, load_manifest
from fcn4dist.errors import CheckpointError
from fcn4dist.evaluate.evaluation import Evaluation, evaluate_network
from fcn4dist.train.runtime import start_device
from fcn4dist.trained_model import open_model


def evaluate_checkpoint(
    checkpoint: Path, data_dir: Path, split_name: str, config: RunConfig, target: Target
) -> tuple[Evaluation, Path]:
    """Score the part `split_name` of `data_dir` and return the evaluation and the checkpoint that was used.

    The network, its tags and its mel are the checkpoint's own; of a ModelZoo file, see `open_model`. Raises CheckpointError
    or DataError when the checkpoint is damaged or the data set is another kind (other tags, other mel).
    """
    start_device(target, SINGLE.device)  # before the first parameter is read
    model = open_model(checkpoint, config, data_dir)
    card = model.card
    if (data_dir / MANIFEST).is_file():
        manifest = load_manifest(data_dir)
        check_shards(data_dir, manifest, config.data.verify)
        check_fits(model.path, card.tags, manifest.tags, "tags")
        check_fits(model.path, card.mel.model_dump(), manifest.mel.model_dump(), "mel")
    split = open_split(data_dir, split_name, card.tags)
    evaluation = evaluate_network(model.build_network(), split, data_dir, config.evaluate, card.split_name, SINGLE)
    return evaluation, model.path


def check_fits(folder: Path, trained: object, found: object, what: str) -> None:
    """Raise CheckpointError when the data set's tags or mel are not those that the network was trained with."""
    if trained != found:
        raise CheckpointError(f"{folder}: trained with {what} {trained}; the data set has {found}")
