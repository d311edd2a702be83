"""Format 2.0 for Ascend 950: ranks with network layers; numbers are JSON numbers here."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from fcn4dist.ascend.rank_table.findings import EI_KEY, EI_VALUE, Findings, kind, quote
from fcn4dist.ascend.rank_table.rules.advice import list_children, note_ignored_keys
from fcn4dist.ascend.rank_table.rules.fields import U32_MAX, address_family, join
from fcn4dist.ascend.rank_table.rules.rank_ids import check_rank_ids
from fcn4dist.ascend.rank_table.schema import Device, Server

MAX_RANKS = 65536
BACKUP_LOCAL_ID = 64
MAX_LEVELS, MAX_LAYER, MAX_ADDRESSES, MAX_PORTS, MAX_BACKUPS = 8, 7, 24, 16, 16
_NET_TYPES = ("TOPO_FILE_DESC", "CLOS", "1DMESH", "2DMESH", "A3_SERVER", "A2_AX_SERVER")
_BUILT_NET_TYPES = _NET_TYPES[:2]  # the graph builder refuses the others later
_ADDRESS_TYPES = ("EID", "IPV4", "IPV6")
_EID = re.compile(r"[0-9A-Fa-f]{32}")
_PORTS = (1, 65535)

_ROOT_KEYS = frozenset({"status", "version", "detour", "rank_count", "rank_list"})
_RANK_KEYS = frozenset(
    {"rank_id", "local_id", "device_id", "replaced_local_id", "device_port", "host_port", "level_list", "control_plane"}
)
_LEVEL_KEYS = frozenset(
    {"net_layer", "net_instance_id", "net_type", "net_attr", "rank_addr_list", "pcie_fallback", "elec_group_id"}
)
_ADDRESS_KEYS = frozenset({"addr_type", "addr", "ports", "plane_id", "backup_addr"})


class _Parser:
    """One pass over the ranks, with what must agree between them."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.ranks: list[tuple[str, int | None]] = []
        self.local_places: dict[int, str] = {}
        self.replaced: tuple[str, int] | None = None
        self.instance_sizes: dict[tuple[int, str], tuple[str, int]] = {}
        self.servers: dict[str, list[Device]] = defaultdict(list)

    def integer(
        self, node: Any, key: str, where: str, limits: tuple[int, int] = (0, U32_MAX), *, required: bool = True
    ) -> int | None:
        return get_integer(node, key, where, self.findings, limits, required=required)

    def text(
        self, node: Any, key: str, where: str, limits: tuple[int, int] = (0, 1 << 30), *, required: bool = True
    ) -> str | None:
        path = join(where, key)
        if not isinstance(node, dict) or key not in node:
            if required:
                self.findings.error(EI_KEY, path, "the key is missing")
            return None
        value = node[key]
        if not isinstance(value, str):
            self.findings.error(EI_VALUE, path, f"{quote(value)} is {kind(value)}; expected a string")
            return None
        if not limits[0] <= len(value.encode()) <= limits[1]:
            found = f"{len(value.encode())} characters"
            self.findings.error(EI_VALUE, path, f"{found}; expected {limits[0]} to {limits[1]}")
            return None
        return value

    def entries(self, node: Any, key: str, where: str, maximum: int = U32_MAX) -> list[tuple[str, Any]]:
        path = join(where, key)
        if not isinstance(node, dict) or key not in node:
            self.findings.error(EI_KEY, path, "the key is missing")
            return []
        value = node[key]
        if not isinstance(value, list):
            self.findings.error(EI_VALUE, path, f"{quote(value)} is {kind(value)}; expected an array")
            return []
        if len(value) > maximum:
            self.findings.error(EI_VALUE, path, f"{len(value)} entries; expected at most {maximum}")
        return [(f"{path}[{index}]", entry) for index, entry in enumerate(value)]

    def parse_rank(self, where: str, rank: Any) -> None:
        number = self.integer(rank, "rank_id", where)
        self.ranks.append((where, number))
        number = self.findings.need(number, 0)
        local_id = self.integer(rank, "local_id", where, (0, BACKUP_LOCAL_ID))
        if local_id == BACKUP_LOCAL_ID:
            self.parse_replacement(where, rank)
        elif local_id is not None:
            self.local_places.setdefault(local_id, join(where, "local_id"))
        device_id = self.findings.need(self.integer(rank, "device_id", where, (0, BACKUP_LOCAL_ID)), 0)
        port = self.integer(rank, "device_port", where, _PORTS, required=False)
        device = Device(device_id, number, tuple(_list_addresses(rank)), device_port=port)
        self.servers[find_instance(rank)].append(device)
        self.integer(rank, "host_port", where, _PORTS, required=False)
        previous = -1
        for path, level in self.entries(rank, "level_list", where, MAX_LEVELS):
            layer = self.parse_level(path, level)
            if layer is not None and layer <= previous:
                found = f"{layer} after {previous}"
                self.findings.error(EI_VALUE, join(path, "net_layer"), f"{found}; expected layers that go up")
            previous = previous if layer is None else layer
        if isinstance(rank, dict) and "control_plane" in rank:
            self.parse_control_plane(join(where, "control_plane"), rank["control_plane"])

    def parse_replacement(self, where: str, rank: Any) -> None:
        """The backup NPU (local id 64) says whose place it takes; one table has at most one."""
        replaced = self.integer(rank, "replaced_local_id", where, (0, BACKUP_LOCAL_ID - 1))
        path = join(where, "replaced_local_id")
        if self.replaced is not None:
            self.findings.error(EI_VALUE, path, f"a second backup NPU beside {self.replaced[0]}; expected at most one")
        elif replaced is not None:
            self.replaced = (path, replaced)

    def parse_level(self, where: str, level: Any) -> int | None:
        layer = self.integer(level, "net_layer", where, (0, MAX_LAYER))
        instance = self.text(level, "net_instance_id", where, (1, 1024))
        net_type = self.text(level, "net_type", where, required=False)
        if net_type is not None and net_type not in _NET_TYPES:
            expected = "expected TOPO_FILE_DESC or CLOS"
            self.findings.error(EI_VALUE, join(where, "net_type"), f"{quote(net_type)}; {expected}")
        elif net_type is not None and net_type not in _BUILT_NET_TYPES:
            reason = "the parser knows it, but the communicator is built from TOPO_FILE_DESC and CLOS alone"
            self.findings.warning(join(where, "net_type"), f"{quote(net_type)}: {reason}")
        self.text(level, "net_attr", where, required=False)
        addresses = self.entries(level, "rank_addr_list", where, MAX_ADDRESSES)
        for path, address in addresses:
            self.parse_address(path, address)
        if layer is not None and instance is not None:
            first = self.instance_sizes.setdefault((layer, instance), (where, len(addresses)))
            if first[1] != len(addresses):
                found = f"{len(addresses)} addresses, {first[0]} of the same instance {quote(instance)} has {first[1]}"
                self.findings.error(EI_VALUE, join(where, "rank_addr_list"), f"{found}; expected as many")
        return layer

    def parse_address(self, where: str, address: Any) -> None:
        address_type = self.text(address, "addr_type", where)
        if address_type is not None and address_type not in _ADDRESS_TYPES:
            expected = "expected EID, IPV4 or IPV6 in upper case"
            self.findings.error(EI_VALUE, join(where, "addr_type"), f"{quote(address_type)}; {expected}")
            address_type = None
        text = self.text(address, "addr", where, (1, 256))
        if text is not None and address_type is not None:
            self.check_address(join(where, "addr"), text, address_type)
        self.text(address, "plane_id", where, (0, 1024), required=False)
        ports = self.entries(address, "ports", where)
        if isinstance(address, dict) and isinstance(address.get("ports"), list) and not 1 <= len(ports) <= MAX_PORTS:
            self.findings.error(EI_VALUE, join(where, "ports"), f"{len(ports)} ports; expected 1 to {MAX_PORTS}")
        for path, port in ports:
            if not isinstance(port, str) or not 1 <= len(port.encode()) <= 32:
                self.findings.error(EI_VALUE, path, f'{quote(port)}; expected a text of 1 to 32 characters as "0/1"')
        if isinstance(address, dict) and "backup_addr" in address and address_type is not None:
            self.parse_backups(where, address, address_type)

    def check_address(self, path: str, text: str, address_type: str) -> None:
        if address_type == "EID":
            if not _EID.fullmatch(text):
                self.findings.error(EI_VALUE, path, f"{quote(text)}; expected an EID of 32 hexadecimal digits")
        elif not is_of_type(text, address_type):
            self.findings.error(EI_VALUE, path, f"{quote(text)} is no {address_type} address")

    def parse_backups(self, where: str, address: dict[str, Any], address_type: str) -> None:
        path = join(where, "backup_addr")
        for place, backup in self.entries(address, "backup_addr", where, MAX_BACKUPS):
            if address_type == "EID":
                self.findings.error(EI_VALUE, path, "a backup of an EID; expected one for IPV4 and IPV6 alone")
                return
            if not isinstance(backup, str) or not is_of_type(backup, address_type):
                self.findings.error(EI_VALUE, place, f"{quote(backup)} is no {address_type} address")

    def parse_control_plane(self, where: str, plane: Any) -> None:
        address_type = self.text(plane, "addr_type", where)
        text = self.text(plane, "addr", where, (1, 256))
        if address_type is not None and address_type not in _ADDRESS_TYPES:
            self.findings.error(
                EI_VALUE, join(where, "addr_type"), f"{quote(address_type)}; expected EID, IPV4 or IPV6"
            )
        elif address_type is not None and text is not None:
            self.check_address(join(where, "addr"), text, address_type)
        self.integer(plane, "listen_port", where, (1, 65536))


