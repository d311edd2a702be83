"""The lines are those of a kernel 6.1: /proc/self/cgroup and /proc/self/mountinfo under Slurm, systemd and Docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn4dist.job.cgroup import own_groups

V2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
DISK = "24 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime shared:12 - cgroup cgroup rw,memory"
DOCKER_V1 = "36 31 0:33 /docker/8f2a /sys/fs/cgroup/memory ro,relatime master:12 - cgroup cgroup rw,memory"


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
    own = tmp_path / "proc/self"
    own.mkdir(parents=True)
    (own / "cgroup").write_text(f"{groups}\n")
    (own / "mountinfo").write_text("\n".join(mounts) + "\n")
    found = own_groups("memory", tmp_path)
    assert found[:2] == [tmp_path / "sys/fs/cgroup" / path for path in expected]


def test_the_real_group_of_this_process_is_a_folder(tmp_path: Path) -> None:
    assert all(folder.is_dir() for folder in own_groups("memory"))
    assert own_groups("memory", tmp_path) == []
