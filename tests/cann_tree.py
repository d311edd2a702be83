"""A CANN in a folder whose library the loader really loads: the C library's mathematics under CANN's name."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path


def install_cann(home: Path, version: str = "8.5.0", *, is_whole: bool = True) -> Path:
    """Make a tree of CANN in `home` and return the folder for LD_LIBRARY_PATH; not `is_whole`: its library is damaged."""
    info = home / "aarch64-linux/ascend_toolkit_install.info"
    info.parent.mkdir(parents=True)
    info.write_text(f"package_name=Ascend-cann-toolkit\nversion={version}\narch=aarch64\n")
    (home / "set_env.sh").touch()
    folder = home / "lib64"
    folder.mkdir()
    if is_whole:
        shutil.copy(_mathematics(), folder / "libascendcl.so")
    else:
        (folder / "libascendcl.so").write_bytes(b"\x7fELF, and then the disk was full")
    return folder


def _mathematics() -> Path:
    ctypes.CDLL("libm.so.6")
    maps = Path("/proc/self/maps").read_text().splitlines()
    return Path(next(line.split()[-1] for line in maps if "/libm.so" in line or "/libm-" in line))
