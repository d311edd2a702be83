"""The log-mel spectrogram against librosa, by value and by the clock."""

from __future__ import annotations

import subprocess
import sys

import librosa
import numpy as np
import pytest

from fcn4dist.config import MelConfig
from fcn4dist.data.mel import build_filters, log_mel


def make_wave(num_samples: int, rate_hz: int) -> np.ndarray:
    """A sweep with quiet noise."""
    t = np.arange(num_samples) / rate_hz
    noise = np.random.default_rng(0).normal(0, 0.003, len(t))
    return (0.4 * np.sin(2 * np.pi * (200 * t + 180 * t**2)) + noise).astype(np.float32)


def librosa_mel_db(wave: np.ndarray, mel: MelConfig) -> np.ndarray:
    """What ModelZoo's preprocessing calls (amplitude), and the textbook's decibels (power)."""
    power = librosa.feature.melspectrogram(
        y=wave, sr=mel.sample_rate_hz, hop_length=mel.hop_samples, n_fft=mel.n_fft, n_mels=mel.n_mels
    )
    return librosa.amplitude_to_db(power) if mel.db == "amplitude" else librosa.power_to_db(power)


@pytest.mark.parametrize("db", ["amplitude", "power"])
@pytest.mark.parametrize(
    "mel",
    [
        MelConfig(),
        MelConfig(stored_s=40.0),
        MelConfig(sample_rate_hz=16000, n_fft=1024, hop_samples=160, n_mels=64, clip_s=3.3),
        MelConfig(sample_rate_hz=44100, n_fft=2048, hop_samples=1000, n_mels=128, clip_s=5.0),
    ],
)
def test_equal_to_librosa(mel: MelConfig, db: str) -> None:
    mel = mel.model_copy(update={"db": db})
    for num_samples, num_frames in (
        (mel.num_samples, mel.num_frames),
        (mel.num_stored_samples, mel.num_stored_frames),
    ):
        wave = make_wave(num_samples, mel.sample_rate_hz)
        mel_db = log_mel(wave, mel)
        assert (mel_db.shape, mel_db.dtype) == ((mel.n_mels, num_frames), np.float32)
        np.testing.assert_allclose(mel_db, librosa_mel_db(wave, mel), atol=0.001)


def test_the_paper_has_1366_frames() -> None:
    assert log_mel(make_wave(349_440, 12_000), MelConfig()).shape == (96, 1366)


def test_loud_waves_do_not_overflow() -> None:
    """The decoder lets samples of up to 1e5 through."""
    wave = 1e5 * np.sign(make_wave(24_000, 12_000))
    np.testing.assert_allclose(log_mel(wave, MelConfig()), librosa_mel_db(wave, MelConfig()), atol=0.001)


def test_a_worker_that_is_handed_the_filters_loads_neither_librosa_nor_numba() -> None:
    code = (
        "import pickle, sys, numpy as np; from fcn4dist.config import MelConfig; from fcn4dist.data.mel import log_mel;"
        "filters = pickle.load(sys.stdin.buffer); log_mel(np.ones(24000, np.float32), MelConfig(), filters);"
        "print({'librosa', 'numba', 'mindspore', 'scipy.signal', 'sklearn'} & set(sys.modules))"
    )
    import pickle

    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(build_filters(MelConfig())), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "set()"
