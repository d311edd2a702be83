"""Whatever gives scores: an ONNX file, a MINDIR file or a checkpoint, behind one small protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig, ModelConfig, RunConfig
from fcn4dist.errors import CheckpointError, ConfigError

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Listener:
    """What a network listens to and what its scores mean."""

    mel: MelConfig
    model: ModelConfig
    tags: tuple[str, ...]  # in the order of the scores
    thresholds: tuple[float | None, ...] | None = None  # in the order of the tags

    @property
    def min_frames(self) -> int:
        """The shortest clip, in frames, that survives the pools."""
        return int(np.prod([frames for _, frames in self.model.pools]))


class Scorer(Protocol):
    """A network that is ready to score."""

    listener: Listener

    def score(self, mel_db: Float32) -> Float32:
        """Return the scores (N, num_tags), 0..1, of log-mel clips (N, 1, n_mels, frames)."""


def open_scorer(path: Path, config: RunConfig) -> Scorer:
    """Return the scorer that `path` means: an .onnx or a .mindir file with its card, else a checkpoint.

    `config` names the device, and for a checkpoint file of ModelZoo its tags, pools and mel. MindSpore is imported for
    all but ONNX. Raises CheckpointError or DeviceError.
    """
    if path.suffix in (".onnx", ".mindir") and not path.is_dir():
        _check_nothing_is_set(path, config)
    if path.suffix == ".onnx" and not path.is_dir():
        from fcn4dist.export.onnx_scorer import OnnxScorer

        return OnnxScorer.open(path)
    if path.suffix in (".air", ".json") and path.is_file():
        raise CheckpointError(f"{path}: cannot be run here; expected a checkpoint folder, an .onnx or a .mindir file")
    from fcn4dist.job.devices import require_mindspore, resolve_target
    from fcn4dist.train.device import prepare_imports

    target = resolve_target(config.launch.device_target)
    require_mindspore()
    prepare_imports(target)
    from fcn4dist.export.mindspore_scorers import CheckpointScorer, MindirScorer

    if path.suffix == ".mindir" and not path.is_dir():
        return MindirScorer.open(path, target)
    return CheckpointScorer.open(path, config, target)


def _check_nothing_is_set(path: Path, config: RunConfig) -> None:
    """Raise ConfigError where the user sets what the card of an exported file says."""
    for section in ("mel", "model"):
        if keys := sorted(getattr(config, section).model_fields_set):
            raise ConfigError(f"{section}.{keys[0]}: {path} has its own in its card; leave it out")


def check_scores(scores: NDArray[Any], num_clips: int, num_tags: int, where: str) -> Float32:
    """Return the scores as float32; raises CheckpointError where they have another shape or are not finite."""
    if scores.shape != (num_clips, num_tags):
        raise CheckpointError(f"{where}: gave scores of shape {scores.shape}; its card says ({num_clips}, {num_tags})")
    if not np.isfinite(scores).all():
        raise CheckpointError(f"{where}: gave scores that are not finite: its weights are damaged")
    return scores.astype(np.float32, copy=False)
