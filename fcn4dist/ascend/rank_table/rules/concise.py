"""Formats 1.0 and 1.2 (template one), as the Concise parser reads them for 910, 910B, A3 and 300I Duo."""

from __future__ import annotations

from typing import Any

from fcn4dist.ascend.rank_table.findings import E_PARA, EI_VALUE, Findings, kind, quote
from fcn4dist.ascend.rank_table.rules.advice import advise_concise, read_super_pods
from fcn4dist.ascend.rank_table.rules.fields import (
    get_address,
    get_device_id,
    get_number,
    get_text,
    is_address,
    iter_list,
    join,
    peek_text,
)
from fcn4dist.ascend.rank_table.rules.rank_ids import ParsedRank, check_one_family, check_ranks
from fcn4dist.ascend.rank_table.rules.super_pods import NO_SDID, SuperDevice, check_super_pods
from fcn4dist.ascend.rank_table.schema import DEVICES_A_SERVER, Chip, Device, Format, Server

MAX_SERVER_ID_BYTES = 64
PORTS = (1, 65535)


class _Parser:
    """One pass over a table, with what must be unique in the whole file."""

    def __init__(self, root: dict[str, Any], format_: Format, chip: Chip, num_servers: int, findings: Findings) -> None:
        self.chip = chip
        self.num_servers = num_servers
        self.findings = findings
        self.has_super_devices = format_ is Format.SUPER_POD  # read by the version, whatever the chip
        self.needs_super_devices = self.has_super_devices and chip == "a3" and "super_pod_list" in root
        self.pods = read_super_pods(root) if self.has_super_devices else {}
        self.super_devices: list[SuperDevice] = []
        self.server_places: dict[str, str] = {}
        self.address_places: dict[str, str] = {}
        self.first_num_addresses: tuple[str, int] | None = None
        self.ranks: list[ParsedRank] = []
        self.host_addresses: list[tuple[str, str]] = []

    def parse_server(self, where: str, server: Any) -> Server:
        server_id = self.parse_server_id(where, server)
        host_ip = None
        if isinstance(server, dict) and "host_ip" in server:
            host_ip = get_address(server, "host_ip", where, self.findings)
        if host_ip is not None:
            self.host_addresses.append((join(where, "host_ip"), host_ip))
        devices = [
            self.parse_device(path, device, server_id, has_host_ip=host_ip is not None)
            for path, device in iter_list(server, "device", where, self.findings)
        ]
        name = peek_text(server, "server_id") or ""
        addresses = peek_text(server, "host_ip"), peek_text(server, "pod_ip")
        return Server(name, tuple(devices), *addresses, self.pods.get(name))

    def parse_server_id(self, where: str, server: Any) -> str:
        """Return the server's id; one that cannot be read gets its path instead, so that devices stay together."""
        server_id = get_text(server, "server_id", where, self.findings)
        path = join(where, "server_id")
        if server_id is None:
            return self.findings.need(None, path)
        num_bytes = len(server_id.encode())
        if not 1 <= num_bytes <= MAX_SERVER_ID_BYTES:
            found = "the text is empty" if not num_bytes else f"{num_bytes} bytes"
            self.findings.error(E_PARA, path, f"{found}; expected 1 to {MAX_SERVER_ID_BYTES} bytes")
            return path
        first = self.server_places.setdefault(server_id, path)
        if first != path:
            self.findings.error(EI_VALUE, path, f"{quote(server_id)} is already at {first}; expected each server once")
        return server_id

    def parse_device(self, where: str, device: Any, server_id: str, *, has_host_ip: bool) -> Device:
        findings = self.findings
        device_id = get_device_id(device, where, findings, DEVICES_A_SERVER[self.chip] - 1)
        physical = findings.need(device_id, 0)
        rank = get_number(device, "rank_id", where, findings)
        number = findings.need(rank, 0)
        addresses = self.parse_addresses(where, device, has_host_ip=has_host_ip)
        ports = [
            get_number(device, key, where, findings, required=False, limits=PORTS)
            for key in ("device_port", "device_vnic_port", "host_port")
        ]
        super_device = self.parse_super_device(where, device, server_id) if self.has_super_devices else None
        self.ranks.append(ParsedRank(where, rank, server_id, device_id, addresses))
        return Device(physical, number, tuple(addresses), super_device, ports[0])

    def parse_super_device(self, where: str, device: Any, server_id: str) -> int | None:
        needed = self.needs_super_devices
        limits = (0, NO_SDID - 1 if needed else NO_SDID)
        number = get_number(device, "super_device_id", where, self.findings, required=needed, limits=limits)
        if number is not None:
            self.super_devices.append(SuperDevice(join(where, "super_device_id"), server_id, number))
        return number

    def parse_addresses(self, where: str, device: Any, *, has_host_ip: bool) -> list[str]:
        """Return the addresses of a device; what is no string counts as no address, and is not always refused.

        One server needs none. On several host_ip stands in for it, but not on 910B; an A3 never asks (without
        HCCL_INTRA_ROCE_ENABLE, and servers are read before super pods are counted).
        """
        path = join(where, "device_ip")
        is_there = isinstance(device, dict) and "device_ip" in device
        value = device["device_ip"] if is_there else None
        text = value if isinstance(value, str) else None
        if self.num_servers > 1:
            lacks = (text is None and not has_host_ip) or (self.chip == "910b" and not text)
            is_refused = lacks and self.chip != "a3"
        else:
            is_refused = is_there and text is None and not has_host_ip
        if is_refused:
            found = f"{quote(value)} is {kind(value)}" if is_there else "the key is missing"
            several = f", since there are {self.num_servers} servers" if self.num_servers > 1 else ""
            found = "the text is empty" if text == "" else found
            self.findings.error(EI_VALUE, path, f"{found}; expected the address of its port as a string{several}")
            return []
        addresses = text.split(",") if text else []
        self.check_addresses(path, addresses)
        return addresses

    def check_addresses(self, path: str, addresses: list[str]) -> None:
        if self.first_num_addresses is None:
            self.first_num_addresses = (path, len(addresses))
        elif addresses and self.first_num_addresses[1] and len(addresses) != self.first_num_addresses[1]:
            first, num = self.first_num_addresses
            self.findings.error(
                E_PARA, path, f"{len(addresses)} addresses, {first} has {num}; expected as many everywhere"
            )
        for address in addresses:
            if not is_address(address):
                self.findings.error(EI_VALUE, path, f"{quote(address)} is not a valid IP address")
                continue
            first_place = self.address_places.get(address)
            if first_place is not None:
                found = f"{quote(address)} is already at {first_place}"
                self.findings.error(EI_VALUE, path, f"{found}; expected each address once in the file")
            self.address_places[address] = first_place or path


