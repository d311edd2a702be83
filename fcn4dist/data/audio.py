"""Windows over a whole piece of any length: decoded, resampled and cut block by block, in memory that does not grow.

A window is as long as a training clip (mel.clip_s). The last one ends where the piece ends, so nothing is left out. A piece
of one window is the clip that `load_wave` makes of it: a shorter one gets zeros at its end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcn4dist.config import MelConfig
from fcn4dist.data.mel import SILENT_PEAK, UNKNOWN_FRAMES, Float32, UnusableClipError, crop_or_pad, describe_failure

BLOCK_SAMPLES = 1 << 18  # numbers decoded at once, over all channels: 1 MB


@dataclass(frozen=True)
class Window:
    """One window of a piece."""

    start_s: float
    end_s: float  # where its sound ends: before start_s + mel.clip_s only in a piece that is shorter
    wave: Float32  # (mel.num_samples,), full scale is 1

    @property
    def is_silent(self) -> bool:
        """Whether training would have refused it: networks have never heard silence."""
        return float(np.abs(self.wave).max()) < SILENT_PEAK


def iter_windows(file: Path, mel: MelConfig, hop_s: float) -> Iterator[Window]:
    """Yield the windows of `file`, mel.clip_s long, one every `hop_s`.

    Any format, rate and number of channels that libsndfile reads. Raises UnusableClipError with the reason: missing,
    empty, damaged, not finite, shorter than one frame. What was yielded before is then not the whole piece.
    """
    size, hop, rate_hz = mel.num_samples, max(1, round(hop_s * mel.sample_rate_hz)), mel.sample_rate_hz
    rest = mel.n_fft  # less than this at the end is not worth a window
    kept = np.zeros(0, np.float32)  # the last samples of the piece so far, and the block that came in
    num_samples, start, heard = 0, 0, 0  # start: of the next window; heard: end of the last one
    for block in iter_blocks(file, rate_hz):
        kept = np.concatenate([kept, block])
        num_samples += len(block)
        while start + size + rest <= num_samples:
            yield _cut(kept, num_samples, start, mel)
            heard, start = start + size, start + hop
        kept = kept[-(size + rest) :]
    if num_samples == 0:
        raise UnusableClipError("no samples")
    if num_samples < mel.n_fft:
        raise UnusableClipError(
            f"too short: {num_samples / rate_hz:.3f} s, {num_samples} samples at {rate_hz} Hz; "
            f"expected {mel.n_fft} or more, one frame of the spectrogram"
        )
    if heard == 0:  # one window: just the clip that training takes of such a piece
        begin = max(0, num_samples - size) // 2
        yield Window(begin / rate_hz, min(num_samples, begin + size) / rate_hz, crop_or_pad(kept, size))
        return
    while start + size <= num_samples:
        yield _cut(kept, num_samples, start, mel)
        heard, start = start + size, start + hop
    if num_samples - heard >= rest:
        yield _cut(kept, num_samples, num_samples - size, mel)


def _cut(kept: Float32, num_samples: int, start: int, mel: MelConfig) -> Window:
    """Return the window at sample `start` of a piece of which `kept` are the last samples so far."""
    begin, rate_hz = start - (num_samples - len(kept)), mel.sample_rate_hz
    return Window(start / rate_hz, (start + mel.num_samples) / rate_hz, kept[begin : begin + mel.num_samples])


def iter_blocks(file: Path, rate_hz: int) -> Iterator[Float32]:
    """Yield the piece as blocks of mono samples at `rate_hz`; joined, they are what `load_wave` resamples at once.

    Raises UnusableClipError as `iter_windows` does.
    """
    import soundfile

    try:
        if file.is_dir():
            raise UnusableClipError("a folder, not a file")
        if file.stat().st_size == 0:
            raise UnusableClipError("empty file")
        with _quiet_stderr():  # libmpg123 has its own lines for each header that it cannot read
            opened = soundfile.SoundFile(file)
        with opened as sound:
            yield from _iter_resampled(sound, rate_hz)
    except (FileNotFoundError, NotADirectoryError):
        raise UnusableClipError("no such file") from None
    except (OSError, soundfile.SoundFileError, ValueError) as error:
        raise UnusableClipError(describe_failure(error)) from None


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what C libraries write to stderr; only for a process that has one thread at work."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _iter_resampled(sound: Any, rate_hz: int) -> Iterator[Float32]:
    from soxr import ResampleStream  # librosa's own resampler

    resampler = None
    if sound.samplerate != rate_hz:
        resampler = ResampleStream(sound.samplerate, rate_hz, 1, dtype="float32", quality="HQ")
    num_decoded, block_frames = 0, max(1, BLOCK_SAMPLES // sound.channels)
    while num_read := len(block := sound.read(block_frames, dtype="float32", always_2d=True)):
        num_decoded += num_read
        mono: Float32 = block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise UnusableClipError("holds NaN or infinite samples")
        yield mono if resampler is None else resampler.resample_chunk(mono)
    if 0 <= sound.frames < UNKNOWN_FRAMES and num_decoded < sound.frames:
        raise UnusableClipError(f"damaged: {num_decoded} of {sound.frames} samples could be decoded")
    if resampler is not None and num_decoded:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
