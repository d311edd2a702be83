"""Template two, which has no version: cloud mode, and the lab mode of MindSpore 0.x and 1.0."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fcn4dist.ascend.rank_table.findings import E_PARA, EI_VALUE, Findings, quote
from fcn4dist.ascend.rank_table.rules.advice import list_children, note_ignored_keys, warn_of_server_ids
from fcn4dist.ascend.rank_table.rules.fields import (
    get_device_id,
    get_number,
    get_text,
    is_address,
    iter_list,
    join,
    peek_text,
)
from fcn4dist.ascend.rank_table.rules.rank_ids import ParsedRank, check_ranks, devices_by_server
from fcn4dist.ascend.rank_table.schema import Chip, Device, Server

MAX_NAME_BYTES = 127
CLOUD_DEVICES = 8  # cloud mode takes device ids 0-7 on every chip
_LAB_DEVICES_A_SERVER = (1, 2, 4, 8, 16)
_POSITIVE = (1, 0xFFFF_FFFF)

_ROOT_KEYS = frozenset({"status", "group_count", "group_list", "deploy_mode", "para_plane_nic_location"})
_GROUP_KEYS = frozenset({"group_name", "instance_count", "device_count", "instance_list", "device_num", "server_num"})
_INSTANCE_KEYS = frozenset({"pod_name", "server_id", "devices", "rank_id"})
_DEVICE_KEYS = frozenset({"device_id", "device_ip"})


class _Parser:
    """One pass over the groups, with what must be unique in the whole file."""

    def __init__(self, findings: Findings, highest_device: int, *, is_lab: bool) -> None:
        self.findings = findings
        self.highest_device = highest_device
        self.is_lab = is_lab
        self.places: dict[tuple[str, str], str] = {}  # (kind, value) -> first path
        self.ranks: list[ParsedRank] = []
        self.devices: list[tuple[str, Device]] = []  # one a rank, with the server id as it is in the file

    def claim(self, key: str, value: str, path: str) -> None:
        first = self.places.setdefault((key, value), path)
        if first != path:
            self.findings.error(EI_VALUE, path, f"{quote(value)} is already at {first}; expected each {key} once")

    def parse_name(self, node: Any, key: str, where: str) -> None:
        name = get_text(node, key, where, self.findings)
        path = join(where, key)
        if name is None:
            return
        if len(name.encode()) > MAX_NAME_BYTES:
            self.findings.error(E_PARA, path, f"{len(name.encode())} bytes; expected at most {MAX_NAME_BYTES}")
        self.claim(key, name, path)

    def parse_group(self, where: str, group: Any) -> None:
        self.parse_name(group, "group_name", where)
        findings = self.findings
        num_instances = get_number(group, "instance_count", where, findings, limits=_POSITIVE)
        count_key = "device_num" if self.is_lab else "device_count"
        num_devices = get_number(group, count_key, where, findings, limits=_POSITIVE)
        instances = list(iter_list(group, "instance_list", where, findings))
        before = len(self.ranks)
        for path, instance in instances:
            self.parse_instance(path, instance, num_instances=len(instances))
        self.expect(join(where, "instance_count"), num_instances, len(instances), "instance_list")
        self.expect(join(where, count_key), num_devices, len(self.ranks) - before, "its instances together")

    def expect(self, path: str, stated: int | None, found: int, where: str) -> None:
        if stated is not None and found and stated != found:
            self.findings.error(E_PARA, path, f'"{stated}", but {where} has {found}; expected the same number')

    def parse_instance(self, where: str, instance: Any, *, num_instances: int) -> None:
        findings = self.findings
        server_id = findings.need(get_text(instance, "server_id", where, findings), "")
        rank = None
        if self.is_lab:
            rank = get_number(instance, "rank_id", where, findings)
            findings.need(rank, 0)
        else:
            self.parse_name(instance, "pod_name", where)
        for index, (path, device) in enumerate(iter_list(instance, "devices", where, findings)):
            if self.is_lab and index:
                findings.error(E_PARA, path, "a second device; expected one device an instance in lab mode")
            device_id = get_device_id(device, path, findings, self.highest_device)
            physical = findings.need(device_id, 0)
            address = self.parse_address(path, device, needed=self.is_lab or num_instances > 1)
            addresses = [address] if address else []
            self.ranks.append(ParsedRank(path, rank, server_id or where, device_id, addresses, rank_where=where))
            written = peek_text(device, "device_ip")
            self.devices.append((server_id, Device(physical, rank or 0, (written,) if written else ())))

    def parse_address(self, where: str, device: Any, *, needed: bool) -> str | None:
        """The key must be there when it is read at all; an empty text means that the device has no port."""
        if not needed:
            return None
        address = get_text(device, "device_ip", where, self.findings)
        path = join(where, "device_ip")
        if not address:
            return None
        if not is_address(address):
            self.findings.error(EI_VALUE, path, f"{quote(address)} is not a valid IP address")
            return None
        self.claim("device_ip", address, path)
        return address


def check_cloud(root: dict[str, Any], chip: Chip, findings: Findings) -> list[Server]:
    """Check template two in cloud mode: ranks are given out by server id (as bytes), then device id.

    Returns the servers in this order.
    """
    parser = _Parser(findings, CLOUD_DEVICES - 1, is_lab=False)
    _check_groups(root, parser)
    pairs = zip(parser.ranks, parser.devices, strict=True)
    ordered = sorted(pairs, key=lambda pair: (pair[0].server_id.encode(), pair[1][1].device_id))
    ranks = [replace(rank, rank=index, rank_where=None) for index, (rank, _) in enumerate(ordered)]
    if ranks:
        check_ranks(ranks, chip, findings)
    _advise(root, parser, findings)
    return _group((name, replace(device, rank=index)) for index, (_, (name, device)) in enumerate(ordered))


def _group(devices: Iterable[tuple[str, Device]]) -> list[Server]:
    """Return the servers in the order of their first rank; a server id may stand in several instances."""
    servers: dict[str, list[Device]] = defaultdict(list)
    for server_id, device in devices:
        servers[server_id].append(device)
    return [Server(server_id, tuple(devices)) for server_id, devices in servers.items()]


def check_lab(root: dict[str, Any], chip: Chip, findings: Findings) -> list[Server]:
    """Check template two in lab mode, where every instance is one rank with one device, and return its servers."""
    location = get_text(root, "para_plane_nic_location", "", findings)
    if location is not None and location != "device" and chip != "310p3":
        expected = 'expected "device", since the ports of this chip are its own'
        findings.error(E_PARA, "para_plane_nic_location", f"{quote(location)}; {expected}")
    parser = _Parser(findings, 7 if chip == "910" else 0xFFFF_FFFF, is_lab=True)
    _check_groups(root, parser)
    _check_lab_servers(root, parser, chip, findings)
    if parser.ranks:
        check_ranks(parser.ranks, chip, findings)
    _advise(root, parser, findings)
    return _group(parser.devices)


def _check_groups(root: dict[str, Any], parser: _Parser) -> None:
    count = get_number(root, "group_count", "", parser.findings, limits=_POSITIVE)
    groups = list(iter_list(root, "group_list", "", parser.findings))
    parser.expect("group_count", count, len(groups), "group_list")
    for where, group in groups:
        parser.parse_group(where, group)


def _check_lab_servers(root: dict[str, Any], parser: _Parser, chip: Chip, findings: Findings) -> None:
    """server_num states the servers; devices a server must be a power of two, except on 310P3."""
    groups = root.get("group_list")
    stated = 0
    for index, group in enumerate(groups if isinstance(groups, list) else []):
        where = f"group_list[{index}]"
        num_servers = get_number(group, "server_num", where, findings, limits=_POSITIVE)
        if num_servers is None:
            return
        stated += num_servers
        num_devices = get_number(group, "device_num", where, Findings())  # its own findings are in already
        if chip == "310p3" or num_devices is None:
            continue
        if num_devices % num_servers or num_devices // num_servers not in _LAB_DEVICES_A_SERVER:
            found = f"{num_devices} devices on {num_servers} servers"
            findings.error(E_PARA, join(where, "device_num"), f"{found}; expected 1, 2, 4, 8 or 16 on each")
    found_servers = len(devices_by_server(parser.ranks))
    if stated and found_servers and stated != found_servers:
        found = f'"{stated}", but the instances name {found_servers} server ids'
        findings.error(E_PARA, "group_list[0].server_num", f"{found}; expected the same number")


def _advise(root: dict[str, Any], parser: _Parser, findings: Findings) -> None:
    places = {rank.server_id: rank.where.partition(".devices")[0] for rank in reversed(parser.ranks)}
    warn_of_server_ids(((join(place, "server_id"), server_id) for server_id, place in places.items()), findings)
    in_file = list(dict.fromkeys(rank.server_id for rank in parser.ranks))
    by_bytes = sorted(in_file, key=str.encode)
    if not parser.is_lab and by_bytes != in_file:
        findings.note("group_list", f"ranks follow the byte order of server ids, here {quote(by_bytes[0])} comes first")
    levels: list[tuple[frozenset[str], list[tuple[str, Any]]]] = [(_ROOT_KEYS, [("", root)])]
    for keys, child in ((_GROUP_KEYS, "group_list"), (_INSTANCE_KEYS, "instance_list"), (_DEVICE_KEYS, "devices")):
        levels.append((keys, list_children(levels[-1][1], child)))
    for keys, nodes in levels:
        note_ignored_keys(nodes, keys, findings)
