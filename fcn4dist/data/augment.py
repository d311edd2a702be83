"""What a network hears of a stored piece: a crop, mixed with another clip, masked in training; every window in evaluation.

Frames of a stored piece that lie behind its end are silence, so they belong to no crop and no window of a piece that is longer
than a clip.

Whatever is drawn is a function of (seed, epoch, clip id): a clip gets the same in any batch, on any rank and after any resume.
Each use has a stream of its own, so that one that is switched on changes nothing of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import AugmentConfig
from fcn4dist.errors import DataError

if TYPE_CHECKING:
    from fcn4dist.data.dataset import Split

Float32 = NDArray[np.float32]
Counts = NDArray[np.integer[Any]]

# streams of random numbers of a clip in an epoch; the crop's own is that of (seed, epoch, clip id) alone
TIME_MASKS, FREQUENCY_MASKS, MIXUP, DROPOUT = 1, 2, 3, 4


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


def mask_clips(mel_db: Float32, clip_ids: Counts, augment: AugmentConfig, *, seed: int, epoch: int) -> Float32:
    """Return clips (N, 1, n_mels, frames) with stretches of time and groups of bands blanked; `mel_db` itself without any.

    SpecAugment (Park et al. 2019, https://arxiv.org/abs/1904.08779) without its warping: a mask's size is even between 0 and the
    longest, its place even among those where it fits. Blanked is what has the clip's own mean in dB, as there: the floor would
    be a sound that no recording makes, and would pull down the statistics of batch norm.
    """
    if not augment.time_masks and not augment.frequency_masks:
        return mel_db
    masked = mel_db.copy()
    for clip, clip_id in zip(masked, clip_ids.tolist(), strict=True):
        mean = clip.mean(dtype=np.float64)
        num_bands, num_frames = clip.shape[1:]
        rng = np.random.default_rng((seed, epoch, clip_id, TIME_MASKS))
        for start, stop in _draw_masks(rng, augment.time_masks, augment.time_mask_frames, num_frames):
            clip[:, :, start:stop] = mean
        rng = np.random.default_rng((seed, epoch, clip_id, FREQUENCY_MASKS))
        for start, stop in _draw_masks(rng, augment.frequency_masks, augment.frequency_mask_bins, num_bands):
            clip[:, start:stop] = mean
    return masked


def _draw_masks(rng: np.random.Generator, count: int, longest: int, length: int) -> list[tuple[int, int]]:
    masks = []
    for _ in range(count):
        size = int(rng.integers(min(longest, length) + 1))
        start = int(rng.integers(length - size + 1))
        masks.append((start, start + size))
    return masks


def mixup_shares(clip_ids: Counts, mixup: float, *, seed: int, epoch: int) -> Float32:
    """Return the share (N,) that each clip keeps when it is mixed with its partner: drawn from Beta(mixup, mixup)."""
    draws = [np.random.default_rng((seed, epoch, clip_id, MIXUP)).beta(mixup, mixup) for clip_id in clip_ids.tolist()]
    return np.array(draws, np.float32)


def mix(own: NDArray[Any], partner: NDArray[Any], shares: Float32) -> Float32:
    """Return share * own + (1 - share) * partner, row by row, as float32; of log-mel clips, and likewise of their labels.

    Mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412). Decibels are mixed, not powers, as what the network sees.
    """
    weights = shares.reshape(-1, *[1] * (own.ndim - 1))
    mixed: Float32 = weights * own.astype(np.float32) + (1 - weights) * partner.astype(np.float32)
    return mixed


def dropout_masks(clip_ids: Counts, num_values: int, dropout: float, *, seed: int, epoch: int) -> Float32:
    """Return what the values before the last layer are multiplied by, (N, num_values): 0 with the chance `dropout`, else
    1 / (1 - dropout), so that their mean stays.
    """
    keep = [
        np.random.default_rng((seed, epoch, clip_id, DROPOUT)).random(num_values, np.float32) >= dropout
        for clip_id in clip_ids.tolist()
    ]
    return np.array(keep, np.float32).reshape(-1, num_values) / np.float32(1 - dropout)


def check_augment(augment: AugmentConfig, split: Split) -> None:
    """Raise DataError where the training part cannot be varied as asked: masks as long as what is heard, mixup of unknown labels.

    The config alone was checked for masks when it was loaded; bare shards may hold shorter clips than it says.
    """
    where = f"{split.files[0].parent}: {split.name}"
    for count, key, heard in (
        (augment.time_masks, "time_mask_frames", split.num_frames),
        (augment.frequency_masks, "frequency_mask_bins", split.feature_shape[1]),
    ):
        if (masked := count * getattr(augment, key)) >= heard:
            raise DataError(f"{where} has clips of {heard}, {count} masks of augment.{key} may blank {masked} of them")
    if augment.mixup and (num_unknown := int((split.labels < 0).sum())):
        raise DataError(
            f"{where} has {num_unknown} unknown labels, and augment.mixup {augment.mixup:g} mixes only known ones; "
            "set augment.mixup: 0"
        )


def window_starts(sound_frames: int, num_frames: int) -> list[int]:
    """Return where the windows of a piece begin: one behind the other, the last one ends where the sound does."""
    last = max(0, sound_frames - num_frames)
    starts = list(range(0, last + 1, num_frames))
    return starts if starts[-1] == last else [*starts, last]
