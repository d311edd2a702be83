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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig

Float32 = NDArray[np.float32]

BLOCK_SPECTRA = 128  # whose arrays stay in the cache: a whole clip's are 3 MB each, new pages from the system each time


def log_mel(wave: Float32, mel: MelConfig, bank: Any = None) -> Float32:
    """Return the log-mel spectrogram in dB, float32 (mel.n_mels, 1 + len(wave) // mel.hop_samples).

    `bank`: what `filter_bank(mel)` returned, in a process that should not import librosa for it.
    Equal to librosa's `melspectrogram` followed by `amplitude_to_db` or `power_to_db` (see above) within 0.001 dB.
    """
    from scipy import fft
    from scipy.signal.windows import hann

    bank = filter_bank(mel) if bank is None else bank
    window = hann(mel.n_fft, sym=False).astype(np.float32)
    padded = np.pad(wave, mel.n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, mel.n_fft)[:: mel.hop_samples]
    frames = frames[: 1 + len(wave) // mel.hop_samples]
    mel_power = np.empty((mel.n_mels, len(frames)), np.float32)
    for start in range(0, len(frames), BLOCK_SPECTRA):
        part = slice(start, start + BLOCK_SPECTRA)
        spectrum = fft.rfft(frames[part] * window, axis=1, overwrite_x=True)  # complex64 (block, 1 + n_fft / 2)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        mel_power[:, part] = bank @ power.T  # sparse: a band sees a few of the 257 bins
    if mel.db == "amplitude":
        mel_db = 20.0 * np.log10(np.maximum(mel_power, np.float32(1e-5)))
    else:
        mel_db = 10.0 * np.log10(np.maximum(mel_power, np.float32(1e-10)))
    floored: Float32 = np.maximum(mel_db, mel_db.max() - 80)
    return floored


@functools.lru_cache(maxsize=4)
def filter_bank(mel: MelConfig) -> Any:
    """Return librosa's filters as a sparse matrix (n_mels, 1 + n_fft / 2).

    Computed once and handed to worker processes: importing librosa takes a process a second and 130 MB (numba).
    """
    from librosa.filters import mel as mel_filters
    from scipy.sparse import csr_matrix

    return csr_matrix(mel_filters(sr=mel.sample_rate_hz, n_fft=mel.n_fft, n_mels=mel.n_mels))
