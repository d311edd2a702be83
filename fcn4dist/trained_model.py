"""A trained network and what it is, from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fcn4dist.config import RunConfig
from fcn4dist.model.fcn4 import FCN4
from fcn4dist.train.checkpoint import ModelCard, load_state, load_weights, resolve_checkpoint


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint that proved whole."""

    path: Path  # the checkpoint folder
    card: ModelCard

    def build_network(self) -> FCN4:
        """Build the network and load its weights; the device must be chosen by then. Raises CheckpointError."""
        network = FCN4(self.card.model, len(self.card.tags))
        load_weights(self.path, list(network.get_parameters()))
        return network


def open_model(checkpoint: Path, config: RunConfig, data_dir: Path | None = None) -> TrainedModel:
    """Find the checkpoint that `checkpoint` means, a folder or a run directory (its best), and say what it is.

    Raises CheckpointError.
    """
    folder = resolve_checkpoint(checkpoint)
    return TrainedModel(folder, load_state(folder).card)
