"""The machine: CPU, cores, memory, /dev/shm and the clock."""

from __future__ import annotations

import ctypes
import os
import re

from packaging.specifiers import SpecifierSet

from fcn4dist.config import BatchPlan, RunConfig
from fcn4dist.doctor.question import GIB, Check, Surroundings, format_bytes
from fcn4dist.doctor.software import is_one_of
from fcn4dist.job.cgroup import cpu_quota, memory_left
from fcn4dist.job.devices import Target, needs_avx512_guard, usable_cores
from fcn4dist.model.memory_estimate import count_tags, estimate_memory

SLOW_ON_AVX512 = SpecifierSet(">=2.9,<2.11")  # their oneDNN 3.10 computes convolutions in reference code
BELOW_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")  # values of ONEDNN_MAX_CPU_ISA
SHM_BYTES = 256 << 20
PROCESS_BYTES = 0.85 * GIB  # Python, MindSpore and its compiled step, before any clip
STA_UNSYNC = 0x0040  # linux/timex.h


def check_cpu(mindspore: str | None, target: Target, around: Surroundings) -> Check:
    """Check for the pair of AVX-512 and a MindSpore that is about 100 times slower on it."""
    if target != "CPU":
        return Check("cpu", "ok", "convolutions run on the NPU")
    if not needs_avx512_guard(around.root / "proc/cpuinfo"):
        return Check("cpu", "ok", "no AVX-512: nothing to guard against")
    if mindspore is None or not is_one_of(mindspore, SLOW_ON_AVX512):
        return Check("cpu", "ok", "AVX-512, which this MindSpore's convolutions take well")
    limit = around.environ.get("ONEDNN_MAX_CPU_ISA", "")
    slow = f"MindSpore {mindspore} is about 100 times slower with it"
    if limit.upper() in BELOW_AVX512:
        return Check("cpu", "ok", f"AVX-512, kept off by ONEDNN_MAX_CPU_ISA={limit} ({slow})")
    if limit:
        found = f"ONEDNN_MAX_CPU_ISA={limit} lets AVX-512 in: {slow}, and fcn4dist leaves your setting alone"
        return Check("cpu", "warning", found, "export ONEDNN_MAX_CPU_ISA=AVX2, or unset it")
    found = f"AVX-512: {slow}; fcn4dist keeps it off by itself, plain scripts need ONEDNN_MAX_CPU_ISA=AVX2"
    return Check("cpu", "ok", found)


def check_cores(target: Target, num_ranks: int, around: Surroundings) -> Check:
    """Check that every rank of this host has a core."""
    cores, quota = len(usable_cores()), cpu_quota(around.root)
    online = os.cpu_count() or cores
    limits = f" of {online} (affinity)" if cores < online else ""
    limits += f", the container's quota is {quota:g}" if quota is not None and quota < cores else ""
    found = f"{cores} cores{limits} for {num_ranks} rank{'s' if num_ranks > 1 else ''}"
    granted = min(cores, quota) if quota is not None else cores
    if granted >= num_ranks:
        return Check("cores", "ok", found)
    if target == "CPU":
        return Check("cores", "warning", f"{found}: they take turns", "ask for fewer --devices, or grant more cores")
    return Check("cores", "warning", f"{found}: data may come late", "grant more cores to this job")


def check_memory(config: RunConfig, target: Target, batches: BatchPlan, num_ranks: int, around: Surroundings) -> Check:
    """Compare the memory that the ranks of this host will take with what is free, container limits included."""
    needed = num_ranks * (estimate_bytes(config, batches) if target == "CPU" else PROCESS_BYTES + GIB)
    free, source = available_memory(around)
    if free is None:
        return Check(
            "memory", "warning", "how much is free cannot be read from /proc/meminfo", "check it with: free -g"
        )
    found = f"{format_bytes(free)} free ({source}), about {format_bytes(needed)} needed by {num_ranks} x "
    found += f"{batches.micro_batch} clips" if target == "CPU" else "1 process"
    if needed <= free:
        return Check("memory", "ok", found)
    fewer = "a smaller train.device_batch (gradients accumulate), fewer --devices, or more memory"
    return Check("memory", "warning", found, fewer)


def estimate_bytes(config: RunConfig, batches: BatchPlan) -> float:
    """Return about how much memory one rank takes on CPU, the process itself included.

    With MindSpore 2.10 the default network peaked at 1.90 GB for 4 clips and 2.71 GB for 8; this says 1.9 and 2.7.
    """
    found = estimate_memory(config.model, config.mel, config.train, batches, count_tags(config), "CPU")
    return PROCESS_BYTES + found.total_bytes


def available_memory(around: Surroundings) -> tuple[float | None, str]:
    """Return the bytes that this process may still take and what limits them: the machine or its control group."""
    free: float | None = None
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", (around.root / "proc/meminfo").read_text(), re.MULTILINE)
        free = int(match[1]) * 1024.0 if match else None
    except OSError:
        pass
    left = memory_left(around.root)
    if left is not None and (free is None or left < free):
        return left, "container or job limit"
    return free, "machine"


def check_shm(around: Surroundings) -> Check:
    """Check the shared memory: containers get 64 MB unless told otherwise."""
    folder = around.dev / "shm"
    try:
        status = os.statvfs(folder)
    except OSError as error:
        return Check("shm", "warning", f"/dev/shm: {error.strerror}", "mount a tmpfs there")
    free = status.f_bavail * status.f_frsize
    if free >= SHM_BYTES:
        return Check("shm", "ok", f"/dev/shm has {format_bytes(free)} free")
    remedy = "docker run --shm-size=2g; in Kubernetes an emptyDir with medium: Memory at /dev/shm"
    return Check(
        "shm", "warning", f"/dev/shm has {format_bytes(free)} free; collectives and data workers use it", remedy
    )


class _Timex(ctypes.Structure):
    """The head of struct timex (linux/timex.h); the rest is left to the kernel."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),  # microseconds
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def read_clock() -> tuple[bool, float] | None:
    """Return whether the kernel's clock is kept by NTP, and its largest error in seconds; None where it does not say."""
    libc, timex = ctypes.CDLL(None, use_errno=True), _Timex()
    if libc.adjtimex(ctypes.byref(timex)) < 0:
        return None
    return not timex.status & STA_UNSYNC, timex.maxerror / 1e6


def check_clock(num_hosts: int, clock: tuple[bool, float] | None) -> Check:
    """Check that this host's clock can be compared with the others' in logs and events."""
    if clock is None:
        return Check("clock", "ok" if num_hosts == 1 else "warning", "whether NTP keeps it is unknown here")
    is_synchronised, error_s = clock
    if is_synchronised:
        return Check("clock", "ok", f"kept by NTP, at most {error_s:.3g} s off")
    if num_hosts == 1:
        return Check("clock", "ok", "not kept by NTP as far as the kernel knows; no matter on one host")
    found = f"not kept by NTP as far as the kernel knows: times in the events of {num_hosts} hosts may contradict"
    return Check("clock", "warning", found, "run chronyd or systemd-timesyncd on every host")
