"""The resampler against soxr itself."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from fcn4dist.data.resample import resample


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000, 8_000])
@pytest.mark.parametrize("num_samples", [1, 7, 3_840, 3_841, 100_003])
def test_equals_soxr(rate_hz: int, num_samples: int) -> None:
    source = np.random.default_rng(1).uniform(-1, 1, num_samples).astype(np.float32)
    wave, expected = resample(source, rate_hz, 12_000), soxr.resample(source, rate_hz, 12_000, quality="HQ")
    assert wave.dtype == np.float32
    assert len(wave) == -(-num_samples * 12_000 // rate_hz)
    both = min(len(wave), len(expected))
    np.testing.assert_allclose(wave[:both], expected[:both], atol=2e-6)


def test_rate_as_wanted_is_left_alone() -> None:
    source = np.arange(5, dtype=np.float32)
    assert resample(source, 12_000, 12_000) is source
