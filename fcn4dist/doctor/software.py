"""Python, MindSpore, CANN and NumPy: their versions, whether they fit together, and whether MindSpore computes."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

from fcn4dist.ascend.tools import without_own
from fcn4dist.doctor.question import Check, Surroundings
from fcn4dist.job.devices import Target, needs_avx512_guard

PYTHONS = ((3, 10), (3, 12))  # first and last that MindSpore has wheels for and fcn4dist is tested with
MINDSPORES = SpecifierSet(">=2.7.2,<2.11")
NUMPYS = SpecifierSet("<2")
INSTALL = "pip install 'fcn4dist[train]'; on Ascend the MindSpore wheel that fits its CANN"
TRIAL_LIMIT_S = 180.0
TRIAL = """
import sys, time
start = time.perf_counter()
import numpy as np
import mindspore as ms
from mindspore import Tensor, ops
imported = time.perf_counter()
ms.set_device(sys.argv[1])
found = ops.conv2d(Tensor(np.ones((1, 1, 8, 8), np.float32)), Tensor(np.ones((1, 1, 3, 3), np.float32))).asnumpy()
assert found.shape == (1, 1, 6, 6) and (abs(found - 9) < 1e-3).all(), found
print(f"{imported - start:.1f} {time.perf_counter() - imported:.1f}")
"""


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Check:
    """Check the interpreter's version."""
    found = f"{version[0]}.{version[1]}"
    if PYTHONS[0] <= version <= PYTHONS[1]:
        return Check("python", "ok", f"Python {found} ({sys.executable})")
    return Check(
        "python", "error", f"Python {found}; MindSpore needs 3.10 to 3.12", "make an environment with python3.11"
    )


def installed_version(package: str) -> str | None:
    """Return the version of an installed package without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_one_of(version: str, versions: SpecifierSet) -> bool:
    """Return whether a version is among `versions`; release candidates count, what is no version (PEP 440) does not."""
    try:
        return versions.contains(version, prereleases=True)
    except InvalidVersion:  # of older releases of packaging; newer ones answer no
        return False


def check_mindspore(version: str | None) -> Check:
    """Check that MindSpore is installed in a version that fcn4dist knows."""
    if version is None:
        return Check("mindspore", "error", f"not installed for {sys.executable}", INSTALL)
    if is_one_of(version, MINDSPORES):
        return Check("mindspore", "ok", f"MindSpore {version}")
    return Check("mindspore", "error", f"MindSpore {version}; expected 2.7.2 to 2.10", INSTALL)


def check_numpy(version: str | None) -> Check:
    """Check NumPy: 2.x breaks MindSpore's reductions, whatever its metadata allow."""
    if version is None:
        return Check("numpy", "error", f"not installed for {sys.executable}", 'pip install "numpy>=1.26,<2"')
    if is_one_of(version, NUMPYS):
        return Check("numpy", "ok", f"NumPy {version}")
    found = f"NumPy {version}: MindSpore's reductions fail with NumPy 2"
    return Check("numpy", "error", found, 'pip install "numpy>=1.26,<2"')


def check_cann(mindspore: str | None, target: Target, around: Surroundings) -> Check:
    """Check that CANN is there where an NPU is used, in a version that this MindSpore names as its own."""
    found = find_cann(around)
    if found is None:
        if target == "CPU":
            return Check("cann", "ok", "not installed, and not needed on CPU")
        remedy = "install the CANN toolkit and ops for your chip, then source its set_env.sh"
        return Check(
            "cann", "error", "no CANN found (ASCEND_HOME_PATH, ASCEND_TOOLKIT_HOME, /usr/local/Ascend)", remedy
        )
    version, file = found
    supported = supported_cann()
    if not supported or mindspore is None:
        return Check("cann", "ok", f"CANN {version} ({file}); which ones MindSpore {mindspore} takes is unknown here")
    taken = ", ".join(supported)
    if ".".join(version.split(".")[:2]) in supported:
        return Check("cann", "ok", f"CANN {version}; MindSpore {mindspore} takes {taken}")
    message = f"CANN {version} ({file}); MindSpore {mindspore} takes {taken}"
    remedy = "install a matching pair: https://www.mindspore.cn/install"
    return Check("cann", "warning" if target == "CPU" else "error", message, remedy)


def find_cann(around: Surroundings) -> tuple[str, Path] | None:
    """Return CANN's version and the file that says so.

    Up to 8.3 the toolkit stands in ascend-toolkit/latest, from 8.5 in cann; the compiler's version.info gives its own
    number before a colon in older ones: "Version=7.7.0.1.220:8.2.RC1".
    """
    named = [around.environ.get(name) for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")]
    homes = [Path(text) for text in named if text]
    own = Path(around.environ["HOME"]) / "Ascend" if around.environ.get("HOME") else None
    for base in (around.toolkit, own):
        homes += [base / "cann", base / "ascend-toolkit/latest", base / "nnae/latest"] if base else []
    for home in homes:
        for pattern in (
            "*-linux/ascend_toolkit_install.info",
            "ascend_*_install.info",
            "*/version.info",
            "version.info",
        ):
            for file in sorted(home.glob(pattern)):
                if version := _read_cann_version(file):
                    return version, file
    return None


def _read_cann_version(file: Path) -> str | None:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    values = dict(re.findall(r"^\s*(version|version_dir)\s*=\s*(\S+)\s*$", text, re.MULTILINE | re.IGNORECASE))
    lower = {key.lower(): value.rpartition(":")[2] for key, value in values.items()}
    return lower.get("version_dir") or lower.get("version")


def supported_cann(checker: Path | None = None) -> tuple[str, ...]:
    """Return the CANN versions ("8.5") that the installed MindSpore names in its own check; empty when it names none."""
    if checker is None:
        try:
            files = importlib.metadata.files("mindspore") or []
        except importlib.metadata.PackageNotFoundError:
            return ()
        names = [file for file in files if str(file) == "mindspore/run_check/_check_version.py"]
        if not names:
            return ()
        checker = Path(str(names[0].locate()))
    try:
        text = checker.read_text(encoding="utf-8")
    except OSError:
        return ()
    _, _, ascend = text.partition("class AscendEnvChecker")
    match = re.search(r"self\.version\s*=\s*\[([^\]]*)\]", ascend)
    return tuple(re.findall(r"[\"'](\d+\.\d+)[\"']", match[1])) if match else ()


def check_mindspore_runs(target: Target, around: Surroundings, limit_s: float = TRIAL_LIMIT_S) -> Check:
    """Import MindSpore in a process of its own and compute a small convolution on the target."""
    environment = {"GLOG_v": "3", **without_own(around.environ)}
    if target == "CPU" and needs_avx512_guard(around.root / "proc/cpuinfo"):
        environment.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIAL, target],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found = f"importing it and one convolution on {target} took more than {limit_s:g} s"
        return Check("mindspore-runs", "error", found, "look for a hanging device (npu-smi info) or a slow disk")
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        code = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        last = lines[-1].strip() if lines else "no message"
        command = f"{os.path.basename(sys.executable)} -c 'import mindspore'"
        return Check("mindspore-runs", "error", f"{code}: {last}", f"see the whole message: {command}")
    imported, computed = done.stdout.split()[-2:]
    found = f"imported in {imported} s, first convolution on {target} in {computed} s"
    return Check("mindspore-runs", "ok", found)
