"""A rank table as a person reads it, with rich: a line a rank, or a line a server where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from fcn4dist.ascend.rank_table.rules.rank_ids import HOST_DEVICE
from fcn4dist.ascend.rank_table.schema import Device, RankTable, Server

MAX_RANK_LINES = 256  # beyond that a line a server
_RIGHT = frozenset({"rank", "ranks", "device", "devices", "SDID", "SDIDs", "port", "ports"})
Row = dict[str, str]


def print_table(table: RankTable, title: str, *, file: TextIO | None = None, rank: int | None = None) -> None:
    """Print servers, devices, ranks, addresses and super pods; with `rank` that one alone."""
    pairs = [pair for pair in _by_rank(table) if rank is None or pair[1].rank == rank]
    if len(pairs) <= MAX_RANK_LINES:
        rows = [_rank_row(server, device) for server, device in pairs]
    else:
        rows = [_server_row(server) for server in table.servers]
    console = Console(file=file, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(f"{title}: format {table.format.value}, {_count(table)}")
    shown = Table(box=None, pad_edge=False)
    columns = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    for name in columns:
        shown.add_column(name, justify="right" if name in _RIGHT else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(row[name] for name in columns))
    console.print(shown)


def _count(table: RankTable) -> str:
    counts = [(len(table.super_pods), "super pod"), (len(table.servers), "server"), (table.world_size, "rank")]
    return ", ".join(f"{count} {noun}{'s' if count != 1 else ''}" for count, noun in counts if count)


def _by_rank(table: RankTable) -> list[tuple[Server, Device]]:
    pairs = [(server, device) for server in table.servers for device in server.devices]
    return sorted(pairs, key=lambda pair: pair[1].rank)


def _rank_row(server: Server, device: Device) -> Row:
    return {
        "rank": str(device.rank),
        **_server_cells(server),
        "device": "host" if device.device_id == HOST_DEVICE else str(device.device_id),
        "address": " ".join(device.device_ips),
        "SDID": "" if device.super_device_id is None else str(device.super_device_id),
        "port": "" if device.device_port is None else str(device.device_port),
    }


def _server_row(server: Server) -> Row:
    addresses = [address for device in server.devices for address in device.device_ips]
    return {
        "ranks": format_ranges([device.rank for device in server.devices]),
        **_server_cells(server),
        "devices": format_ranges([device.device_id for device in server.devices if device.device_id != HOST_DEVICE]),
        "addresses": f"{addresses[0]} … {addresses[-1]}" if len(addresses) > 1 else "".join(addresses),
        "SDIDs": format_ranges([d.super_device_id for d in server.devices if d.super_device_id is not None]),
        "ports": format_ranges([device.device_port for device in server.devices if device.device_port is not None]),
    }


def _server_cells(server: Server) -> Row:
    """A host_ip or pod_ip that is the server id itself says nothing new."""
    return {
        "super pod": server.super_pod_id or "",
        "server": server.server_id,
        "host_ip": server.host_ip if server.host_ip and server.host_ip != server.server_id else "",
        "pod_ip": server.pod_ip if server.pod_ip and server.pod_ip != server.server_id else "",
    }


def format_ranges(numbers: Sequence[int]) -> str:
    """Return numbers as ranges: [0, 1, 2, 5] is "0-2,5"."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def describe(table: RankTable, rank: int | None = None) -> dict[str, Any]:
    """Return what `show --json` prints: the table, or one rank of it, in our own words."""
    ranks = [
        {
            "rank": device.rank,
            "server_id": server.server_id,
            "super_pod_id": server.super_pod_id,
            "host_ip": server.host_ip,
            "pod_ip": server.pod_ip,
            "device_id": None if device.device_id == HOST_DEVICE else device.device_id,
            "device_ips": list(device.device_ips),
            "super_device_id": device.super_device_id,
            "device_port": device.device_port,
        }
        for server, device in _by_rank(table)
        if rank is None or device.rank == rank
    ]
    counts = {"num_servers": len(table.servers), "world_size": table.world_size, "super_pods": table.super_pods}
    return {"format": table.format.value, **counts, "ranks": ranks}
