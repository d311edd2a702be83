"""A clip's log-mel spectrogram from a .npy file, as ModelZoo's `get_npy` leaves one beside each clip.

ModelZoo's `pre_process_data.py` writes (1, 1, 96, 1366) decibels: float32, or float64 where it padded a short clip. Its
parameters are the defaults of MelConfig; a file does not say which it was made with, so only its shape can be checked.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig
from fcn4dist.data.audio import UnusableClipError

Float32 = NDArray[np.float32]


def load_mel_npy(file: Path, mel: MelConfig) -> Float32:
    """Return the spectrogram in `file`, float32 (mel.n_mels, mel.num_stored_frames); axes of length 1 before these are dropped.

    Raises UnusableClipError with the reason: missing, not a .npy file, of another shape or type, not finite, silent.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a header that Python 2 wrote is as good
            stored = np.lib.format.open_memmap(file, mode="r")  # type: ignore[no-untyped-call]  # refuses objects, and shapes that the file is too short for
    except FileNotFoundError:
        raise UnusableClipError("no such .npy file") from None
    except OSError as error:
        raise UnusableClipError(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:  # ValueError, EOFError, SyntaxError, OverflowError: NumPy parses the header as Python
        raise UnusableClipError(
            f"not a .npy file of numbers: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from None
    expected = (mel.n_mels, mel.num_stored_frames)
    if stored.shape[-2:] != expected or any(length != 1 for length in stored.shape[:-2]):
        raise UnusableClipError(f"shape {stored.shape}, expected {(1, *expected)} or {expected}")
    if stored.dtype.kind != "f":
        raise UnusableClipError(f"numbers of type {stored.dtype}, expected float32")
    with np.errstate(over="ignore"):
        mel_db: Float32 = np.array(stored.reshape(expected), np.float32)
    if not np.isfinite(mel_db).all():
        raise UnusableClipError("holds NaN or infinite values")
    if mel_db.max() == mel_db.min():
        raise UnusableClipError(f"silent: every value is {mel_db.flat[0]:g} dB")
    return mel_db
