"""Find the devices of this host and their addresses: device nodes, hccn_tool, hccn.conf and npu-smi, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fcn4dist.ascend import devices
from fcn4dist.ascend.addresses import find_own_address
from fcn4dist.ascend.devices import MOUNTED, HostPaths, find_visible, list_nodes, name_ids, parse_mounted
from fcn4dist.ascend.hostfile import build_server
from fcn4dist.ascend.rank_table.schema import DEVICES_A_SERVER, Chip, Server
from fcn4dist.ascend.tools import (
    Npu,
    Tools,
    parse_chip,
    parse_hccn_address,
    parse_hccn_conf,
    parse_link,
    parse_npu_smi_info,
    parse_npu_smi_list,
    parse_npu_smi_map,
    parse_spod_info,
)
from fcn4dist.errors import RankTableError


@dataclass
class Discovery:
    """What was found on this host, and what an operator should know about it."""

    server: Server
    chip: Chip | None
    remarks: list[str] = field(default_factory=list)


def discover(
    environment: Mapping[str, str],
    *,
    chip: Chip | None = None,
    device_ids: Sequence[int] | None = None,
    server_address: str | None = None,
    paths: HostPaths | None = None,
) -> Discovery:
    """Return this host as a server.

    Device ids are physical; ASCEND_VISIBLE_DEVICES and ASCEND_RT_VISIBLE_DEVICES narrow them down, `device_ids` (also
    physical) further. Where hccn_tool and hccn.conf differ the tool counts, since it asks the port itself.
    Raises RankTableError when there is no device, or an asked one is not there, DeviceError for variables that cannot be.
    """
    paths = paths or devices.THIS_HOST
    tools = Tools(environment, folders=paths.tool_folders)
    remarks: list[str] = []
    conf = _load_conf(paths.hccn_conf)
    overview = tools.ask_npu_smi()
    npus = _list_npus(tools, overview)
    chip = chip or parse_chip(overview)
    candidates = range(DEVICES_A_SERVER[chip or "910b"]) if device_ids is None else device_ids
    found = _find_devices(tools, paths, conf, npus, candidates)
    ids = _narrow(found, environment, device_ids, remarks)
    conf = _by_position(conf, found, paths.hccn_conf, remarks)
    addresses = _find_addresses(tools, ids, conf, paths.hccn_conf, remarks)
    server = build_server(server_address or find_own_address(), addresses)
    if chip == "a3":
        server = _add_super_pod(server, tools, npus, remarks)
    return Discovery(server, chip, remarks)


def _load_conf(path: Path) -> dict[int, str]:
    try:
        return parse_hccn_conf(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}


def _list_npus(tools: Tools, overview: str) -> list[Npu]:
    return (
        parse_npu_smi_info(overview)
        or parse_npu_smi_map(tools.ask_npu_smi("-m"))
        or parse_npu_smi_list(tools.ask_npu_smi("-l"))
    )


def _find_devices(
    tools: Tools, paths: HostPaths, conf: dict[int, str], npus: Sequence[Npu], candidates: Sequence[int]
) -> list[int]:
    """Return the physical ids by the first source that has any; hccn_tool lists none, so candidates are tried."""
    found = list(list_nodes(paths.dev)) or sorted({npu.device_id for npu in npus}) or sorted(conf)
    found = found or [device for device in candidates if _answers(tools, device)]
    if not found:
        looked = f"no {paths.dev}/davinci*, no {paths.hccn_conf}, and neither npu-smi nor hccn_tool knows one"
        raise RankTableError(
            f"no NPU on this host: {looked}; elsewhere give --hostfile, --hccn-conf, --inventory or --servers"
        )
    return found


def _answers(tools: Tools, device: int) -> bool:
    """Whether hccn_tool knows the device, with an address or without."""
    if parse_hccn_address(tools.ask_hccn(device, "-ip", "-g")) is not None:
        return True
    return parse_link(tools.ask_hccn(device, "-link", "-g")) is not None


def _narrow(
    found: Sequence[int], environment: Mapping[str, str], asked: Sequence[int] | None, remarks: list[str]
) -> list[int]:
    """Apply the container's list, the process's list, and the user's own (physical ids)."""
    if missing := [device for device in parse_mounted(environment) or () if device not in found]:
        said = f"{MOUNTED}={environment[MOUNTED]}"
        remarks.append(f"{said}: device {missing[0]} is not here, but {name_ids(found)}")
    ids = find_visible(found, environment).physical_ids
    if asked is None:
        return list(ids)
    if missing := [device for device in asked if device not in ids]:
        raise RankTableError(f"--devices: device {missing[0]} is not on this host; expected some of {name_ids(ids)}")
    return list(asked)


def _find_addresses(
    tools: Tools, ids: Sequence[int], conf: dict[int, str], conf_path: Path, remarks: list[str]
) -> dict[int, str]:
    """Return device -> address, an empty text where there is none, and remark on every difference."""
    found: dict[int, str] = {}
    for device in ids:
        asked = parse_hccn_address(tools.ask_hccn(device, "-ip", "-g"))
        asked = asked or parse_hccn_address(tools.ask_hccn(device, "-ip", "-inet6", "-g"))
        written = conf.get(device)
        if asked and written and asked != written:
            remarks.append(f"device {device}: hccn_tool says {asked}, {conf_path} says {written}; wrote hccn_tool's")
        found[device] = asked or written or ""
        if not found[device]:
            remarks.append(f"device {device} has no address: fine on one server, refused by most chips on several")
        if parse_link(tools.ask_hccn(device, "-link", "-g")) is False:
            remarks.append(f"device {device}: its link is DOWN; collectives between servers will hang")
    if not tools.has_hccn_tool:
        remarks.append(
            f"hccn_tool is not on PATH nor under the driver; addresses are from {conf_path}, if from anywhere"
        )
    return found


def _by_position(conf: dict[int, str], present: Sequence[int], path: Path, remarks: list[str]) -> dict[int, str]:
    """Read a container's own hccn.conf, which counts its devices from 0 whatever their ids on the host."""
    if not conf or all(device in conf for device in present) or list(conf) != list(range(len(present))):
        return conf
    remarks.append(f"{path} names devices {name_ids(list(conf))}, here are {name_ids(present)}: read in this order")
    return dict(zip(present, conf.values(), strict=True))


def _add_super_pod(server: Server, tools: Tools, npus: Sequence[Npu], remarks: list[str]) -> Server:
    places = {npu.device_id: npu for npu in npus}
    known, pods = [], set()
    for device in server.devices:
        place = places.get(device.device_id, Npu(device.device_id, device.device_id // 2, device.device_id % 2))
        told = parse_spod_info(tools.ask_npu_smi("-t", "spod-info", "-i", str(place.npu), "-c", str(place.chip)))
        if told is None:
            remarks.append(f"device {device.device_id}: npu-smi names no super pod; wrote a table without super pods")
            return server
        known.append(replace(device, super_device_id=told[0]))
        pods.add(told[1])
    if len(pods) > 1:
        raise RankTableError(f"the devices of this host are in super pods {sorted(pods)}; expected one")
    return replace(server, devices=tuple(known), super_pod_id=pods.pop())
