"""Windows over whole pieces: what they hold, where they stand, and the files that cannot be used."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from fcn4dist.config import MelConfig
from fcn4dist.data.audio import UnusableClipError, crop_or_pad, iter_windows, load_clip

MEL = MelConfig(clip_s=2.0)


def write_noise(file: Path, seconds: float, rate_hz: int, channels: int = 1, **options: str) -> np.ndarray:
    wave = np.random.default_rng(1).normal(0, 0.1, (round(seconds * rate_hz), channels)).astype(np.float32)
    soundfile.write(file, wave, rate_hz, **options)
    return wave


def test_crop_takes_the_middle_and_pad_the_end() -> None:
    wave = np.arange(1, 8, dtype=np.float32)
    assert crop_or_pad(wave, 4).tolist() == [2, 3, 4, 5]  # (7 - 4) // 2 = 1
    assert crop_or_pad(wave, 9).tolist() == [1, 2, 3, 4, 5, 6, 7, 0, 0]


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
    np.testing.assert_allclose(window.wave, load_clip(file, 12_000, 24_000).wave, atol=1e-6)
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


def test_a_path_may_be_any_and_a_file_may_be_missing(tmp_path: Path) -> None:
    write_noise(tmp_path / "nai've \"<b>\n.wav", 2.5, 44_100, 2)
    assert len(list(iter_windows(tmp_path / "nai've \"<b>\n.wav", MEL, hop_s=2.0))) == 2
    (tmp_path / "folder.mp3").mkdir()
    (tmp_path / "loop.ogg").symlink_to("loop.ogg")
    soundfile.write(tmp_path / "silent.wav", np.full(24_000, 5e-5), 12_000, subtype="FLOAT")
    write_noise(tmp_path / "a.wav", 0.01, 12_000)
    for name, reason in {
        "missing.wav": "no such file",
        "a.wav/b.wav": "no such file",
        "folder.mp3": "a folder, not a file",
        "loop.ogg": "cannot be read: ",
        "nul\0.ogg": "cannot be decoded",
        "silent.wav": r"silent: peak 5\.0e-05 of full scale",
    }.items():
        with pytest.raises(UnusableClipError, match=reason):
            load_clip(tmp_path / name, 12_000, 24_000)
    with pytest.raises(UnusableClipError, match=r"too short: 0\.010 s, 120 samples"):
        list(iter_windows(tmp_path / "a.wav", MEL, hop_s=2.0))
    assert load_clip(tmp_path / "a.wav", 12_000, 24_000).duration_s == pytest.approx(0.01)


def test_next_to_nothing_is_refused_and_a_part_is_noted(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.wav", 10, 12_000)
    write_noise(tmp_path / "a.aiff", 10, 12_000)
    for suffix, part in (("wav", 0.5), ("aiff", 0.5), ("wav", 0.09), ("aiff", 0.09)):
        whole = (tmp_path / f"a.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(whole[: round(part * len(whole))])
        if part == 0.5:
            clip = load_clip(tmp_path / f"cut.{suffix}", 12_000, 24_000)
            assert clip.note == f"short: {clip.duration_s:.1f} s decoded, 10.0 s in its header"
        else:
            with pytest.raises(UnusableClipError, match=r"damaged: 0\.\d+ s could be decoded \(short: .* 10.0 s"):
                load_clip(tmp_path / f"cut.{suffix}", 12_000, 24_000)


def test_damaged_floats_are_refused_without_a_warning(tmp_path: Path) -> None:
    wave = write_noise(tmp_path / "a.wav", 1, 12_000, 2)
    wave[5] = 3e38  # of both channels: their sum is infinite
    soundfile.write(tmp_path / "a.wav", wave, 12_000, subtype="FLOAT")
    with pytest.raises(UnusableClipError, match="infinite samples: sample 5, at"):
        load_clip(tmp_path / "a.wav", 12_000, 12_000)


def test_a_long_piece_is_cut_in_the_middle_in_flat_memory(tmp_path: Path) -> None:
    wave = write_noise(tmp_path / "long.wav", 25 * 60, 12_000, subtype="PCM_16")[:, 0]  # 72 MB as float32
    tracemalloc.start()
    clip = load_clip(tmp_path / "long.wav", 12_000, 349_440)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    n = len(wave)
    np.testing.assert_allclose(clip.wave, wave[(n - 349_440) // 2 : (n + 349_440) // 2], atol=1e-4)
    assert clip.duration_s == 1500
    assert peak_bytes < 36e6  # ten minutes


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
