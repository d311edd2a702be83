"""Python, MindSpore, CANN and NumPy: their versions, whether they fit together, and whether MindSpore computes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from fcn4dist.ascend.cann import VARIABLES, find_cann
from fcn4dist.ascend.error_codes import explain_error
from fcn4dist.ascend.tools import without_own
from fcn4dist.doctor.question import Check, Status, Surroundings
from fcn4dist.errors import pip_install
from fcn4dist.job.devices import Target, needs_avx512_guard

PYTHONS = ((3, 10), (3, 12))  # first and last that MindSpore has wheels for and fcn4dist is tested with
MINDSPORES = SpecifierSet(">=2.7.2,<2.11")
NUMPYS = SpecifierSet("<2")
ANY = SpecifierSet()
PAIRS = {
    "2.7.0": "8.2.RC1",
    "2.7.1": "8.3.RC1",
    "2.7.2": "8.5.0",
    "2.8.0": "8.5.0",
    "2.9.0": "9.0.0",
}  # mindspore.cn/versions
INSTALL = f"{pip_install('train')}; on Ascend 'fcn4dist[train,ascend]', and the MindSpore that fits its CANN"
TRIAL_LIMIT_S = 180.0
GLIBC = Version("2.28")
CANN_MODULES = (
    "hccl",
    "te",
    "tbe",
)  # of CANN itself: init() asks for hccl, MindSpore's start for te, the compiler for tbe
LIBRARIES = ("sympy", "decorator", "cffi", "attr", "pathlib2", "absl", "requests", "psutil", "scipy", "yaml")
IMPORTS = """
import importlib, sys
for name in sys.argv[1:]:
    print("try", name, flush=True)
    try:
        importlib.import_module(name)
    except BaseException as error:
        print("bad", name, f"{type(error).__name__}: {error}".replace(chr(10), " "), flush=True)
"""
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


def check_cann(mindspore: str | None, target: Target, around: Surroundings, wheel: Path | None = None) -> Check:
    """Check that CANN can be loaded where an NPU is used, in a version that this MindSpore was made with or names as its own.

    `wheel`: the folder of the installed MindSpore; another one in tests.
    """
    cann = find_cann(around.environ, around.root)
    if cann is None:
        if target == "CPU":
            return Check("cann", "ok", "not installed, and not needed on CPU")
        found = f"no CANN found ({', '.join(VARIABLES)}, /usr/local/Ascend)"
        return Check("cann", "error", found, "install CANN's toolkit and ops for your chip, then source its set_env.sh")
    serious: Status = "warning" if target == "CPU" else "error"
    said = f"CANN {cann.version or 'of unknown version'} ({cann.source})"
    if cann.problem:
        return Check("cann", serious, f"{said} cannot be loaded: {cann.problem}", cann.remedy)
    wheel = find_wheel() if wheel is None else wheel
    listed, built = (supported_cann(wheel), custom_operators_cann(wheel)) if wheel else ((), None)
    release = ".".join((cann.version or "").split(".")[:2])
    tested = PAIRS.get(Version(mindspore).base_version) if mindspore and is_one_of(mindspore, ANY) else None
    if cann.version is None or not (listed or built or tested):
        return Check("cann", "ok", f"{said}; which ones MindSpore {mindspore} takes is unknown here")
    made_for = " and ".join(dict.fromkeys(version for version in (tested, built) if version))
    if any(version and release == ".".join(version.split(".")[:2]) for version in (tested, built)):
        return Check("cann", "ok", f"{said}, which MindSpore {mindspore} was made for")
    remedy = f"install CANN {made_for or ' or '.join(listed)}: https://www.mindspore.cn/install"
    if release in listed:
        found = f"{said}; MindSpore {mindspore} takes it, but was made for {made_for}: its own operators (AllFinite) are left out"
        return Check("cann", "warning", found, remedy)
    return Check("cann", serious, f"{said}; MindSpore {mindspore} takes {', '.join(listed) or made_for}", remedy)


def find_wheel() -> Path | None:
    """Return the folder of the installed MindSpore without importing it."""
    found = importlib.util.find_spec("mindspore")
    return None if found is None or found.origin is None else Path(found.origin).parent


def supported_cann(wheel: Path) -> tuple[str, ...]:
    """Return the CANN releases ("8.5") that MindSpore names in its own check; empty when it names none."""
    try:
        text = (wheel / "run_check/_check_version.py").read_text(encoding="utf-8")
    except OSError:
        return ()
    _, _, ascend = text.partition("class AscendEnvChecker")
    match = re.search(r"self\.version\s*=\s*\[([^\]]*)\]", ascend)
    return tuple(re.findall(r"[\"'](\d+\.\d+)[\"']", match[1])) if match else ()


def custom_operators_cann(wheel: Path) -> str | None:
    """Return the CANN version ("9.1.0") that MindSpore's own operators were compiled with; None where it does not say."""
    try:
        text = (wheel / "lib/plugin/ascend/custom_ascendc_910b/version.info").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"=\s*(\d[\w.]*)", text)
    return match[1] if match else None


