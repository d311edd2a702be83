"""CPU, cores, memory, shared memory and clock of machines that stand in a folder."""

from __future__ import annotations

import os

import pytest
from fake_machine import FakeMachine

from fcn4dist.config import BatchPlan, RunConfig, build_config
from fcn4dist.doctor.machine import (
    available_memory,
    check_clock,
    check_cores,
    check_cpu,
    check_memory,
    check_shm,
    estimate_bytes,
    read_clock,
)

GIB = 1 << 30
AVX512 = "flags\t\t: fpu sse2 avx2 avx512f avx512dq\n"


@pytest.mark.parametrize(
    ("version", "limit", "status", "words"),
    [
        ("2.10.0", None, "ok", "fcn4dist keeps it off by itself"),
        ("2.9.0", "AVX2", "ok", "kept off by ONEDNN_MAX_CPU_ISA=AVX2"),
        ("2.9.0", "AVX512_CORE", "warning", "lets AVX-512 in"),
        ("2.8.0", None, "ok", "take well"),
    ],
)
def test_avx512(machine: FakeMachine, version: str, limit: str | None, status: str, words: str) -> None:
    machine.write("proc/cpuinfo", AVX512)
    if limit:
        machine.environ["ONEDNN_MAX_CPU_ISA"] = limit
    check = check_cpu(version, "CPU", machine.around)
    assert (check.status, words in check.message) == (status, True), check


def test_no_avx512_needs_no_guard(machine: FakeMachine) -> None:
    machine.write("proc/cpuinfo", "flags\t\t: fpu sse2 avx2\n")
    assert "nothing to guard" in check_cpu("2.10.0", "CPU", machine.around).message


def test_a_quota_below_the_ranks_is_a_warning(machine: FakeMachine) -> None:
    machine.write("proc/self/mountinfo", "31 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n")
    machine.write("proc/self/cgroup", "0::/slurm/job_7\n")
    machine.write("sys/fs/cgroup/slurm/job_7/cpu.max", "50000 100000\n")
    check = check_cores("CPU", 1, machine.around)
    assert (check.status, "quota is 0.5" in check.message) == ("warning", True)
    machine.write("sys/fs/cgroup/slurm/job_7/cpu.max", "max 100000\n")
    assert check_cores("CPU", 1, machine.around).status == "ok"
    assert check_cores("CPU", len(os.sched_getaffinity(0)) + 1, machine.around).status == "warning"


@pytest.mark.parametrize(("clips", "measured"), [(4, 1948), (8, 2774)])
def test_the_estimate_is_near_what_was_measured(clips: int, measured: int) -> None:
    """Peak resident MB of a process that took two Adam steps of the default network with MindSpore 2.10."""
    assert 0.95 * measured < estimate_bytes(RunConfig(), BatchPlan(clips, 1)) / (1 << 20) < 1.15 * measured


def test_the_tightest_limit_counts(machine: FakeMachine) -> None:
    machine.write("proc/meminfo", f"MemTotal: 1 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    assert available_memory(machine.around) == (8 * GIB, "machine")
    machine.write("proc/self/mountinfo", "31 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n")
    machine.write("proc/self/cgroup", "0::/\n")
    machine.write("sys/fs/cgroup/memory.max", "max\n")
    machine.write("sys/fs/cgroup/memory.current", "5\n")
    assert available_memory(machine.around)[0] == 8 * GIB
    # a job of Slurm: its own group, two below the root
    machine.write("proc/self/cgroup", "0::/slurm/job_7\n")
    machine.write("sys/fs/cgroup/slurm/job_7/memory.max", f"{4 * GIB}\n")
    machine.write("sys/fs/cgroup/slurm/job_7/memory.current", f"{3 * GIB}\n")
    machine.write("sys/fs/cgroup/slurm/job_7/memory.stat", f"anon 1\ninactive_file {GIB}\n")
    assert available_memory(machine.around) == (2 * GIB, "container or job limit")


def test_memory_limits_of_cgroup_v1(machine: FakeMachine) -> None:
    machine.write("proc/meminfo", f"MemAvailable: {8 * GIB // 1024} kB\n")
    machine.write("proc/self/mountinfo", "31 23 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
    machine.write("proc/self/cgroup", "4:memory:/\n1:name=systemd:/\n")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{(1 << 63) - 4096}\n")
    machine.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "7\n")
    assert available_memory(machine.around) == (8 * GIB, "machine")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{GIB}\n")
    machine.write("sys/fs/cgroup/memory/memory.usage_in_bytes", f"{GIB // 2}\n")
    assert available_memory(machine.around)[0] == GIB / 2


def test_a_batch_that_does_not_fit_is_a_warning(machine: FakeMachine) -> None:
    machine.write("proc/meminfo", f"MemAvailable: {4 * GIB // 1024} kB\n")
    large = check_memory(RunConfig(), "CPU", BatchPlan(32, 1), 1, machine.around)
    assert (large.status, "train.device_batch" in large.remedy) == ("warning", True)
    assert check_memory(RunConfig(), "CPU", BatchPlan(32, 1, accumulation=16), 1, machine.around).status == "ok"
    small = build_config({"model": {"channels": [4, 4, 6, 8]}}, "test")
    assert check_memory(small, "CPU", BatchPlan(32, 1), 1, machine.around).status == "ok"


def test_shared_memory(machine: FakeMachine) -> None:
    assert check_shm(machine.around).status == "ok"  # the folder of the test stands on a real disk
    (machine.root / "dev/shm").rmdir()
    check = check_shm(machine.around)
    assert (check.status, "tmpfs" in check.remedy) == ("warning", True)


def test_the_clock_matters_between_hosts() -> None:
    assert check_clock(1, (False, 16.0)).status == "ok"
    assert check_clock(2, (False, 16.0)).status == "warning"
    assert "0.002 s off" in check_clock(2, (True, 0.002)).message
    assert check_clock(2, None).status == "warning"


def test_the_kernel_tells_about_its_clock() -> None:
    clock = read_clock()
    assert clock is None or (isinstance(clock[0], bool) and clock[1] >= 0)
