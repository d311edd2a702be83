"""Whatever gives scores: an ONNX file, a MINDIR file or a checkpoint, behind one small protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig, ModelConfig
from fcn4dist.errors import CheckpointError

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Listener:
    """What a network listens to and what its scores mean."""

    mel: MelConfig
    model: ModelConfig
    tags: tuple[str, ...]  # in the order of the scores
    thresholds: tuple[float | None, ...] | None = None  # in the order of the tags
    checkpoint: str = ""  # the name of the folder, or of ModelZoo's file, that the weights are of

    @property
    def min_frames(self) -> int:
        """The shortest clip, in frames, that survives the pools."""
        return int(np.prod([frames for _, frames in self.model.pools]))


class Scorer(Protocol):
    """A network that is ready to score."""

    listener: Listener

    def score(self, mel_db: Float32) -> Float32:
        """Return the scores (N, num_tags), 0..1, of log-mel clips (N, 1, n_mels, frames)."""


def check_scores(scores: NDArray[Any], num_clips: int, num_tags: int, where: str) -> Float32:
    """Return the scores as float32; raises CheckpointError where they have another shape or are not finite."""
    if scores.shape != (num_clips, num_tags):
        raise CheckpointError(f"{where}: gave scores of shape {scores.shape}; its card says ({num_clips}, {num_tags})")
    if not np.isfinite(scores).all():
        raise CheckpointError(f"{where}: gave scores that are not finite: its weights are damaged")
    return scores.astype(np.float32, copy=False)
