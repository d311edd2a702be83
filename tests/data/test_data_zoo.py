"""Every file of the zoo: used or refused as a player would, equal to librosa's decode, in the middle, heard to its end."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import zoo

from fcn4dist.config import MelConfig
from fcn4dist.data.audio import UnusableClipError, iter_windows, load_clip

RATE_HZ = 12_000
ANIMALS = {animal.name: animal for animal in zoo.build_zoo()}
USABLE = [name for name, animal in ANIMALS.items() if animal.refused is None]
RECORDED = Path(__file__).parent / "recorded"
PLAYED = json.loads((RECORDED / "played.json").read_text())
REFUSED = [name for name, animal in ANIMALS.items() if animal.refused is not None]


def write(folder: Path, animal: zoo.Animal) -> Path:
    file = folder / animal.name
    file.write_bytes(animal.data)
    return file


def load_with_librosa(animal: zoo.Animal, file: Path) -> np.ndarray:
    """`librosa.load`, of the orderly twins where librosa itself hears only a part of the file, or nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa's own: of modules that Python 3.13 will drop
        sources: list[Any] = [io.BytesIO(data) for data in animal.twins] or [file]
        return np.concatenate([librosa.load(source, sr=RATE_HZ)[0] for source in sources])


@pytest.mark.parametrize("name", USABLE)
def test_a_clip_is_the_middle_of_what_librosa_decodes(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    animal = ANIMALS[name]
    file = write(tmp_path, animal)
    whole = load_with_librosa(animal, file)
    capfd.readouterr()
    n = len(whole)
    assert n / RATE_HZ == pytest.approx(animal.length_s, abs=0.2)
    for num_samples in (n // 3, n, n + 1, 2 * n):
        clip = load_clip(file, RATE_HZ, num_samples)
        start = max(0, n - num_samples) // 2
        middle = np.pad(whole, (0, max(0, num_samples - n)))[start : start + num_samples]
        assert clip.wave.shape == (num_samples,)
        assert clip.wave.dtype == np.float32
        np.testing.assert_allclose(clip.wave, middle, atol=1e-4)
        assert clip.duration_s == pytest.approx(n / RATE_HZ, abs=1e-3)
        assert (clip.note is None) == (animal.note is None), clip.note
        assert (animal.note or "") in (clip.note or "")
    if animal.is_centred:  # independent of any decoder; an encoder's delay is up to 0.11 s at 16 kHz
        wave = load_clip(file, RATE_HZ, RATE_HZ).wave
        assert np.argmax(np.convolve(np.abs(wave), np.ones(600), "same")) / RATE_HZ == pytest.approx(0.5, abs=0.08)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", USABLE)
def test_tag_hears_it_to_its_end(tmp_path: Path, name: str) -> None:
    animal = ANIMALS[name]
    file = write(tmp_path, animal)
    whole = load_with_librosa(animal, file)
    windows = list(iter_windows(file, MelConfig(clip_s=1.0), hop_s=1.0))
    assert windows[-1].end_s == pytest.approx(len(whole) / RATE_HZ, abs=512 / RATE_HZ)
    for window in windows:
        start = round(window.start_s * RATE_HZ)
        np.testing.assert_allclose(window.wave, whole[start : start + RATE_HZ], atol=1e-4)
    assert (animal.note or "") in (windows[-1].note or "")


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_player_plays_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, ANIMALS[name])
    with pytest.raises(UnusableClipError, match=ANIMALS[name].refused):
        load_clip(file, RATE_HZ, RATE_HZ)
    with pytest.raises(UnusableClipError, match=ANIMALS[name].refused):
        list(iter_windows(file, MelConfig(clip_s=1.0), hop_s=1.0))


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_the_padding_of_an_encoder_is_not_taken_for_sound(tmp_path: Path, rate_hz: int) -> None:
    """LAME adds 576 to 1727 samples, so that up to a whole frame lies beyond the end that its header announces."""
    piece = zoo.make_piece(rate_hz)
    for extra in range(0, 1152, 100):
        file = tmp_path / f"{extra}.mp3"
        file.write_bytes(zoo.encode(piece[: rate_hz + extra], rate_hz, "MP3", compression_level=0.2))
        whole, _ = librosa.load(file, sr=RATE_HZ)
        assert len(whole) == pytest.approx((rate_hz + extra) * RATE_HZ / rate_hz, abs=1.01)
        np.testing.assert_allclose(load_clip(file, RATE_HZ, len(whole)).wave, whole, atol=1e-4)


def test_the_zoo_is_large_enough() -> None:
    assert len(ANIMALS) >= 25
    assert sum(name.endswith(".mp3") for name in USABLE) >= 12


@pytest.mark.parametrize("name", PLAYED)
def test_what_lame_and_ffmpeg_wrote_is_heard_as_ffmpeg_plays_it(name: str) -> None:
    file, played = RECORDED / name, PLAYED[name]
    if file.suffix == ".m4a":
        with pytest.raises(UnusableClipError, match=zoo.AAC):
            load_clip(file, RATE_HZ, RATE_HZ)
        return
    rate_hz, middle = int(played["rate_hz"]), np.array(played["middle"])
    clip = load_clip(file, rate_hz, len(middle))
    assert clip.duration_s == pytest.approx(played["num_samples"] / rate_hz, abs=1.01 / rate_hz)
    # ffmpeg has its own decoder of Opus, which begins a sample earlier; the others agree to 1e-6
    np.testing.assert_allclose(clip.wave, middle, atol=0.02 if file.suffix == ".opus" else 1e-4)
    assert np.abs(middle).max() > 0.1
