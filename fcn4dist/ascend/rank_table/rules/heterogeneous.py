"""Format 1.1: host and device ranks by node, as the Heterog parser reads them."""

from __future__ import annotations

from typing import Any

from fcn4dist.ascend.rank_table.findings import E_PARA, EI_VALUE, Findings, quote
from fcn4dist.ascend.rank_table.rules.advice import list_children, note_ignored_keys
from fcn4dist.ascend.rank_table.rules.fields import (
    get_address,
    get_number,
    get_text,
    is_address,
    iter_list,
    join,
    parse_number,
    peek_text,
)
from fcn4dist.ascend.rank_table.rules.rank_ids import HOST_DEVICE, ParsedRank, check_ranks
from fcn4dist.ascend.rank_table.schema import Chip, Device, Server

MAX_COLLECTIVE_ID_BYTES = 127
_MODES = ("tcp", "rdma")
_ROOT_KEYS = frozenset({"status", "version", "collective_id", "node_list", "mode", "heterog_sub_version"})
_NODE_KEYS = frozenset({"node_addr", "ranks"})
_RANK_KEYS = frozenset({"rank_id", "device_id", "port", "rank_ip", "sdid", "bind_device_id"})


def check_heterogeneous(root: dict[str, Any], chip: Chip, findings: Findings) -> list[Server]:
    """Check format 1.1, and return its nodes; with `heterog_sub_version` "1.2" every field of a rank is needed."""
    collective_id = get_text(root, "collective_id", "", findings)
    if collective_id is not None and len(collective_id.encode()) > MAX_COLLECTIVE_ID_BYTES:
        findings.error(E_PARA, "collective_id", f"too long; expected at most {MAX_COLLECTIVE_ID_BYTES} bytes")
    if "mode" in root and (mode := get_text(root, "mode", "", findings)) is not None and mode not in _MODES:
        findings.error(E_PARA, "mode", f'{quote(mode)}; expected "tcp" or "rdma"')
    strict = "heterog_sub_version" in root
    if strict and (version := get_text(root, "heterog_sub_version", "", findings)) not in (None, "1.2"):
        findings.error(E_PARA, "heterog_sub_version", f'{quote(version)}; expected "1.2"')
    ranks: list[ParsedRank] = []
    servers: list[Server] = []
    places: dict[str, str] = {}
    for where, node in iter_list(root, "node_list", "", findings):
        address = get_address(node, "node_addr", where, findings)
        path = join(where, "node_addr")
        if address is not None and places.setdefault(address, path) != path:
            findings.error(EI_VALUE, path, f"{quote(address)} is already at {places[address]}; expected each node once")
        name = findings.need(peek_text(node, "node_addr"), "")
        devices = []
        for place, rank in iter_list(node, "ranks", where, findings):
            parsed = _parse_rank(place, rank, address or where, strict, findings)
            ranks.append(parsed)
            rank_ip = peek_text(rank, "rank_ip")
            devices.append(Device(parsed.device_id or 0, parsed.rank or 0, (rank_ip,) if rank_ip else ()))
        servers.append(Server(name, tuple(devices), host_ip=name))
    if ranks:
        check_ranks(ranks, chip, findings)
    nodes = list_children([("", root)], "node_list")
    for keys, found in (
        (_ROOT_KEYS, [("", root)]),
        (_NODE_KEYS, nodes),
        (_RANK_KEYS, list_children(nodes, "ranks")),
    ):
        note_ignored_keys(found, keys, findings)
    return servers


def _parse_rank(where: str, rank: Any, server_id: str, strict: bool, findings: Findings) -> ParsedRank:
    number = get_number(rank, "rank_id", where, findings)
    findings.need(number, 0)
    device_id = get_signed(rank, "device_id", where, strict, findings)
    if strict or (isinstance(rank, dict) and "device_id" in rank):
        findings.need(device_id, 0)
    is_host = device_id in (None, HOST_DEVICE)
    get_signed(rank, "port", where, strict, findings)
    if strict:
        get_signed(rank, "sdid", where, True, findings)
        if is_host:
            get_signed(rank, "bind_device_id", where, True, findings)
    address = get_text(rank, "rank_ip", where, findings, required=strict)
    if address and not is_address(address):
        findings.error(EI_VALUE, join(where, "rank_ip"), f"{quote(address)} is not a valid IP address")
    return ParsedRank(where, number, server_id, HOST_DEVICE if is_host else device_id)


def get_signed(node: Any, key: str, where: str, needed: bool, findings: Findings) -> int | None:
    """Return a number that may be "-1", as std::stoi reads it; None when missing or wrong (said in `findings`)."""
    text = get_text(node, key, where, findings, required=needed)
    if text is None:
        return None
    stripped = text.strip()
    value = parse_number(stripped.removeprefix("-"))
    if value is None or value > 0x7FFF_FFFF:
        findings.error(EI_VALUE, join(where, key), f"{quote(text)}; expected a number written as a string")
        return None
    return -value if stripped.startswith("-") else value
