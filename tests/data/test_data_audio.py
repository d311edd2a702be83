"""Windows over whole pieces: what they hold, where they stand, and the files that cannot be used."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from fcn4dist.config import MelConfig
from fcn4dist.data.audio import iter_windows
from fcn4dist.data.mel import UnusableClipError, load_wave

MEL = MelConfig(clip_s=2.0)


def write_noise(file: Path, seconds: float, rate_hz: int, channels: int = 1, **options: str) -> np.ndarray:
    wave = np.random.default_rng(1).normal(0, 0.1, (round(seconds * rate_hz), channels)).astype(np.float32)
    soundfile.write(file, wave, rate_hz, **options)
    return wave


def whole(file: Path, rate_hz: int = 12_000) -> np.ndarray:
    """The piece resampled at once, by librosa."""
    source, found_hz = soundfile.read(file, dtype="float32", always_2d=True)
    return librosa.resample(source.mean(axis=1), orig_sr=found_hz, target_sr=rate_hz, res_type="soxr_hq")


@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 2), (12_000, 1), (8_000, 1), (192_000, 8), (11_025, 3)])
def test_blocks_resample_to_what_the_whole_piece_does(tmp_path: Path, rate_hz: int, channels: int) -> None:
    file = tmp_path / "a.wav"
    write_noise(file, 7.3, rate_hz, channels, subtype="FLOAT")
    expected = whole(file)
    windows = list(iter_windows(file, MEL, hop_s=2.0))
    assert [round(window.start_s, 3) for window in windows] == [0.0, 2.0, 4.0, 5.3]
    assert windows[-1].end_s == pytest.approx(7.3, abs=1e-4)
    for window in windows:
        start = round(window.start_s * 12_000)
        np.testing.assert_allclose(window.wave, expected[start : start + 24_000], atol=1e-6)


def test_windows_may_overlap_and_the_last_ends_with_the_piece(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    write_noise(file, 4.25, 12_000)
    windows = list(iter_windows(file, MEL, hop_s=0.5))
    assert [window.start_s for window in windows] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.25]
    assert {len(window.wave) for window in windows} == {24_000}


@pytest.mark.parametrize(
    ("seconds", "expected"), [(2.0, [0.0]), (4.0, [0.0, 2.0]), (4.04, [0.0, 2.0]), (2.05, [0.0, 0.05])]
)
def test_a_rest_of_less_than_one_frame_is_no_window(tmp_path: Path, seconds: float, expected: list[float]) -> None:
    file = tmp_path / "a.wav"
    write_noise(file, seconds, 12_000)
    assert [round(window.start_s, 3) for window in iter_windows(file, MEL, hop_s=2.0)] == expected


@pytest.mark.parametrize(("seconds", "start_s", "end_s"), [(0.7, 0, 0.7), (2.0, 0, 2.0), (2.02, 0.01, 2.01)])
def test_a_piece_of_one_window_is_what_training_makes_of_it(
    tmp_path: Path, seconds: float, start_s: float, end_s: float
) -> None:
    file = tmp_path / "a.flac"
    write_noise(file, seconds, 44_100)
    (window,) = iter_windows(file, MEL, hop_s=2.0)
    np.testing.assert_allclose(window.wave, load_wave(file, MEL), atol=1e-6)
    assert (round(window.start_s, 3), round(window.end_s, 3), window.is_silent) == (start_s, end_s, False)


@pytest.mark.parametrize("hop_s", [0.01, 0.3, 2.0])
def test_windows_stand_where_arithmetic_says(tmp_path: Path, hop_s: float) -> None:
    file = tmp_path / "a.wav"
    wave = write_noise(file, 5.123, 12_000, subtype="FLOAT")[:, 0]
    windows = list(iter_windows(file, MEL, hop_s))
    starts = [start for start in range(0, len(wave), round(hop_s * 12_000)) if start + 24_000 <= len(wave)]
    if len(wave) - (starts[-1] + 24_000) >= 512:
        starts.append(len(wave) - 24_000)
    assert [round(window.start_s * 12_000) for window in windows] == starts
    for start, window in zip(starts, windows, strict=True):
        np.testing.assert_array_equal(window.wave, wave[start : start + 24_000])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
        ("a.aiff", {"subtype": "PCM_S8"}),
        ("nai've \"<b>\n.wav", {}),
    ],
)
def test_formats_and_names(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    file = tmp_path / name
    write_noise(file, 2.5, 44_100, 2, **options)
    windows = list(iter_windows(file, MEL, hop_s=2.0))
    expected = whole(file)
    np.testing.assert_allclose(windows[0].wave, expected[:24_000], atol=1e-6)
    assert len(windows) == 2


def not_finite(file: Path) -> None:
    wave = np.zeros(30_000, np.float32)
    wave[25_000] = np.nan
    soundfile.write(file, wave, 12_000, subtype="FLOAT")


def cut_short(file: Path) -> None:
    write_noise(file.with_suffix(".flac"), 3, 44_100)
    data = file.with_suffix(".flac").read_bytes()
    file.write_bytes(data[: len(data) // 2])


BAD = {
    "missing": (lambda file: None, "no such file"),
    "empty": (lambda file: file.write_bytes(b""), "empty file"),
    "no samples": (lambda file: soundfile.write(file, np.zeros(0), 44_100, format="WAV"), "no samples"),
    "text": (lambda file: file.write_text("these are words\n" * 200), "cannot be decoded: not audio, or damaged"),
    "folder": (lambda file: file.mkdir(), "a folder, not a file"),
    "not finite": (not_finite, "NaN or infinite"),
    "cut short": (cut_short, "damaged|cannot be decoded"),
}


CASES = [(bad, suffix) for bad in BAD for suffix in (".mp3", ".wav") if (bad, suffix) != ("not finite", ".mp3")]


@pytest.mark.parametrize(("bad", "suffix"), CASES)
def test_unusable_files_say_why(tmp_path: Path, bad: str, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    make, message = BAD[bad]
    make(file)
    with pytest.raises(UnusableClipError, match=message):
        list(iter_windows(file, MEL, hop_s=2.0))


def test_memory_does_not_depend_on_the_length(tmp_path: Path) -> None:
    peaks = []
    for minutes in (1, 8):
        file = tmp_path / f"{minutes}.wav"
        write_noise(file, 60 * minutes, 12_000)
        tracemalloc.start()
        for _ in iter_windows(file, MEL, hop_s=2.0):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 1e5
    assert peaks[1] < 16e6
