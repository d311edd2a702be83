"""The log-mel spectrogram against librosa and by hand, and the files that cannot be used."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile

from fcn4dist.config import MelConfig
from fcn4dist.data.mel import UnusableClipError, _filter_bank, _window, crop_or_pad, load_wave, log_mel

SHORT = MelConfig(clip_s=2.0)


def make_wave(seconds: float, rate_hz: int, seed: int = 0) -> np.ndarray:
    """A sweep with quiet noise."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(seed).normal(0, 0.003, len(t))
    return (0.4 * np.sin(2 * np.pi * (200 * t + 180 * t**2)) + noise).astype(np.float32)


def librosa_mel_db(wave: np.ndarray, mel: MelConfig) -> np.ndarray:
    """What ModelZoo's preprocessing calls (amplitude), and the textbook's decibels (power)."""
    power = librosa.feature.melspectrogram(
        y=wave, sr=mel.sample_rate_hz, hop_length=mel.hop_samples, n_fft=mel.n_fft, n_mels=mel.n_mels
    )
    return librosa.amplitude_to_db(power) if mel.db == "amplitude" else librosa.power_to_db(power)


def librosa_load(file: Path) -> np.ndarray:
    """What `librosa.load(file, sr=12_000, res_type="soxr_hq")` does, without the modules that it warns of."""
    source, rate_hz = soundfile.read(file, dtype="float32")
    return librosa.resample(librosa.to_mono(source.T), orig_sr=rate_hz, target_sr=12_000, res_type="soxr_hq")


@pytest.mark.parametrize("db", ["amplitude", "power"])
@pytest.mark.parametrize(
    "mel", [MelConfig(), MelConfig(sample_rate_hz=16000, n_fft=1024, hop_samples=160, n_mels=64, clip_s=3.3)]
)
def test_log_mel_equals_librosa(mel: MelConfig, db: str) -> None:
    mel = mel.model_copy(update={"db": db})
    wave = crop_or_pad(make_wave(mel.clip_s, mel.sample_rate_hz), mel.num_samples)
    mel_db = log_mel(wave, mel)
    assert mel_db.shape == (mel.n_mels, mel.num_frames)
    assert mel_db.dtype == np.float32
    np.testing.assert_allclose(mel_db, librosa_mel_db(wave, mel), atol=0.01)


