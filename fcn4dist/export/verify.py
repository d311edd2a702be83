"""Whether an exported file gives the checkpoint's scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcn4dist.config import MelConfig
from fcn4dist.errors import JobError
from fcn4dist.export.card import Verification
from fcn4dist.export.sample_clips import ClipSample
from fcn4dist.export.scorer import Scorer

TOLERANCE = 1e-5  # of a score, which is 0..1
BATCHES = (1, 7)
LENGTHS_S = (5.0, 29.12)  # beside the network's own clip


def plan_lengths(mel: MelConfig, min_frames: int) -> list[int]:
    """Return the numbers of frames to compare at, ascending: 5 s, 29.12 s and a clip, where they survive the pools."""
    lengths = {mel.model_copy(update={"clip_s": seconds}).num_frames for seconds in (*LENGTHS_S, mel.clip_s)}
    return sorted(frames for frames in lengths if frames >= min_frames)


def check_scores_agree(
    expected: Scorer, found: Scorer, sample: ClipSample, lengths: Sequence[int], file: Path
) -> Verification:
    """Compare the scores of all clips at every batch and length; `sample` is as long as the longest.

    Raises JobError when any score differs by TOLERANCE or more.
    """
    largest, place = 0.0, ""
    num_clips = max(len(sample.mel_db), *BATCHES)
    clips = np.resize(sample.mel_db, (num_clips, *sample.mel_db.shape[1:]))  # a few are repeated to fill the batch
    for frames in lengths:
        for batch in BATCHES:
            for first in range(0, num_clips, batch):
                mel_db = np.ascontiguousarray(clips[first : first + batch, ..., :frames])
                difference = float(np.abs(expected.score(mel_db) - found.score(mel_db)).max())
                if difference >= largest:
                    largest, place = difference, f"batch {batch}, {frames} frames"
    if not largest < TOLERANCE:
        raise JobError(
            f"{file}: its scores differ from the checkpoint's by up to {largest:.1e} ({place}), allowed are "
            f"{TOLERANCE:.0e}; nothing was written"
        )
    return Verification(
        max_difference=largest,
        tolerance=TOLERANCE,
        batches=list(BATCHES),
        num_frames=list(lengths),
        clips=sample.text,
    )
