"""What this host has to compute with: Ascend devices or CPU cores, and how the cores are divided among ranks."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from fcn4dist.ascend.cann import LIBRARY, find_cann
from fcn4dist.ascend.devices import DeviceNumber, find_devices, list_nodes, number_devices
from fcn4dist.errors import NO_MINDSPORE, DeviceError
from fcn4dist.job.cgroup import cpu_quota

Target = Literal["Ascend", "CPU"]
log = logging.getLogger(__name__)
ROOT = Path("/")
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
    devices: tuple[DeviceNumber, ...]
    shares: tuple[CoreShare, ...]
    avx512_guard: bool  # whether oneDNN must be kept off AVX-512 here (DESIGN 8.6)
    visible: str | None = None  # the workers' ASCEND_RT_VISIBLE_DEVICES; None: unset


def resolve_target(wanted: str, *, environ: Mapping[str, str] | None = None, root: Path = ROOT) -> Target:
    """Turn "auto", "Ascend" or "CPU" into the target that the job uses.

    "auto" is Ascend where both CANN and at least one device are found, else CPU; devices without CANN are logged. Raises
    DeviceError when Ascend is asked for by name and not there; the message lists what is missing.
    """
    if wanted == "CPU":
        return "CPU"
    if wanted not in ("auto", "Ascend"):
        raise DeviceError(f"launch.device_target: {wanted!r}; expected auto, Ascend or CPU")
    if wanted == "auto" and not list_nodes(root / "dev"):
        return "CPU"
    missing = missing_for_ascend(environ, root=root)
    if not missing:
        return "Ascend"
    if wanted == "auto":
        log.warning("this host has NPUs, and the job runs on CPU: missing for Ascend: %s", "; ".join(missing))
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


def missing_for_ascend(environ: Mapping[str, str] | None = None, *, root: Path = ROOT) -> list[str]:
    """Return what keeps this machine from using Ascend, in words; empty when nothing does."""
    environ = os.environ if environ is None else environ
    missing = []
    cann = find_cann(environ, root)
    if cann is None:
        missing.append(
            f"CANN (no {LIBRARY} on the library path, no {root / 'usr/local/Ascend/cann'}, nor ascend-toolkit)"
        )
    elif cann.problem:
        missing.append(f"CANN {cann.version or ''} in {cann.home} cannot be loaded ({cann.problem}): {cann.remedy}")
    if not list_nodes(root / "dev"):
        missing.append(f"an NPU (no {root / 'dev'}/davinci0, davinci1, ...)")
    return missing


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


def survey_host(
    target: Target,
    num_ranks: int,
    *,
    bind_cores: bool,
    imagined: bool = False,
    environ: Mapping[str, str] | None = None,
) -> HostDevices:
    """Find the devices and cores of `num_ranks` ranks on this host, as `environ` (this process's own) lets them be seen.

    `imagined` (a dry run) takes devices 0 .. n-1 for granted. Raises DeviceError when there are fewer NPUs than ranks.
    """
    shares = divide_cores(usable_cores(), num_ranks, quota=cpu_quota(), bind=bind_cores and target == "CPU")
    guard = target == "CPU" and needs_avx512_guard()
    if target == "CPU" or imagined:
        return HostDevices(target, number_devices(num_ranks), shares, avx512_guard=guard)
    found = find_devices(os.environ if environ is None else environ)
    if len(found.physical_ids) < num_ranks:
        listed = list(found.physical_ids)
        raise DeviceError(f"launch.devices: {num_ranks} asked, this host has {len(listed)} NPUs: {listed}")
    return HostDevices(target, found.numbers[:num_ranks], shares, guard, found.variable)
