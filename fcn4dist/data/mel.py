"""The log-mel spectrogram of a clip, from any audio file.

Choi et al. (2016, arXiv:1606.00298; code: github.com/keunwoochoi/music-auto_tagging-keras), ModelZoo's FCN-4 and this
module agree, with the defaults of MelConfig, on: mono, 12 kHz, the middle 29.12 s (shorter clips get zeros at the end),
Hann window of 512 samples, hop 256, frames centred on their instant, 96 Slaney mel bands, 1366 frames, decibels with a
floor 80 dB under the clip's maximum.

Decibels. `mel.db: amplitude` is what both trained on: 20 log10(max(p, 1e-5)) of the POWER mel p. ModelZoo gets it from
`amplitude_to_db` on a power spectrogram, Choi from `logamplitude(mel ** 2, amin=1e-10)`: the same number, twice the
usual decibels, so that its range of 80 dB holds 40 dB of sound. `mel.db: power` is the textbook's
10 log10(max(p, 1e-10)), with 80 dB of sound. The reference is 1.0, not the maximum, so loudness is kept.

Where they differ. Beyond the ends of the wave, librosa until 0.9 saw a reflection of it (Choi, ModelZoo's runs of
2021); today's librosa and this module see zeros: the first and last frame differ, no other. Resampling was
scikits.samplerate's `sinc_best` (Choi) and resampy's `kaiser_best` (ModelZoo); here it is `soxr_hq`, which differs
only near 6 kHz.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig

Float32 = NDArray[np.float32]

SILENT_PEAK = 1e-4  # full scale is 1; -80 dBFS
TOP_DB = 80.0
UNKNOWN_FRAMES = 1 << 48  # libsndfile reports 2**63 - 1 for streams that do not say how long they are
MARGIN_S = 0.25  # read beside the crop, so that the resampler's edges fall outside it
BLOCK_FRAMES = 1 << 20
NOT_AUDIO = ("File does not exist", "Format not recognised")
BLOCK_SPECTRA = 128  # whose arrays stay in the cache: a whole clip's are 3 MB each, new pages from the system each time


class UnusableClipError(Exception):
    """A clip cannot be used; the message is the reason that the ledger keeps."""


@dataclass(frozen=True)
class _Excerpt:
    """The part of a file to read, and where the clip begins in it after resampling."""

    start: int  # in frames of the file
    num_frames: int
    offset: int  # in resampled samples


def load_wave(file: Path, mel: MelConfig) -> Float32:
    """Return the clip: mono, at mel.sample_rate_hz, exactly mel.num_samples long; full scale is 1.

    Any format, rate and number of channels that libsndfile reads. Only the middle of a long file is read, in memory
    that does not depend on its length. Raises UnusableClipError with the reason: missing, empty, damaged, silent, not
    finite.
    """
    source, rate_hz, offset, num_resampled = _read_middle(file, mel)
    if not np.isfinite(source).all():
        raise UnusableClipError("holds NaN or infinite samples")
    wave = _resample(source, rate_hz, mel.sample_rate_hz)
    if num_resampled > mel.num_samples:
        wave = wave[offset : offset + mel.num_samples]
    wave = crop_or_pad(wave, mel.num_samples)
    peak = float(np.abs(wave).max())
    if peak < SILENT_PEAK:
        raise UnusableClipError(f"silent: peak {peak:.1e} of full scale")
    return wave


def measure_duration(file: Path) -> float:
    """Return the length of an audio file in seconds, by its header; NaN where that does not say."""
    import soundfile

    try:
        sound = soundfile.info(file)
    except (OSError, soundfile.SoundFileError):
        return math.nan
    return float(sound.duration) if 0 <= sound.frames < UNKNOWN_FRAMES else math.nan


def crop_or_pad(wave: Float32, num_samples: int) -> Float32:
    """Return exactly `num_samples`: the middle of a longer wave, a shorter one with zeros at its end.

    The middle is [(n - num_samples) // 2, (n + num_samples) // 2), as in ModelZoo.
    """
    n = len(wave)
    if n < num_samples:
        return np.pad(wave, (0, num_samples - n))
    return wave[(n - num_samples) // 2 : (n + num_samples) // 2]


def log_mel(wave: Float32, mel: MelConfig) -> Float32:
    """Return the log-mel spectrogram in dB, float32 (mel.n_mels, mel.num_frames).

    Equal to librosa's `melspectrogram` followed by `amplitude_to_db` or `power_to_db` (see above) within 0.01 dB, and
    faster, since it stays in float32. Raises UnusableClipError where the power overflows.
    """
    from scipy import fft

    window, bank = _window(mel), _filter_bank(mel)
    padded = np.pad(wave, mel.n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, mel.n_fft)[:: mel.hop_samples][: mel.num_frames]
    mel_power = np.empty((mel.n_mels, len(frames)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(frames), BLOCK_SPECTRA):
            part = slice(start, start + BLOCK_SPECTRA)
            spectrum = fft.rfft(frames[part] * window, axis=1, overwrite_x=True)  # complex64 (block, 1 + n_fft / 2)
            power = np.square(spectrum.real)
            power += np.square(spectrum.imag)
            mel_power[:, part] = bank @ power.T  # sparse: a band sees a few of the 257 bins
    if not np.isfinite(mel_power).all():
        raise UnusableClipError("too loud: the power of the spectrum overflows")
    if mel.db == "amplitude":
        mel_db = 20.0 * np.log10(np.maximum(mel_power, np.float32(1e-5)))
    else:
        mel_db = 10.0 * np.log10(np.maximum(mel_power, np.float32(1e-10)))
    floored: Float32 = np.maximum(mel_db, mel_db.max() - TOP_DB)
    return floored


@functools.lru_cache(maxsize=4)
def _filter_bank(mel: MelConfig) -> Any:
    """Return Slaney's triangles of area 1 as a sparse matrix (n_mels, 1 + n_fft / 2), the values of librosa.filters.mel.

    Written out, since importing librosa costs each worker process a second or two and the memory of numba.
    """
    from scipy.sparse import csr_matrix

    edges_hz = _mel_to_hz(np.linspace(0.0, _hz_to_mel(mel.sample_rate_hz / 2), mel.n_mels + 2))
    widths_hz = np.diff(edges_hz)
    ramps = np.subtract.outer(edges_hz, np.fft.rfftfreq(mel.n_fft, 1 / mel.sample_rate_hz))
    rising, falling = -ramps[:-2] / widths_hz[:-1, None], ramps[2:] / widths_hz[1:, None]
    bank = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    bank *= (2 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return csr_matrix(bank)


def _hz_to_mel(hz: float) -> float:
    """Slaney's scale: linear, 15 mel a kHz, to 1 kHz; above it 27 mel for each factor of 6.4."""
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def _mel_to_hz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    hz: NDArray[np.float64] = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * math.log(6.4) / 27))
    return hz