@pytest.mark.parametrize(
    "mel",
    [
        MelConfig(),
        MelConfig(sample_rate_hz=16000, n_fft=1024, n_mels=64),
        MelConfig(sample_rate_hz=44100, n_fft=2048, n_mels=128),
    ],
)
def test_filter_bank_and_window_are_librosa_s_and_scipy_s(mel: MelConfig) -> None:
    bank = librosa.filters.mel(sr=mel.sample_rate_hz, n_fft=mel.n_fft, n_mels=mel.n_mels)
    np.testing.assert_allclose(_filter_bank(mel).toarray(), bank, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(_window(mel), scipy.signal.get_window("hann", mel.n_fft), atol=1e-7)


def test_the_paper_has_1366_frames() -> None:
    assert (MelConfig().num_samples, MelConfig().num_frames) == (349_440, 1366)
    assert log_mel(make_wave(29.12, 12_000), MelConfig()).shape == (96, 1366)


def test_amplitude_decibels_are_twice_powers_above_the_floor() -> None:
    wave = make_wave(2.0, 12_000)
    amplitude, power = (log_mel(wave, SHORT.model_copy(update={"db": db})) for db in ("amplitude", "power"))
    above = amplitude > amplitude.max() - 79
    np.testing.assert_allclose(amplitude[above], 2 * power[above], atol=1e-3)
    assert amplitude.min() == pytest.approx(amplitude.max() - 80)
    assert 100 < above.sum() < above.size


@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.7, 40.0])
@pytest.mark.parametrize("rate_hz", [12_000, 44_100, 16_000, 8_000])
def test_reading_the_middle_equals_reading_all(tmp_path: Path, seconds: float, rate_hz: int) -> None:
    soundfile.write(tmp_path / "x.wav", make_wave(seconds, rate_hz), rate_hz, subtype="FLOAT")
    whole = librosa_load(tmp_path / "x.wav")
    n, fit = len(whole), 24_000
    expected = whole[(n - fit) // 2 : (n + fit) // 2] if n >= fit else np.pad(whole, (0, fit - n))
    wave = load_wave(tmp_path / "x.wav", SHORT)
    assert wave.shape == (24_000,)
    np.testing.assert_allclose(wave, expected, atol=2e-5)


def test_crop_takes_the_middle_and_pad_the_end() -> None:
    wave = np.arange(1, 8, dtype=np.float32)
    assert crop_or_pad(wave, 4).tolist() == [2, 3, 4, 5]  # (7 - 4) // 2 = 1
    assert crop_or_pad(wave, 9).tolist() == [1, 2, 3, 4, 5, 6, 7, 0, 0]
    assert crop_or_pad(wave, 7).tolist() == wave.tolist()


@pytest.mark.parametrize(
    ("suffix", "format_", "subtype"),
    [
        ("wav", "WAV", "PCM_16"),
        ("flac", "FLAC", "PCM_24"),
        ("ogg", "OGG", "VORBIS"),
        ("opus", "OGG", "OPUS"),
        ("mp3", "MP3", "MPEG_LAYER_III"),
        ("aiff", "AIFF", "PCM_16"),
    ],
)
def test_any_format_gives_nearly_the_same_features(tmp_path: Path, suffix: str, format_: str, subtype: str) -> None:
    stereo = np.stack([make_wave(6, 48_000, seed) for seed in (0, 1)], axis=1)
    file = tmp_path / f"x.{suffix}"
    soundfile.write(file, stereo, 48_000, format=format_, subtype=subtype)
    mel = SHORT.model_copy(update={"db": "power"})
    mono = librosa.resample(stereo.mean(axis=1), orig_sr=48_000, target_sr=12_000, res_type="soxr_hq")
    difference = np.abs(log_mel(load_wave(file, mel), mel) - log_mel(crop_or_pad(mono, mel.num_samples), mel))
    assert np.median(difference) < 3  # lossy codecs change quiet bands by a few dB


def test_memory_does_not_grow_with_the_length_of_the_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.tile(make_wave(10, 44_100), 60), 44_100)  # 10 minutes, 106 MB as float32
    load_wave(tmp_path / "long.wav", SHORT)
    tracemalloc.start()
    load_wave(tmp_path / "long.wav", SHORT)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4 << 20


def test_unusable_files_give_a_reason(tmp_path: Path) -> None:
    good = make_wave(2, 12_000)
    nan = good.copy()
    nan[12_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, 12_000, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", good * 1e-5, 12_000, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", good[:0], 12_000)
    soundfile.write(tmp_path / "loud.wav", good * 1e30, 12_000, subtype="FLOAT")
    soundfile.write(tmp_path / "whole.flac", make_wave(2, 12_000), 12_000)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "whole.flac").read_bytes()[:12_000])
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("this is no audio, whatever its name says\n" * 50)
    (tmp_path / "folder.ogg").mkdir()
    (tmp_path / "loop.ogg").symlink_to("loop.ogg")
    for name, reason in {
        "nan.wav": "NaN",
        "silent.wav": r"silent: peak [34]\.\de-06",
        "none.wav": "no samples",
        "loud.wav": "too loud",
        "cut.flac": "damaged|cannot be decoded",
        "empty.mp3": "empty file",
        "text.mp3": "cannot be decoded: not audio, or damaged",
        "folder.ogg": "a folder, not a file",
        "loop.ogg": "cannot be read: ",
        "missing.ogg": "no such file",
        "empty.mp3/x.ogg": "no such file",
        "nul\0.ogg": "cannot be decoded",
    }.items():
        with pytest.raises(UnusableClipError, match=reason):
            log_mel(load_wave(tmp_path / name, SHORT), SHORT)


def test_real_music_equals_librosa(shared_data: Path) -> None:
    file = shared_data / "music" / "Kevin_MacLeod_-_Vibe_Ace.ogg"
    whole = librosa_load(file)
    middle = whole[(len(whole) - 349_440) // 2 : (len(whole) + 349_440) // 2]
    mel = MelConfig()
    np.testing.assert_allclose(log_mel(load_wave(file, mel), mel), librosa_mel_db(middle, mel), atol=0.01)
