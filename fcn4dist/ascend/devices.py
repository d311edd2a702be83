"""The NPUs of this host under their two numbers: the position that CANN counts by, the physical id of driver and tools."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fcn4dist.ascend.hostfile import parse_devices
from fcn4dist.ascend.tools import FOLDERS
from fcn4dist.errors import DeviceError, RankTableError

VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"  # read by CANN: positions, ascending
MOUNTED = "ASCEND_VISIBLE_DEVICES"  # read by the container runtime alone: physical ids

_DEVICE_NODE = re.compile(r"davinci(\d+)")
_PLUGIN_NAME = re.compile(r"Ascend[0-9A-Za-z]*-(\d+)")  # how the device plugin spells an id in MOUNTED


@dataclass(frozen=True)
class HostPaths:
    """Where a host keeps what is read; other places for tests."""

    dev: Path = Path("/dev")
    hccn_conf: Path = Path("/etc/hccn.conf")
    tool_folders: tuple[Path, ...] = FOLDERS


THIS_HOST = HostPaths()


@dataclass(frozen=True, slots=True)
class DeviceNumber:
    """The two numbers of a device. On CPU both are the rank's number on its host."""

    position: int  # from 0 among the devices that a process sees: DEVICE_ID, set_device
    physical_id: int  # /dev/davinciN, npu-smi, hccn_tool, device_id in a rank table


@dataclass(frozen=True)
class VisibleDevices:
    """The devices of this host as a process sees them."""

    present: tuple[int, ...]  # physical ids of all that the driver shows here, ascending
    physical_ids: tuple[int, ...]  # those of them that the process may use, ascending

    @property
    def numbers(self) -> tuple[DeviceNumber, ...]:
        """Both numbers of every device, by position: CANN counts what is visible from 0, by physical id."""
        return tuple(DeviceNumber(position, device) for position, device in enumerate(self.physical_ids))

    @property
    def variable(self) -> str | None:
        """The value of ASCEND_RT_VISIBLE_DEVICES that makes a process see these; None: it sees them without."""
        if self.physical_ids == self.present:
            return None
        return ",".join(str(self.present.index(device)) for device in self.physical_ids)

    def choose(self, physical_ids: Sequence[int], where: str) -> VisibleDevices:
        """Return what a process sees that uses these devices alone, so that they are its first ones.

        Raises DeviceError naming `where` for a device that is not visible.
        """
        if absent := [device for device in physical_ids if device not in self.physical_ids]:
            raise DeviceError(f"{where}: device {absent[0]} is not among this host's {list(self.physical_ids)}")
        if tuple(physical_ids) == self.physical_ids[: len(physical_ids)]:
            return self
        return replace(self, physical_ids=tuple(sorted(physical_ids)))


def number_devices(count: int) -> tuple[DeviceNumber, ...]:
    """Return `count` devices whose two numbers are the same: those of a CPU, or of a host that is imagined."""
    return tuple(DeviceNumber(i, i) for i in range(count))


def list_nodes(dev: Path | None = None) -> tuple[int, ...]:
    """Return the physical ids in the names of the device nodes, /dev/davinciN, ascending."""
    try:
        entries = os.listdir(dev or THIS_HOST.dev)
    except OSError:
        return ()
    return tuple(sorted(int(match[1]) for entry in entries if (match := _DEVICE_NODE.fullmatch(entry))))


def find_visible(present: Sequence[int], environ: Mapping[str, str]) -> VisibleDevices:
    """Return what a process with this environment may use of the devices `present` (physical ids).

    ASCEND_RT_VISIBLE_DEVICES has positions among them. ASCEND_VISIBLE_DEVICES, which CANN does not read, leaves out what it
    does not name: in a privileged container all nodes of the host are there, whatever it says.
    Raises DeviceError for a malformed list, for a position that is not there (CANN would stop reading there, in silence), and
    when nothing is left.
    """
    ids = tuple(sorted(present))
    visible = environ.get(VISIBLE, "").strip()
    if visible:
        try:
            positions = parse_devices(visible, VISIBLE)
        except RankTableError as error:
            raise DeviceError(str(error)) from None
        if positions[-1] >= len(ids):
            raise DeviceError(
                f"{VISIBLE}={visible}: position {positions[-1]} of {len(ids)} devices ({name_ids(ids)}); "
                "expected positions from 0, not physical ids"
            )
        ids = tuple(ids[position] for position in positions)
    mounted = parse_mounted(environ)
    usable = ids if mounted is None else tuple(device for device in ids if device in mounted)
    if not usable:
        said = f"{MOUNTED}={environ.get(MOUNTED, '')}" + (f", {VISIBLE}={visible}" if visible else "")
        raise DeviceError(f"no device is left: this host has {name_ids(present)}; check {said}")
    return VisibleDevices(tuple(sorted(present)), usable)


def parse_mounted(environ: Mapping[str, str]) -> tuple[int, ...] | None:
    """Return the physical ids in ASCEND_VISIBLE_DEVICES; None where it is not set or no such list ("all", "void")."""
    text = _PLUGIN_NAME.sub(r"\1", environ.get(MOUNTED, "").strip())
    try:
        return parse_devices(text, MOUNTED) if text else None
    except RankTableError:
        return None


def find_devices(environ: Mapping[str, str], dev: Path | None = None) -> VisibleDevices:
    """Return the devices that a process with this environment may use; none where the host has none."""
    nodes = list_nodes(dev)
    return find_visible(nodes, environ) if nodes else VisibleDevices((), ())


def name_ids(ids: Sequence[int]) -> str:
    """Return physical ids for a message."""
    return ", ".join(map(str, ids)) or "none"