@functools.lru_cache(maxsize=4)
def _window(mel: MelConfig) -> Float32:
    """Return the periodic Hann window; scipy.signal would be a slow import for one cosine."""
    turns = np.arange(mel.n_fft) / mel.n_fft
    window: Float32 = (0.5 - 0.5 * np.cos(2 * np.pi * turns)).astype(np.float32)
    return window


def _resample(source: Float32, rate_hz: int, target_hz: int) -> Float32:
    if rate_hz == target_hz:
        return source
    import soxr

    # as librosa.resample(res_type="soxr_hq") calls it, without that function's copies
    wave: Float32 = soxr.resample(source, rate_hz, target_hz, quality="HQ")
    num_samples = math.ceil(len(source) * target_hz / rate_hz)
    return wave[:num_samples] if len(wave) >= num_samples else np.pad(wave, (0, num_samples - len(wave)))


def _read_middle(file: Path, mel: MelConfig) -> tuple[Float32, int, int, int]:
    """Return (mono samples, their rate, the clip's offset once resampled, the whole file's length resampled)."""
    import soundfile

    try:
        if file.is_dir():
            raise UnusableClipError("a folder, not a file")
        if file.stat().st_size == 0:
            raise UnusableClipError("empty file")
        with soundfile.SoundFile(file) as sound:
            num_frames = sound.frames if 0 <= sound.frames < UNKNOWN_FRAMES else _count_frames(sound)
            if num_frames == 0:
                raise UnusableClipError("no samples")
            num_resampled = math.ceil(num_frames * mel.sample_rate_hz / sound.samplerate)
            excerpt = _plan_excerpt(num_frames, sound.samplerate, num_resampled, mel)
            sound.seek(excerpt.start)
            source = sound.read(excerpt.num_frames, dtype="float32", always_2d=True)
            rate_hz = sound.samplerate
    except (FileNotFoundError, NotADirectoryError):
        raise UnusableClipError("no such file") from None
    except (OSError, soundfile.SoundFileError, ValueError) as error:
        raise UnusableClipError(describe_failure(error)) from None
    if len(source) < excerpt.num_frames:
        raise UnusableClipError(f"damaged: {len(source)} of {excerpt.num_frames} samples could be decoded")
    return mix_down(source), rate_hz, excerpt.offset, num_resampled


def describe_failure(error: Exception) -> str:
    """Return in words why a file that is there could not be read or decoded."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    text = getattr(error, "error_string", None) or str(error)
    if text.startswith(NOT_AUDIO):  # the first is what libsndfile says of an .mp3 that holds no sound
        text = "not audio, or damaged"
    return f"cannot be decoded: {text}"


def mix_down(source: Float32) -> Float32:
    """Return the mean of the channels of (frames, channels); NumPy's own mean over such short rows is several times slower."""
    num_channels = source.shape[1]
    if num_channels == 1:
        return source[:, 0]
    mono: Float32 = source[:, 0] + source[:, 1]
    for channel in range(2, num_channels):
        mono += source[:, channel]
    mono /= np.float32(num_channels)
    return mono


def _plan_excerpt(num_frames: int, rate_hz: int, num_resampled: int, mel: MelConfig) -> _Excerpt:
    """Plan to read the middle, beginning where the grids of both rates meet, so that cropping first changes nothing."""
    begin = max(0, (num_resampled - mel.num_samples) // 2)
    common = math.gcd(rate_hz, mel.sample_rate_hz)
    step, resampled_step = rate_hz // common, mel.sample_rate_hz // common
    margin = round(MARGIN_S * mel.sample_rate_hz)
    num_steps = max(0, begin - margin) // resampled_step
    end = math.ceil((begin + mel.num_samples + margin) * rate_hz / mel.sample_rate_hz)
    start = num_steps * step
    return _Excerpt(start, min(end, num_frames) - start, begin - num_steps * resampled_step)


def _count_frames(sound: object) -> int:
    """Decode a stream that does not say how long it is, block by block, and rewind it."""
    count = 0
    while num_read := len(sound.read(BLOCK_FRAMES, dtype="float32")):  # type: ignore[attr-defined]
        count += num_read
    sound.seek(0)  # type: ignore[attr-defined]
    return count
