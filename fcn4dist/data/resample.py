"""Resampling with soxr's filter: the same samples as `soxr.resample(quality="HQ")`, to the rounding of float32.

MagnaTagATune's 16 kHz to 12 kHz is 3/4, which soxr filters in blocks of three times as many samples as it is given. Here a
block's spectrum is cut to the new rate instead, in two thirds of the time. The filter is not designed anew: it is what soxr
itself answers to an impulse. Every other ratio is left to soxr: it is as fast or faster there, or divides the work into
stages that fold a little more of the band beyond the new rate.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

STEP, RESAMPLED_STEP = 4, 3  # samples before and after
NUM_STEPS = 1024  # of a block
BATCH = 16  # blocks whose arrays stay in the cache
REACH = 128  # samples of the lower rate beyond which the filter's answer has fallen under 1e-7; measured: 99


@dataclass(frozen=True, eq=False)
class _Plan:
    """How blocks are cut and filtered; in samples before (source) and after resampling."""

    source_block: int
    source_overlap: int  # at each side
    block: int
    overlap: int
    response: Float32  # the filter's real spectrum, up to half of the lower rate


def resample(source: Float32, rate_hz: int, target_hz: int) -> Float32:
    """Return the mono wave `source` at target_hz: ceil(n * target_hz / rate_hz) samples, zeros assumed beyond its ends."""
    if rate_hz == target_hz:
        return source
    num_samples = math.ceil(len(source) * target_hz / rate_hz)
    common = math.gcd(rate_hz, target_hz)
    if (rate_hz // common, target_hz // common) != (STEP, RESAMPLED_STEP):
        import soxr

        wave: Float32 = soxr.resample(source, rate_hz, target_hz, quality="HQ")
        return wave[:num_samples] if len(wave) >= num_samples else np.pad(wave, (0, num_samples - len(wave)))
    return _resample_blocks(source, _plan())[:num_samples]


def _resample_blocks(source: Float32, plan: _Plan) -> Float32:
    from scipy import fft

    hop = plan.source_block - 2 * plan.source_overlap
    num_blocks = max(1, math.ceil(len(source) / hop))
    padded = np.zeros((num_blocks - 1) * hop + plan.source_block, np.float32)
    padded[plan.source_overlap : plan.source_overlap + len(source)] = source
    blocks = np.lib.stride_tricks.sliding_window_view(padded, plan.source_block)[::hop]
    wave = np.empty((num_blocks, plan.block - 2 * plan.overlap), np.float32)
    for start in range(0, num_blocks, BATCH):
        spectrum = fft.rfft(blocks[start : start + BATCH], axis=1)[:, : len(plan.response)] * plan.response
        filtered = fft.irfft(spectrum, n=plan.block, axis=1, overwrite_x=True)
        wave[start : start + BATCH] = filtered[:, plan.overlap : plan.block - plan.overlap]
    return wave.reshape(-1)


@functools.cache
def _plan() -> _Plan:
    import soxr

    overlap_steps = -(-REACH // RESAMPLED_STEP)
    block, overlap = NUM_STEPS * RESAMPLED_STEP, overlap_steps * RESAMPLED_STEP
    impulse = np.zeros(NUM_STEPS * STEP, np.float32)
    impulse[NUM_STEPS // 2 * STEP] = 1.0
    answer = soxr.resample(impulse, STEP, RESAMPLED_STEP, quality="HQ")
    centre = NUM_STEPS // 2 * RESAMPLED_STEP
    around_zero = np.zeros(block)
    around_zero[:overlap], around_zero[-overlap:] = answer[centre : centre + overlap], answer[centre - overlap : centre]
    # real, since the filter is symmetric
    response = np.fft.rfft(around_zero).real.astype(np.float32)
    return _Plan(NUM_STEPS * STEP, overlap_steps * STEP, block, overlap, response)
