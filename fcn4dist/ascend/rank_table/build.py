"""Build a table: order the servers, give out ranks, choose the format by chip, and spell it as HCCL reads it."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from fcn4dist.ascend.rank_table.check import check_document, first_error
from fcn4dist.ascend.rank_table.read import Document
from fcn4dist.ascend.rank_table.schema import Chip, Device, Format, RankTable, Server
from fcn4dist.errors import RankTableError

_FORMATS: dict[Chip, Format] = {
    "910": Format.CONCISE,
    "910b": Format.CONCISE,
    "a3": Format.SUPER_POD,
    "310p3": Format.CONCISE,
    "950": Format.LAYERED,
}


def build_table(servers: Iterable[Server], chip: Chip) -> RankTable:
    """Return the table of `servers`, with ranks given out server by server and device by device.

    Servers stand in the text order of their ids, those of a super pod together; devices in the order of their ids.
    Both are what MindSpore and HCCL's documentation ask for. Raises RankTableError for super pods that are half named.
    """
    ordered = order_servers(list(servers))
    if not ordered:
        raise RankTableError("no server is given; expected at least one")
    _check_super_pods(ordered, chip)
    rank = 0
    numbered = []
    for server in ordered:
        devices = sorted(server.devices, key=lambda device: device.device_id)
        numbered.append(replace(server, devices=tuple(replace(d, rank=rank + i) for i, d in enumerate(devices))))
        rank += len(devices)
    return RankTable(_FORMATS[chip], tuple(numbered))


def order_servers(servers: Sequence[Server]) -> list[Server]:
    """Return the servers by id as text; super pods by their first server, and each kept together."""
    first: dict[str | None, str] = {}
    for server in servers:
        lowest = first.get(server.super_pod_id)
        first[server.super_pod_id] = server.server_id if lowest is None else min(lowest, server.server_id)

    def key(server: Server) -> tuple[str, str]:
        return (first[server.super_pod_id] if server.super_pod_id is not None else "", server.server_id)

    return sorted(servers, key=key)


def _check_super_pods(servers: Sequence[Server], chip: Chip) -> None:
    with_pod = [server for server in servers if server.super_pod_id is not None]
    if not with_pod or chip == "950":
        return
    if chip != "a3":
        raise RankTableError(
            f"server {with_pod[0].server_id} has a super_pod_id, but {chip} knows none; expected chip a3"
        )
    for server in servers:
        if server.super_pod_id is None:
            found = f"server {server.server_id} has no super_pod_id, {with_pod[0].server_id} has one"
            raise RankTableError(f"{found}; expected it on all servers or on none")
        for device in server.devices:
            if device.super_device_id is None:
                place = f"server {server.server_id}: device {device.device_id}"
                raise RankTableError(
                    f"{place} has no super_device_id; expected its SDID: `npu-smi info -t spod-info -i NPU -c CHIP`"
                )


def format_table(table: RankTable) -> dict[str, Any]:
    """Return the JSON document of a table of format 1.0, 1.2 or 2.0, ready to be used ("completed")."""
    if table.format is Format.LAYERED:
        return _format_layered(table)
    document: dict[str, Any] = {
        "version": table.format.value,
        "status": "completed",
        "server_count": str(len(table.servers)),
        "server_list": [_format_server(server) for server in table.servers],
    }
    if table.super_pods:
        document["super_pod_list"] = [
            {"super_pod_id": pod, "server_list": [{"server_id": server_id} for server_id in server_ids]}
            for pod, server_ids in table.super_pods.items()
        ]
    return document


def _format_server(server: Server) -> dict[str, Any]:
    entry: dict[str, Any] = {"server_id": server.server_id}
    if server.host_ip is not None:
        entry["host_ip"] = server.host_ip
    if server.pod_ip is not None:
        entry["pod_ip"] = server.pod_ip
    entry["device"] = [_format_device(device) for device in server.devices]
    return entry


def _format_device(device: Device) -> dict[str, str]:
    entry = {"device_id": str(device.device_id)}
    if device.device_ips:
        entry["device_ip"] = ",".join(device.device_ips)
    if device.super_device_id is not None:
        entry["super_device_id"] = str(device.super_device_id)
    if device.device_port is not None:
        entry["device_port"] = str(device.device_port)
    entry["rank_id"] = str(device.rank)
    return entry


def _format_layered(table: RankTable) -> dict[str, Any]:
    """Format 2.0; only what a table without network layers can say: one server, one address a device.

    Raises RankTableError for several servers without `level_list`, since their layers cannot be guessed.
    """
    ranks = []
    for server in table.servers:
        for device in server.devices:
            levels = list(device.levels) or _default_levels(table, server, device)
            entry: dict[str, Any] = {
                "rank_id": device.rank,
                "local_id": device.device_id,
                "device_id": device.device_id,
            }
            if device.device_port is not None:
                entry["device_port"] = device.device_port
            ranks.append({**entry, "level_list": levels})
    return {"version": "2.0", "status": "completed", "rank_count": len(ranks), "rank_list": ranks}


def _default_levels(table: RankTable, server: Server, device: Device) -> list[dict[str, Any]]:
    place = f"server {server.server_id}: device {device.device_id}"
    if len(table.servers) > 1:
        raise RankTableError(f"{place} has no level_list; expected its network layers, as 950 has several servers here")
    if not device.device_ips:
        raise RankTableError(f"{place} has neither level_list nor device_ip; expected one of them for 950")
    addresses = [
        {"addr_type": f"IPV{ipaddress.ip_address(address).version}", "addr": address, "ports": list(device.ports)}
        for address in device.device_ips
    ]
    instance = server.super_pod_id or server.server_id
    return [{"net_layer": 0, "net_instance_id": instance, "net_type": "TOPO_FILE_DESC", "rank_addr_list": addresses}]


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def check_written(document: dict[str, Any], chip: Chip, name: str = "table.json") -> None:
    """Hold what is about to be written to HCCL's rules, and to MindSpore's scheduler's.

    Raises RankTableError with the first finding: the input asks for a table that the chip refuses.
    """
    format_ = Format(document["version"])
    verdict = check_document(Document(name, document, format_, None, ()), chip, msrun=True)
    if (error := first_error(verdict)) is not None:
        code = f" [{error.code}]" if error.code else ""
        raise RankTableError(f"HCCL of {chip} would refuse the table: {error.where}: {error.message}{code}")


def to_text(document: Any) -> str:
    """Return the JSON text of a table: indented, but devices and other flat objects on one line each."""
    return _render(document, "") + "\n"


def _render(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and any(isinstance(item, (dict, list)) for item in value.values()):
        lines = (f"{inner}{json.dumps(key)}: {_render(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(f"{inner}{_render(item, inner)}" for item in value) + f"\n{indent}]"
    return _encode(value)