def get_integer(
    node: Any,
    key: str,
    where: str,
    findings: Findings,
    limits: tuple[int, int] = (0, U32_MAX),
    *,
    required: bool = True,
) -> int | None:
    """Return an unsigned JSON number; None when it is missing or not one (said in `findings`)."""
    path = join(where, key)
    if not isinstance(node, dict) or key not in node:
        if required:
            findings.error(EI_KEY, path, "the key is missing")
        return None
    value = node[key]
    if not isinstance(value, int) or isinstance(value, bool):
        found = quote(value) if isinstance(value, float) else f"{quote(value)} is {kind(value)}"
        findings.error(EI_VALUE, path, f"{found}; expected an integer without quotes")
        return None
    if not limits[0] <= value <= limits[1]:
        findings.error(EI_VALUE, path, f"{quote(value)}; expected {limits[0]} to {limits[1]}")
        return None
    return value


def is_of_type(text: str, address_type: str) -> bool:
    """Whether `text` is an address of HCCL's type IPV4 or IPV6."""
    family = address_family(text)
    return family is not None and (family.name == "AF_INET6") == (address_type == "IPV6")


def find_instance(rank: Any) -> str:
    """Return the instance of the lowest network layer of a rank; an empty text when it has none."""
    levels = list_children([("", rank)], "level_list")
    lowest = levels[0][1] if levels else None
    return str(lowest.get("net_instance_id", "")) if isinstance(lowest, dict) else ""