def check_libc(machine: str | None = None, version: str | None = None) -> Check:
    """Check glibc: the wheels for aarch64, of SciPy, soxr, ONNX Runtime and others, are built for 2.28."""
    machine, version = machine or platform.machine(), version or platform.libc_ver()[1]
    said = f"glibc {version or 'unknown'} on {machine}"
    if machine == "aarch64" and re.fullmatch(r"\d+(\.\d+)+", version) and Version(version) < GLIBC:
        remedy = "use a newer system or container: openEuler 20.03, Ubuntu 20.04, Debian 10 or later"
        return Check("libc", "warning", f"{said}: pip finds no wheels of SciPy, soxr, ONNX Runtime and others", remedy)
    return Check("libc", "ok", said)


def check_ascend_modules(around: Surroundings, limit_s: float = TRIAL_LIMIT_S) -> Check:
    """Import, in the worker's interpreter and a process of its own, what MindSpore and CANN import when a job runs."""
    name, modules = "ascend-modules", (*CANN_MODULES, *LIBRARIES)
    done = _ask_interpreter(IMPORTS, modules, without_own(around.environ), limit_s)
    if done is None:
        return Check(
            name, "error", f"importing {', '.join(modules)} took more than {limit_s:g} s", "see the disk of CANN"
        )
    failed: dict[str, str] = {}
    tried = [line.partition(" ") for line in done.stdout.splitlines() if line.startswith(("try ", "bad "))]
    for word, _, rest in tried:
        if word == "bad":
            module, _, reason = rest.partition(" ")
            failed[module] = reason
    if done.returncode:
        failed[tried[-1][2] if tried else modules[0]] = _how_ended(done)
    wanted = []
    if own := [module for module in CANN_MODULES if module in failed]:
        wanted.append(f"source CANN's set_env.sh, or pip install its {' and '.join(own)} wheels (lib64/*.whl)")
    if any(module not in CANN_MODULES for module in failed):
        wanted.append(pip_install("ascend"))
    if failed:
        found = "; ".join(f"{module}: {reason}" for module, reason in failed.items())
        return Check(name, "error", f"cannot be imported: {found}", ", and ".join(wanted))
    if shutil.which("g++", path=around.environ.get("PATH", os.defpath)) is None:
        return Check(name, "warning", "all imported; no g++ on PATH, which CANN may call", "apt or yum install g++")
    return Check(name, "ok", f"{', '.join(modules)} can be imported")


def _ask_interpreter(
    code: str, arguments: Sequence[str], environment: Mapping[str, str], limit_s: float
) -> subprocess.CompletedProcess[str] | None:
    """Run `code` with the worker's interpreter; None: it took too long."""
    try:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def _how_ended(done: subprocess.CompletedProcess[str]) -> str:
    """Return how a process failed: its signal or exit code, and its last words."""
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    code = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    return f"{code}: {lines[-1].strip() if lines else 'no message'}"


def check_mindspore_runs(target: Target, around: Surroundings, limit_s: float = TRIAL_LIMIT_S) -> Check:
    """Import MindSpore in a process of its own and compute a small convolution on the target."""
    environment = {"GLOG_v": "3", **without_own(around.environ)}
    if target == "CPU" and needs_avx512_guard(around.root / "proc/cpuinfo"):
        environment.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    done = _ask_interpreter(TRIAL, [target], environment, limit_s)
    if done is None:
        found = f"importing it and one convolution on {target} took more than {limit_s:g} s"
        return Check("mindspore-runs", "error", found, "look for a hanging device (npu-smi info) or a slow disk")
    if done.returncode != 0:
        meaning = explain_error(done.stderr) if target == "Ascend" else None
        command = f"see the whole message: {os.path.basename(sys.executable)} -c 'import mindspore'"
        return Check("mindspore-runs", "error", _how_ended(done), str(meaning or command))
    imported, computed = done.stdout.split()[-2:]
    found = f"imported in {imported} s, first convolution on {target} in {computed} s"
    return Check("mindspore-runs", "ok", found)
