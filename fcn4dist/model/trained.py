"""A trained network and what it is, from any checkpoint: a folder or a run of ours, or a file of ModelZoo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fcn4dist.config import RunConfig
from fcn4dist.data.dataset import open_dataset
from fcn4dist.data.tags import named_tags
from fcn4dist.errors import CheckpointError
from fcn4dist.model.fcn4 import FCN4
from fcn4dist.model.modelzoo import SUFFIXES, ModelZooWeights, check_number, load_modelzoo, name_outputs
from fcn4dist.model.parameters import set_parameters
from fcn4dist.model.stored import load_weights
from fcn4dist.run.best import resolve_checkpoint
from fcn4dist.run.checkpoints import STATE, ModelCard, load_state

MODELZOO_SPLIT = "unseeded random rows (ModelZoo)"  # 95 % of its validation clips share a piece with its training clips


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint that proved whole."""

    path: Path  # the checkpoint folder, or ModelZoo's file
    card: ModelCard
    foreign: ModelZooWeights | None = None  # of ModelZoo's file

    def build_network(self) -> FCN4:
        """Build the network and load its weights; the device must be chosen by then. Raises CheckpointError."""
        network = FCN4(self.card.model, len(self.card.tags), self.card.mel.n_mels)
        parameters = list(network.get_parameters())
        if self.foreign is None:
            load_weights(self.path, parameters)
        else:
            set_parameters(self.foreign.values, parameters, str(self.path))
        return network


def open_model(checkpoint: Path, config: RunConfig, data_dir: Path | None = None) -> TrainedModel:
    """Find the checkpoint that `checkpoint` means and say what it is.

    `checkpoint` is a checkpoint folder, a run directory (its best), or a .ckpt or .safetensors file of ModelZoo's FCN-4.
    A file says nothing but its channels and its number of tags. So model.pools and the mel are those of `config`, by default
    ModelZoo's. The tags are those that `config.data.tags` names (its tag.txt), else ModelZoo's own, where the file is of its
    training and the data set in `data_dir` has the very tags of its tag.txt; without a data set "tag0", "tag1", ... Outputs
    come in the order of the data set where it has the same tags.
    Raises CheckpointError, also for outputs of a name that nobody said, or DataError for tags that cannot be read.
    """
    folder = resolve_checkpoint(checkpoint)
    if folder.is_file() and (folder.parent / STATE).is_file():  # the weights inside one of our checkpoint folders
        folder = folder.parent
    if not folder.is_file() and (folder.is_dir() or folder.suffix not in SUFFIXES):
        return TrainedModel(folder, load_state(folder).card)
    weights = load_modelzoo(folder)
    weights, tags = _in_data_order(weights, config, data_dir)
    if "channels" in config.model.model_fields_set and config.model.channels != weights.channels:
        raise CheckpointError(f"{folder}: has channels {weights.channels}, model.channels says {config.model.channels}")
    input_norm = "none" if weights.input_bands is None else "batch"
    if "input_norm" in config.model.model_fields_set and config.model.input_norm != input_norm:
        has = "no input norm" if weights.input_bands is None else "an input norm"
        raise CheckpointError(f"{folder}: has {has}, model.input_norm says {config.model.input_norm}")
    if weights.input_bands not in (None, config.mel.n_mels):
        raise CheckpointError(
            f"{folder}: an input norm of {weights.input_bands} mel bands, mel.n_mels is {config.mel.n_mels}"
        )
    card = ModelCard(
        name=config.checkpoint.prefix,
        model=config.model.model_copy(update={"channels": weights.channels, "input_norm": input_norm}),
        mel=config.mel,
        tags=tags,
        split_name=MODELZOO_SPLIT,
    )
    return TrainedModel(folder, card, weights)


def _in_data_order(
    weights: ModelZooWeights, config: RunConfig, data_dir: Path | None
) -> tuple[ModelZooWeights, list[str]]:
    """Return the weights and their tags, both in the order of the data set where it has the same ones."""
    named = named_tags(config.data.tags)
    data = None if data_dir is None else open_dataset(data_dir)
    if data is None or data.manifest is None:
        return weights, name_outputs(weights, named, None) or [f"tag{i}" for i in range(weights.num_tags)]
    tags = list(data.tags)
    if named is None:
        check_number(weights, tags, f"{data_dir} has")
    outputs = name_outputs(weights, named, tags)
    if outputs is None:
        raise CheckpointError(
            f"{weights.file}: does not say which tag each of its {weights.num_tags} outputs is; name them in their order, of "
            "ModelZoo's networks with its tag.txt: --set data.tags=…/tag.txt"
        )
    if set(outputs) != set(tags):
        return weights, outputs  # whoever compares them says so
    return weights.reordered([outputs.index(tag) for tag in tags]), tags