def check_concise(root: dict[str, Any], format_: Format, chip: Chip, findings: Findings) -> list[Server]:
    """Check format 1.0 or 1.2 for one of 910, 910b, a3 and 310p3, and return its servers."""
    entries = root.get("server_list")
    num_servers = len(entries) if isinstance(entries, list) else 0
    _check_server_count(root, num_servers, findings)
    parser = _Parser(root, format_, chip, num_servers, findings)
    servers = [parser.parse_server(where, server) for where, server in iter_list(root, "server_list", "", findings)]
    if not parser.ranks:
        return servers
    check_ranks(parser.ranks, chip, findings)
    if num_servers > 1:
        check_one_family(parser.host_addresses, "host_ip", EI_VALUE, findings)
    if format_ is Format.SUPER_POD and chip == "a3":
        check_super_pods(root, parser.server_places, parser.super_devices, findings)
    advise_concise(root, format_, chip, findings)
    return servers


def _check_server_count(root: dict[str, Any], num_servers: int, findings: Findings) -> None:
    if "server_count" not in root:
        return
    count = get_number(root, "server_count", "", findings)
    if count == 0:
        findings.error(EI_VALUE, "server_count", '"0"; expected the number of servers')
    elif count is not None and num_servers and count != num_servers:
        text = root["server_count"]
        found = f"{quote(text)}, but server_list has {num_servers}"
        findings.error(EI_VALUE, "server_count", f"{found}; expected the same number")
