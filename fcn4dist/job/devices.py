"""What this host has to compute with: Ascend devices or CPU cores, and how the cores are divided among ranks."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from fcn4dist.errors import NO_MINDSPORE, DeviceError
from fcn4dist.job.cgroup import cpu_quota

Target = Literal["Ascend", "CPU"]
TOOLKIT = Path("/usr/local/Ascend")  # where the CANN packages install themselves
DEV = Path("/dev")
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class CoreShare:
    """The cores that one rank may use."""

    cores: tuple[int, ...]  # logical core numbers to pin to; empty: not pinned
    num_threads: int  # of oneDNN, OpenMP and BLAS


@dataclass(frozen=True)
class HostDevices:
    """What the ranks of this host run on, one entry a rank."""

    target: Target
    devices: tuple[int, ...]  # physical ids on Ascend; 0 .. n-1 on CPU
    shares: tuple[CoreShare, ...]
    avx512_guard: bool  # whether oneDNN must be kept off AVX-512 here (DESIGN 8.6)


def resolve_target(wanted: str, *, toolkit: Path = TOOLKIT, dev: Path = DEV) -> Target:
    """Turn "auto", "Ascend" or "CPU" into the target that the job uses.

    "auto" is Ascend where both its runtime and at least one device are found, else CPU. Raises DeviceError when Ascend
    is asked for by name and not there; the message lists what is missing.
    """
    if wanted == "CPU":
        return "CPU"
    if wanted not in ("auto", "Ascend"):
        raise DeviceError(f"launch.device_target: {wanted!r}; expected auto, Ascend or CPU")
    missing = missing_for_ascend(toolkit=toolkit, dev=dev)
    if not missing:
        return "Ascend"
    if wanted == "auto":
        return "CPU"
    raise DeviceError(
        "launch.device_target: Ascend is not usable on this machine; missing: "
        + "; ".join(missing)
        + ". Install the driver and CANN, or use --device-target CPU"
    )


def require_mindspore() -> None:
    """Raise DeviceError where MindSpore is not installed, without importing it."""
    if importlib.util.find_spec("mindspore") is None:
        raise DeviceError(NO_MINDSPORE)


def missing_for_ascend(*, toolkit: Path = TOOLKIT, dev: Path = DEV) -> list[str]:
    """Return what keeps this machine from using Ascend, in words; empty when nothing does."""
    missing = []
    if not _has_ascend_runtime(toolkit):
        missing.append(
            "the CANN runtime (no libascendcl on the library path, ASCEND_TOOLKIT_HOME names no folder, "
            f"no {toolkit}; did you source set_env.sh?)"
        )
    if not _davinci_ids(dev):
        missing.append(f"an NPU (no {dev}/davinci0, {dev}/davinci1, ...)")
    return missing


def _has_ascend_runtime(toolkit: Path) -> bool:
    home = os.environ.get("ASCEND_TOOLKIT_HOME")
    named = home is not None and Path(home).is_dir()
    return named or toolkit.is_dir() or ctypes.util.find_library("ascendcl") is not None


def _davinci_ids(dev: Path) -> list[int]:
    return sorted(int(m[1]) for path in dev.glob("davinci*") if (m := re.fullmatch(r"davinci(\d+)", path.name)))


def list_ascend_devices(environ: Mapping[str, str], *, dev: Path = DEV) -> tuple[int, ...]:
    """Return the physical ids of the NPUs that this process may use, ascending.

    ASCEND_RT_VISIBLE_DEVICES ("0,1" or "0-3"), where set, narrows them; workers are started without it, since their
    DEVICE_ID is a physical id. Raises DeviceError when the variable is malformed or names an NPU that is not there.
    """
    present = _davinci_ids(dev)
    visible = environ.get("ASCEND_RT_VISIBLE_DEVICES", "").strip()
    if not visible:
        return tuple(present)
    chosen = parse_numbers(visible, where="ASCEND_RT_VISIBLE_DEVICES")
    if absent := [device for device in chosen if device not in present]:
        raise DeviceError(f"ASCEND_RT_VISIBLE_DEVICES={visible}: device {absent[0]} is not among {present}")
    return tuple(chosen)


def parse_numbers(text: str, *, where: str) -> list[int]:
    """Parse "0,2-4" into [0, 2, 3, 4], ascending and without repeats; raises DeviceError naming `where`."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise DeviceError(f"{where}: {part!r} in {text!r}; expected numbers and ranges such as 0,2-4")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(numbers)


def usable_cores() -> tuple[int, ...]:
    """Return the logical cores that this process may run on, ascending."""
    return tuple(sorted(psutil.Process().cpu_affinity()))


def divide_cores(
    cores: Sequence[int], num_ranks: int, *, quota: float | None = None, bind: bool = True
) -> tuple[CoreShare, ...]:
    """Divide `cores` among the ranks of this host: contiguous shares whose sizes differ by at most one.

    With more ranks than cores the ranks take the cores in turn, one thread each. A `quota` below the number of cores
    (a container's limit on CPU time) lowers the threads, not the cores. `bind` False: nobody is pinned.
    """
    num_cores = len(cores)
    granted = max(1, int(min(num_cores, quota))) if quota else num_cores
    shares = []
    for rank in range(num_ranks):
        if num_ranks >= num_cores:
            own: Sequence[int] = [cores[rank % num_cores]]
        else:
            own = cores[rank * num_cores // num_ranks : (rank + 1) * num_cores // num_ranks]
        threads = min(len(own), max(1, granted // num_ranks)) if granted < num_cores else len(own)
        shares.append(CoreShare(tuple(own) if bind else (), threads))
    return tuple(shares)


def needs_avx512_guard(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this CPU has AVX-512, where MindSpore 2.9 and 2.10 are about 100 times slower (DESIGN 8.6)."""
    try:
        return " avx512f" in cpuinfo.read_text()
    except OSError:
        return False


def survey_host(target: Target, num_ranks: int, *, bind_cores: bool, imagined: bool = False) -> HostDevices:
    """Find the devices and cores of `num_ranks` ranks on this host.

    `imagined` (a dry run) takes devices 0 .. n-1 for granted. Raises DeviceError when there are fewer NPUs than ranks.
    """
    shares = divide_cores(usable_cores(), num_ranks, quota=cpu_quota(), bind=bind_cores and target == "CPU")
    devices = tuple(range(num_ranks))
    if target == "Ascend" and not imagined:
        found = list_ascend_devices(os.environ)
        if len(found) < num_ranks:
            raise DeviceError(f"launch.devices: {num_ranks} asked, this host has {len(found)} NPUs: {list(found)}")
        devices = found[:num_ranks]
    return HostDevices(target, devices, shares, avx512_guard=target == "CPU" and needs_avx512_guard())