def _list_addresses(rank: Any) -> Iterator[str]:
    """Yield the IP addresses of a rank in all its layers; EIDs are no addresses for people."""
    for _, entry in list_children(list_children([("", rank)], "level_list"), "rank_addr_list"):
        if isinstance(entry, dict) and entry.get("addr_type") in ("IPV4", "IPV6"):
            yield str(entry.get("addr", ""))


def check_layered(root: dict[str, Any], findings: Findings) -> list[Server]:
    """Check format 2.0, which the library of 950 alone reads, and return its servers.

    It names none: the ranks of one instance of the lowest layer stand for one.
    """
    parser = _Parser(findings)
    detour = parser.text(root, "detour", "", required=False)
    if detour not in (None, "", "true", "false"):
        findings.error(EI_VALUE, "detour", f'{quote(detour)}; expected "true" or "false" as a string')
    if "rank_count" not in root and "server_list" in root:
        findings.error(
            EI_KEY, "rank_count", 'the key is missing, and server_list is of format "1.0" or "1.2"; expected 2.0'
        )
        return findings.need(None, [])
    count = parser.integer(root, "rank_count", "", (1, MAX_RANKS))
    for where, rank in parser.entries(root, "rank_list", ""):
        parser.parse_rank(where, rank)
    if count is not None and "rank_list" in root and count != len(parser.ranks):
        found = f"{count}, but rank_list has {len(parser.ranks)}"
        findings.error(EI_VALUE, "rank_count", f"{found}; expected the same number")
    if parser.ranks:
        check_rank_ids(parser.ranks, findings)
    else:  # rank_count, which is 1 at least, has been refused
        findings.need(None, [])
    _check_replaced(parser, findings)
    _note_keys(root, findings)
    return [Server(instance, tuple(devices)) for instance, devices in parser.servers.items()]


def _check_replaced(parser: _Parser, findings: Findings) -> None:
    if parser.replaced is not None and parser.replaced[1] in parser.local_places:
        path, local_id = parser.replaced
        found = f"local id {local_id} is replaced, but still at {parser.local_places[local_id]}"
        findings.error(EI_VALUE, path, f"{found}; expected it to be gone")


def _note_keys(root: dict[str, Any], findings: Findings) -> None:
    ranks = list_children([("", root)], "rank_list")
    levels = list_children(ranks, "level_list")
    addresses = list_children(levels, "rank_addr_list")
    for keys, nodes in (
        (_ROOT_KEYS, [("", root)]),
        (_RANK_KEYS, ranks),
        (_LEVEL_KEYS, levels),
        (_ADDRESS_KEYS, addresses),
    ):
        note_ignored_keys(nodes, keys, findings)
