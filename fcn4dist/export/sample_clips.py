"""Real clips to compare an exported file with its checkpoint: those of the data set, else pieces of the demo set."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig
from fcn4dist.data.augment import crop_clips
from fcn4dist.data.dataset import open_dataset
from fcn4dist.errors import DataError
from fcn4dist.export.provenance import find_data
from fcn4dist.model.trained import TrainedModel

logger = logging.getLogger(__name__)

PARTS = ("val", "test", "train")  # where clips are taken from: the first that has any


@dataclass(frozen=True)
class ClipSample:
    """Clips of one length, and what they are in words."""

    mel_db: NDArray[np.float32]  # (N, 1, n_mels, frames)
    text: str


def load_sample(model: TrainedModel, data_dir: Path | None, num_clips: int, num_frames: int) -> ClipSample:
    """Return up to `num_clips` clips of `num_frames`; longer ones than the data set's are several clips one after the other.

    `data_dir`: none means the data set that the run trained on and, where that is not at hand, pieces of the embedded
    demo set. Raises DataError when `data_dir` has no clips for this network.
    """
    if data_dir is not None:
        return _sample_data(data_dir, model.card.mel, num_clips, num_frames)
    trained_on = find_data(model)
    if trained_on is not None:
        try:
            return _sample_data(trained_on, model.card.mel, num_clips, num_frames)
        except DataError as error:
            logger.warning("%s; pieces of the demo set are compared instead", error)
    return _sample_demo(model.card.mel, num_clips, num_frames)


def _sample_data(data_dir: Path, mel: MelConfig, num_clips: int, num_frames: int) -> ClipSample:
    data = open_dataset(data_dir)
    part = next((part for part in PARTS if part in data.parts), None)
    if part is None:
        raise DataError(f"{data_dir}: no clips here; expected a prepared data set")
    split = data.split(part)
    if split.feature_shape[1] != mel.n_mels:
        raise DataError(
            f"{data_dir}: clips of {split.feature_shape[1]} mel bands; the network was trained with {mel.n_mels}"
        )
    positions = np.linspace(0, split.num_clips - 1, min(num_clips, split.num_clips)).astype(np.int64)
    (batch,) = split.iter_batches(positions, len(positions))
    found = crop_clips(
        batch.mel_db, batch.clip_ids, batch.sound_frames, split.num_frames, crop="middle", seed=0, epoch=0
    )
    return ClipSample(_join(found, num_frames), f"{len(found)} {part} clips of the data set")


def _join(clips: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
    """Return a row of `num_frames` a clip: row i is clip i followed by clips i + 1, i + 2, ..."""
    repeats = -(-num_frames // clips.shape[3])
    joined = np.concatenate([np.roll(clips, -k, axis=0) for k in range(repeats)], axis=3)
    return np.ascontiguousarray(joined[..., :num_frames])


def _sample_demo(mel: MelConfig, num_clips: int, num_frames: int) -> ClipSample:
    import soxr

    from fcn4dist.data.audio import crop_or_pad
    from fcn4dist.data.demo import plan_pieces, render_piece
    from fcn4dist.data.mel import log_mel
    from fcn4dist.data.synth import RATE_HZ

    pieces = plan_pieces()
    chosen = [pieces[i] for i in np.linspace(0, len(pieces) - 1, min(num_clips, len(pieces))).astype(int)]
    longest = mel.model_copy(update={"clip_s": (num_frames - 1) * mel.hop_samples / mel.sample_rate_hz})
    rows = []
    for piece in chosen:
        wave = soxr.resample(render_piece(piece), RATE_HZ, mel.sample_rate_hz)
        wave = np.tile(wave, -(-longest.num_samples // len(wave)))
        rows.append(log_mel(crop_or_pad(wave, longest.num_samples), longest)[None])
    return ClipSample(np.stack(rows), f"{len(rows)} pieces of the embedded demo set")
