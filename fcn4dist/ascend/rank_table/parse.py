"""A document as a value: servers, devices and ranks of any format, for those who show, plan or compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fcn4dist.ascend.rank_table.check import check_document, first_error
from fcn4dist.ascend.rank_table.findings import Findings
from fcn4dist.ascend.rank_table.read import Document, load_table
from fcn4dist.ascend.rank_table.rules.advice import list_children, read_super_pods
from fcn4dist.ascend.rank_table.rules.fields import get_number, get_text, iter_list
from fcn4dist.ascend.rank_table.rules.heterogeneous import get_signed
from fcn4dist.ascend.rank_table.rules.layered import get_integer
from fcn4dist.ascend.rank_table.rules.ranks import HOST_DEVICE
from fcn4dist.ascend.rank_table.schema import Chip, Device, Format, RankTable, Server
from fcn4dist.errors import RankTableError


def load_rank_table(path: Path) -> RankTable:
    """Read a file and return its servers, devices and ranks.

    Reads what `check_document` would refuse as far as it can, so look at the verdict first where it matters.
    Raises RankTableError naming the path of a value that is missing or unreadable.
    """
    return parse_table(load_table(path))


def load_accepted_table(path: Path, chip: Chip, *, msrun: bool = True) -> RankTable:
    """Read a file that is about to be used: HCCL of `chip`, and with `msrun` MindSpore's scheduler, must accept it.

    Raises RankTableError with the first reason against it.
    """
    document = load_table(path)
    error = first_error(check_document(document, chip, msrun=msrun))
    if error is not None:
        code = f" [{error.code}]" if error.code else ""
        raise RankTableError(f"{path}: {error.where}: {error.message}{code}")
    return parse_table(document)


def parse_table(document: Document) -> RankTable:
    """Return the table in a document; raises RankTableError naming the first value that cannot be read."""
    findings = Findings()
    servers = _parse(document.root, document.format, findings)
    for finding in findings.items:
        if finding.severity == "error":
            raise RankTableError(f"{document.file}: {finding.where}: {finding.message}")
    return RankTable(document.format, tuple(servers))


def _parse(root: Any, format_: Format, findings: Findings) -> list[Server]:
    if format_ in (Format.CONCISE, Format.SUPER_POD):
        return list(_parse_concise(root, format_, findings))
    if format_ in (Format.CLOUD, Format.LAB):
        return _parse_template_two(root, format_, findings)
    if format_ is Format.HETEROGENEOUS:
        return list(_parse_heterogeneous(root, findings))
    if format_ is Format.LAYERED:
        return _parse_layered(root, findings)
    findings.error(None, "version", 'no known format; expected "version" 1.0, 1.1, 1.2 or 2.0, or group_list')
    return []


def _parse_concise(root: Any, format_: Format, findings: Findings) -> Iterator[Server]:
    pods = read_super_pods(root) if format_ is Format.SUPER_POD else {}
    for where, entry in iter_list(root, "server_list", "", findings):
        server_id = get_text(entry, "server_id", where, findings) or ""
        devices = []
        for path, device in iter_list(entry, "device", where, findings):
            addresses = get_text(device, "device_ip", path, findings, required=False)
            devices.append(
                Device(
                    device_id=get_number(device, "device_id", path, findings) or 0,
                    rank=get_number(device, "rank_id", path, findings) or 0,
                    device_ips=tuple(addresses.split(",")) if addresses else (),
                    super_device_id=get_number(device, "super_device_id", path, findings, required=False),
                    device_port=get_number(device, "device_port", path, findings, required=False),
                )
            )
        host_ip = get_text(entry, "host_ip", where, findings, required=False)
        pod_ip = get_text(entry, "pod_ip", where, findings, required=False)
        yield Server(server_id, tuple(devices), host_ip, pod_ip, pods.get(server_id))


def _parse_template_two(root: Any, format_: Format, findings: Findings) -> list[Server]:
    """In cloud mode ranks follow the byte order of server ids, then device ids; in lab mode they are in the file."""
    servers: dict[str, list[Device]] = defaultdict(list)
    for where, group in iter_list(root, "group_list", "", findings):
        for place, instance in iter_list(group, "instance_list", where, findings):
            server_id = get_text(instance, "server_id", place, findings) or ""
            rank = get_number(instance, "rank_id", place, findings) or 0 if format_ is Format.LAB else -1
            for path, device in iter_list(instance, "devices", place, findings):
                device_id = get_number(device, "device_id", path, findings) or 0
                address = get_text(device, "device_ip", path, findings, required=False)
                servers[server_id].append(Device(device_id, rank, (address,) if address else ()))
    if format_ is Format.LAB:
        return [Server(server_id, tuple(devices)) for server_id, devices in servers.items()]
    found, next_rank = [], 0
    for server_id in sorted(servers, key=str.encode):
        devices = sorted(servers[server_id], key=lambda device: device.device_id)
        found.append(Server(server_id, tuple(replace(d, rank=next_rank + i) for i, d in enumerate(devices))))
        next_rank += len(devices)
    return found


def _parse_heterogeneous(root: Any, findings: Findings) -> Iterator[Server]:
    for where, node in iter_list(root, "node_list", "", findings):
        address = get_text(node, "node_addr", where, findings) or ""
        devices = []
        for path, rank in iter_list(node, "ranks", where, findings):
            number = get_number(rank, "rank_id", path, findings) or 0
            device_id = get_signed(rank, "device_id", path, False, findings)
            rank_ip = get_text(rank, "rank_ip", path, findings, required=False)
            host_rank = HOST_DEVICE if device_id is None else device_id
            devices.append(Device(host_rank, number, (rank_ip,) if rank_ip else ()))
        yield Server(address, tuple(devices), host_ip=address)


def _parse_layered(root: Any, findings: Findings) -> list[Server]:
    """2.0 names no servers: the ranks of one instance of the lowest layer stand for one."""
    servers: dict[str, list[Device]] = defaultdict(list)
    for where, rank in iter_list(root, "rank_list", "", findings):
        device = Device(
            device_id=get_integer(rank, "device_id", where, findings) or 0,
            rank=get_integer(rank, "rank_id", where, findings) or 0,
            device_ips=tuple(_layer_addresses(rank)),
            device_port=get_integer(rank, "device_port", where, findings, required=False),
        )
        servers[find_instance(rank)].append(device)
    return [Server(instance, tuple(devices)) for instance, devices in servers.items()]


def find_instance(rank: Any) -> str:
    """Return the instance of the lowest network layer of a 2.0 rank; an empty text when it has none."""
    levels = list_children([("", rank)], "level_list")
    lowest = levels[0][1] if levels else None
    return str(lowest.get("net_instance_id", "")) if isinstance(lowest, dict) else ""


def _layer_addresses(rank: Any) -> Iterator[str]:
    """Yield the IP addresses of a 2.0 rank in all its layers; EIDs are no addresses for people."""
    for _, entry in list_children(list_children([("", rank)], "level_list"), "rank_addr_list"):
        if isinstance(entry, dict) and entry.get("addr_type") in ("IPV4", "IPV6"):
            yield str(entry.get("addr", ""))


def find_rank(table: RankTable, rank: int) -> tuple[Server, Device]:
    """Return where a rank is; raises RankTableError when the table has no such rank."""
    for server in table.servers:
        for device in server.devices:
            if device.rank == rank:
                return server, device
    raise RankTableError(f"rank {rank} is not in the table; expected 0 to {table.world_size - 1}")
