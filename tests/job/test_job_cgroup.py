"""The lines are those of a kernel 6.1: /proc/self/cgroup and /proc/self/mountinfo under Slurm, systemd and Docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn4dist.job.cgroup import cpu_quota, memory_left, own_groups

V2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
DISK = "24 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime shared:12 - cgroup cgroup rw,memory"
DOCKER_V1 = "36 31 0:33 /docker/8f2a /sys/fs/cgroup/memory ro,relatime master:12 - cgroup cgroup rw,memory"


def place(root: Path, groups: str, mounts: list[str]) -> None:
    own = root / "proc/self"
    own.mkdir(parents=True)
    (own / "cgroup").write_text(f"{groups}\n")
    (own / "mountinfo").write_text("\n".join(mounts) + "\n")


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("groups", "mounts", "expected"),
    [
        (
            "0::/system.slice/slurmstepd.scope/job_7/step_0",
            [DISK, V2],
            ["system.slice/slurmstepd.scope/job_7/step_0", "system.slice/slurmstepd.scope/job_7"],
        ),
        ("0::/", [DISK, V2], [""]),  # a container with a namespace of its own
        ("0::/../other", [DISK, V2], [""]),  # a process that was moved out of the namespace
        ("5:memory:/slurm/job_7\n4:cpu,cpuacct:/\n0::/x", [V1, V1_MEMORY], ["memory/slurm/job_7", "memory/slurm"]),
        ("5:memory:/docker/8f2a", [DOCKER_V1], ["memory"]),  # the mount shows a part of the tree
        ("5:cpu,cpuacct:/", [V1], []),
    ],
)  # fmt: skip
def test_the_groups_of_this_process_are_found_below_the_mount(
    tmp_path: Path, groups: str, mounts: list[str], expected: list[str]
) -> None:
    place(tmp_path, groups, mounts)
    found = own_groups("memory", tmp_path)
    assert found[:2] == [tmp_path / "sys/fs/cgroup" / path for path in expected]


def test_the_real_group_of_this_process_is_a_folder(tmp_path: Path) -> None:
    assert all(folder.is_dir() for folder in own_groups("memory"))
    assert own_groups("memory", tmp_path) == []


def test_the_least_limit_of_the_own_group_and_those_above_counts_of_version_2(tmp_path: Path) -> None:
    place(tmp_path, "0::/slurm/job_7", [DISK, V2])
    job = tmp_path / "sys/fs/cgroup/slurm/job_7"
    assert (cpu_quota(tmp_path), memory_left(tmp_path)) == (None, None)
    write(job, cpu__max="max 100000", memory__max="max", memory__current="5")
    assert (cpu_quota(tmp_path), memory_left(tmp_path)) == (None, None)
    write(
        job,
        cpu__max="400000 100000",
        memory__max="1000",
        memory__current="700",
        memory__stat="anon 1\ninactive_file 50",
    )
    assert (cpu_quota(tmp_path), memory_left(tmp_path)) == (4.0, 350)
    write(job.parent, cpu__max="150000 100000", memory__max="1000", memory__current="900")
    assert (cpu_quota(tmp_path), memory_left(tmp_path)) == (1.5, 100)
    write(job.parents[3], cpu__max="1 100000")  # beside the mount
    assert cpu_quota(tmp_path) == 1.5


def test_limits_of_version_1(tmp_path: Path) -> None:
    place(tmp_path, "5:memory:/slurm/job_7\n4:cpu,cpuacct:/slurm", [V1, V1_MEMORY])
    cpu, memory = (tmp_path / "sys/fs/cgroup" / name for name in ("cpu,cpuacct/slurm", "memory/slurm/job_7"))
    write(cpu, cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(memory, memory__limit_in_bytes=str((1 << 63) - 4096), memory__usage_in_bytes="7")
    assert (cpu_quota(tmp_path), memory_left(tmp_path)) == (None, None)
    write(cpu, cpu__cfs_quota_us="250000")
    stat = "inactive_file 1\ntotal_inactive_file 30"
    write(memory, memory__limit_in_bytes="1000", memory__usage_in_bytes="600", memory__stat=stat)
    assert (cpu_quota(tmp_path), memory_left(tmp_path)) == (2.5, 430)
