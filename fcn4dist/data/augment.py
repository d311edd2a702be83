"""Which part of what is stored a network hears: the middle or a random crop in training, every window in evaluation.

Frames of a stored piece that lie behind its end are silence, so they belong to no crop and no window of a piece that is longer
than a clip.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Counts = NDArray[np.integer[Any]]


def crop_clips(
    mel_db: Float32,
    clip_ids: Counts,
    sound_frames: Counts,
    num_frames: int,
    *,
    crop: Literal["middle", "random"],
    seed: int,
    epoch: int,
) -> Float32:
    """Return `num_frames` of each stored piece: (N, 1, n_mels, stored frames) to (N, 1, n_mels, num_frames).

    `sound_frames` (N,): how many frames of each piece are sound. A random crop is a function of (seed, epoch, clip id), whatever
    batch or rank the clip is in.
    """
    if mel_db.shape[3] == num_frames:
        return mel_db
    rooms = np.maximum(0, sound_frames - num_frames)
    starts = rooms // 2
    if crop == "random":
        ids = zip(clip_ids.tolist(), rooms.tolist(), strict=True)
        starts = np.array([np.random.default_rng((seed, epoch, clip_id)).integers(room + 1) for clip_id, room in ids])
    return np.stack([piece[..., start : start + num_frames] for piece, start in zip(mel_db, starts, strict=True)])


def window_starts(sound_frames: int, num_frames: int) -> list[int]:
    """Return where the windows of a piece begin: one behind the other, the last one ends where the sound does."""
    last = max(0, sound_frames - num_frames)
    starts = list(range(0, last + 1, num_frames))
    return starts if starts[-1] == last else [*starts, last]
