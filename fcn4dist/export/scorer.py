"""Whatever gives scores: an ONNX file, a MINDIR file or a checkpoint, behind one small protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig, ModelConfig
from fcn4dist.errors import CheckpointError
from fcn4dist.evaluate.thresholds import reliable_thresholds
from fcn4dist.export.card import ExportCard
from fcn4dist.run.figures import Figures

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Listener:
    """What a network listens to and what its scores mean."""

    mel: MelConfig
    model: ModelConfig
    tags: tuple[str, ...]  # in the order of the scores
    thresholds: tuple[float | None, ...] | None = None  # in the order of the tags
    checkpoint: str = ""  # the name of the folder, or of ModelZoo's file, that the weights are of
    num_unreliable: int = 0  # thresholds that were left out, since they were chosen from too few clips

    @classmethod
    def of_card(cls, card: ExportCard) -> Listener:
        """Return what the card of an exported file says; of an older card, the thresholds that are reliable."""
        thresholds = None if card.thresholds is None else tuple(card.thresholds)
        figures = Figures(card.metrics or {})
        reliable, num_unreliable = reliable_thresholds(figures)
        if thresholds is not None and figures.tag_names == tuple(card.tags):
            known = zip(thresholds, figures.thresholds, reliable, strict=True)
            thresholds = tuple(given if found is None else kept for given, found, kept in known)
        return cls(card.mel, card.model, tuple(card.tags), thresholds, card.checkpoint, num_unreliable)

    @property
    def min_frames(self) -> int:
        """The shortest clip, in frames, that survives the pools."""
        return int(np.prod([frames for _, frames in self.model.pools]))


class Scorer(Protocol):
    """A network that is ready to score."""

    listener: Listener
    compiles_each_batch: bool  # whether another number of clips means another compilation

    def score(self, mel_db: Float32) -> Float32:
        """Return the scores (N, num_tags), 0..1, of log-mel clips (N, 1, n_mels, frames)."""


def check_scores(scores: NDArray[Any], num_clips: int, num_tags: int, where: str) -> Float32:
    """Return the scores as float32; raises CheckpointError where they have another shape or are not finite."""
    if scores.shape != (num_clips, num_tags):
        raise CheckpointError(f"{where}: gave scores of shape {scores.shape}; its card says ({num_clips}, {num_tags})")
    if not np.isfinite(scores).all():
        raise CheckpointError(f"{where}: gave scores that are not finite: its weights are damaged")
    return scores.astype(np.float32, copy=False)
