"""CANN, Ascend's toolkit: where it stands, which version it is, and whether a process that is started here can load it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.ascend.tools import without_own

LIBRARY = "libascendcl.so"  # MindSpore's Ascend plugin is linked against it: the loader finds it, or MindSpore fails
VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")  # of set_env.sh
TREES = ("cann", "ascend-toolkit/latest", "nnae/latest")  # from 8.5 on; before; without the compiler
VERSION_FILES = ("*-linux/ascend_toolkit_install.info", "ascend_*_install.info", "*/version.info", "version.info")
LIMIT_S = 30.0  # for the loader: libraries may lie on a slow disk
LOAD = f"""
import ctypes, sys
try:
    ctypes.CDLL("{LIBRARY}")
except OSError as error:
    sys.exit(str(error))
lines = [line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/{LIBRARY}" in line]
print(*lines[:1])
"""


@dataclass(frozen=True)
class Cann:
    """An installed CANN."""

    home: Path  # the folder that has lib64, or the library's own where it stands in no tree
    version: str | None  # "8.5.0", "8.2.RC1"; None where no file says it
    source: Path  # the file that says the version, else `home`
    problem: str = ""  # why a process started here cannot load LIBRARY; empty: it can

    @property
    def remedy(self) -> str:
        """What makes the library loadable."""
        scripts = [folder / "set_env.sh" for folder in (self.home, self.home.parent)]
        return f"source {next((script for script in scripts if script.is_file()), scripts[0])}"


def find_cann(environ: Mapping[str, str], root: Path = Path("/")) -> Cann | None:
    """Return the CANN of this host; None where there is none.

    The one that the loader finds counts, since MindSpore takes it; else what the variables of set_env.sh name, else the usual
    folders. A process with `environ` tries to load it. `root`: another root folder, for tests.
    """
    library, problem = _load(environ)
    if library is not None:
        home = _home_of(library)
        return Cann(home, *_find_version(home))
    for home in _iter_homes(environ, root):
        version, source = _find_version(home)
        if version is not None or any(home.glob(f"*/{LIBRARY}")):
            return Cann(home, version, source, problem)
    return None


def find_cann_version(environ: Mapping[str, str]) -> str | None:
    """Return the version of this host's CANN; None where there is none, or none that says it."""
    cann = find_cann(environ)
    return None if cann is None else cann.version


def _load(environ: Mapping[str, str]) -> tuple[Path | None, str]:
    """Return the library that a process of `environ` loads, or why it loads none."""
    command = [sys.executable, "-I", "-S", "-c", LOAD]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            env=without_own(environ),
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"{LIBRARY} was not loaded within {LIMIT_S:g} s"
    if done.returncode < 0:
        return None, f"loading {LIBRARY} ends in signal {-done.returncode}"
    if done.returncode > 0:
        return None, (done.stderr.strip().splitlines() or ["the loader says nothing"])[-1]
    found = done.stdout.strip()
    return Path(found) if found else None, ""


def _home_of(library: Path) -> Path:
    """Return the tree of a library: HOME/lib64/... or, behind the link of that name, HOME/aarch64-linux/lib64/..."""
    folder = library.parent
    if folder.name != "lib64":
        return folder
    return folder.parent.parent if folder.parent.name.endswith("-linux") else folder.parent


def _iter_homes(environ: Mapping[str, str], root: Path) -> Iterator[Path]:
    yield from (Path(environ[name]) for name in VARIABLES if environ.get(name))
    bases = [root / "usr/local/Ascend"]
    if environ.get("HOME"):
        bases.append(Path(environ["HOME"]) / "Ascend")
    yield from (base / tree for base in bases for tree in TREES)


def _find_version(home: Path) -> tuple[str | None, Path]:
    for pattern in VERSION_FILES:
        for file in sorted(home.glob(pattern)):
            if version := _read_version(file):
                return version, file
    return None, home


def _read_version(file: Path) -> str | None:
    """Return the version that a file of CANN names.

    The compiler's version.info gives its own number before a colon in older ones: "Version=7.7.0.1.220:8.2.RC1".
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    values = dict(re.findall(r"^\s*(version|version_dir)\s*=\s*(\S+)\s*$", text, re.MULTILINE | re.IGNORECASE))
    lower = {key.lower(): value.rpartition(":")[2] for key, value in values.items()}
    return lower.get("version_dir") or lower.get("version")
