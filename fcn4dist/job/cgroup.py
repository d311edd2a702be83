"""The control groups that this process is in, of version 1 and 2: the kernel counts and limits by them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath


def own_groups(controller: str, root: Path = Path("/")) -> list[Path]:
    """Return the folder of this process's group for `controller` ("memory", "cpu"), then those above it up to the mount.

    Slurm, systemd and containers put a job far below the mount, or mount a part of the tree. Empty where there is no group.
    """
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (root / "proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return []
    paths = {name: path for _, names, path in groups for name in names.split(",")}  # version 2 has the name ""
    wanted = controller if controller in paths else ""
    for words in mounts:
        top, folder = words[3], root / words[4].lstrip("/")
        kind, _, options = words[words.index("-") + 1 :][:3]
        if wanted in paths and (
            kind == "cgroup2" if wanted == "" else kind == "cgroup" and wanted in options.split(",")
        ):
            path = PurePosixPath(paths[wanted])
            below = path.relative_to(top).parts if path.is_relative_to(top) and ".." not in path.parts else ()
            return [folder.joinpath(*below[:depth]) for depth in range(len(below), -1, -1)]
    return []
