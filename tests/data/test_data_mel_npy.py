"""A clip's .npy file: what ModelZoo leaves is read, anything else is skipped with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcn4dist.config import MelConfig
from fcn4dist.data.audio import UnusableClipError
from fcn4dist.data.mel_npy import load_mel_npy

MEL = MelConfig()
DB = np.random.default_rng(0).uniform(-60, 20, (96, 1366)).astype(np.float32)


@pytest.mark.parametrize("axes", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4"])
def test_what_modelzoo_writes_is_read(tmp_path: Path, axes: int, dtype: str) -> None:
    np.save(tmp_path / "clip.npy", DB[(None,) * axes].astype(dtype))
    found = load_mel_npy(tmp_path / "clip.npy", MEL)
    assert (found.dtype, found.shape) == (np.float32, (96, 1366))
    np.testing.assert_array_equal(found, DB)


@pytest.mark.filterwarnings("error")
def test_what_python_2_wrote_is_read_without_a_word(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (96L, 1366L), }".ljust(117) + b"\n"
    (tmp_path / "clip.npy").write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + DB.tobytes())
    np.testing.assert_array_equal(load_mel_npy(tmp_path / "clip.npy", MEL), DB)


def test_columns_first_is_no_matter(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", np.asfortranarray(DB))
    np.testing.assert_array_equal(load_mel_npy(tmp_path / "clip.npy", MEL), DB)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (DB.T, r"shape \(1366, 96\), expected \(1, 96, 1366\) or \(96, 1366\)"),
        (DB[:, :1365], r"shape \(96, 1365\)"),
        (np.stack([DB, DB]), r"shape \(2, 96, 1366\)"),
        (DB[0], r"shape \(1366,\)"),
        (np.float32(3), r"shape \(\)"),
        (DB.astype(np.int16), "numbers of type int16, expected float32"),
        (DB.astype(np.complex64), "type complex64"),
        (np.where(DB > 19.9, np.nan, DB), "NaN or infinite"),
        (DB.astype(np.float64) * 1e300, "NaN or infinite"),
        (np.full_like(DB, -100), "silent: every value is -100 dB"),
        (np.array([[None] * 1366] * 96), "not a .npy file of numbers"),
    ],
)
def test_another_array_is_skipped_with_its_reason(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "clip.npy", array)
    with pytest.raises(UnusableClipError, match=message):
        load_mel_npy(tmp_path / "clip.npy", MEL)


def test_a_damaged_file_is_skipped_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "clip.npy"
    with pytest.raises(UnusableClipError, match=r"no such \.npy file"):
        load_mel_npy(file, MEL)
    np.save(file, DB)
    whole = file.read_bytes()
    np.savez(tmp_path / "zip.npz", DB)
    header = whole.replace(b"(96, 1366)", b"(10**9, 9)")
    endless = whole.replace(b"(96, 1366), }", b"(99999999,), }")
    for content in (b"", b"RIFF", whole[:40], whole[:-1], header, endless, (tmp_path / "zip.npz").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(UnusableClipError, match=r"not a \.npy file of numbers"):
            load_mel_npy(file, MEL)
    file.unlink()
    file.mkdir()
    with pytest.raises(UnusableClipError, match="cannot be read: Is a directory"):
        load_mel_npy(file, MEL)
