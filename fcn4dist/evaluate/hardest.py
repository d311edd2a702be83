"""The clips that a network gets most wrong, with a small picture of the mel of each: hardest.npz, for the report.

The last evaluation of a run leaves it, while the features are at hand: a report needs neither MindSpore nor the data set.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.files import save_atomically

if TYPE_CHECKING:
    from fcn4dist.data.dataset import Split
    from fcn4dist.evaluate.document import Scores

NUM_HARDEST = 20
CLIPPED = 1e-7  # scores are kept this far from 0 and 1 in logarithms
BANDS, FRAMES = 48, 192  # of a picture, at most
RANGE_DB = 80.0  # below a clip's loudest point, as black

Pictures = dict[int, NDArray[np.uint8]]  # clip id -> (bands, frames): 255 at the clip's loudest, the lowest band first


def clip_losses(labels: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return each clip's mean binary cross-entropy over its known tags (N,), in nats; 0 where none is known.

    `labels` (N, num_tags) are 0, 1 or -1: unknown; `scores` (N, num_tags) are 0..1.
    """
    kept, is_known = np.clip(scores.astype(np.float64), CLIPPED, 1 - CLIPPED), labels >= 0
    losses = -np.where(labels > 0, np.log(kept), np.log1p(-kept)) * is_known
    return np.asarray(losses.sum(axis=1) / np.maximum(is_known.sum(axis=1), 1), np.float64)


def find_hardest(labels: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return the rows of the clips with the highest losses, the hardest first, at most NUM_HARDEST."""
    return np.argsort(-clip_losses(labels, scores), kind="stable")[:NUM_HARDEST]


def save_hardest(file: Path, split: Split, evaluations: Sequence[Scores]) -> None:
    """Write the pictures of the hardest clips of some evaluations of `split`. Raises DataError and OSError."""
    ids = np.unique(np.concatenate([kept.clip_ids[find_hardest(kept.labels, kept.scores)] for kept in evaluations]))
    order = np.argsort(split.clip_ids, kind="stable")
    positions = order[np.searchsorted(split.clip_ids, ids, sorter=order)]
    features = split.read(positions)  # (n, 1, n_mels, frames), dB
    pictures = np.stack([shrink(mel_db[0]) for mel_db in features])
    save_atomically(file, lambda opened: np.savez_compressed(opened, clip_ids=ids, pictures=pictures))


def shrink(mel_db: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a mel (n_mels, frames) in dB as a picture of at most (BANDS, FRAMES): means of neighbours, 255 at its highest."""
    for axis, most in ((0, BANDS), (1, FRAMES)):
        size = mel_db.shape[axis]
        starts = np.arange(min(most, size)) * size // min(most, size)
        counts = np.diff(np.append(starts, size))
        mel_db = np.add.reduceat(mel_db, starts, axis=axis) / (counts[:, None] if axis == 0 else counts)
    return np.asarray(np.clip(255 * (1 + (mel_db - mel_db.max()) / RANGE_DB), 0, 255).round(), np.uint8)


def load_hardest(file: Path) -> Pictures:
    """Read the pictures; none where the file is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            ids, pictures = arrays["clip_ids"], arrays["pictures"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, MemoryError):
        return {}
    fits = pictures.dtype == np.uint8 and pictures.ndim == 3 and ids.shape == pictures.shape[:1] and pictures.size
    if not fits or pictures.shape[1] > BANDS or pictures.shape[2] > FRAMES or ids.dtype.kind not in "iu":
        return {}
    return dict(zip(ids.tolist(), pictures, strict=True))
