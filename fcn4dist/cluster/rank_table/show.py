"""A rank table as a person reads it, with rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from fcn4dist.cluster.rank_table.rules.ranks import HOST_DEVICE
from fcn4dist.cluster.rank_table.schema import Device, RankTable, Server


def print_table(table: RankTable, title: str, *, file: TextIO | None = None, rank: int | None = None) -> None:
    """Print servers, devices, ranks, addresses and super pods; with `rank` that one alone."""
    rows = [row for row in _rows(table) if rank is None or row[1].rank == rank]
    console = Console(file=file, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    console.print(f"{title}: format {table.format.value}, {_count(table)}")
    shown = Table(box=None, pad_edge=False)
    columns = _columns(rows)
    for name in columns:
        shown.add_column(
            name, justify="right" if name in ("rank", "device", "SDID", "port") else "left", overflow="fold"
        )
    for server, device in rows:
        shown.add_row(*(columns[name][_key(server, device)] for name in columns))
    console.print(shown)


def _count(table: RankTable) -> str:
    counts = [(len(table.super_pods), "super pod"), (len(table.servers), "server"), (table.world_size, "rank")]
    return ", ".join(f"{count} {noun}{'s' if count != 1 else ''}" for count, noun in counts if count)


def _rows(table: RankTable) -> list[tuple[Server, Device]]:
    pairs = [(server, device) for server in table.servers for device in server.devices]
    return sorted(pairs, key=lambda pair: pair[1].rank)


def _key(server: Server, device: Device) -> tuple[str, int, int]:
    return (server.server_id, device.device_id, device.rank)


def _columns(rows: Iterable[tuple[Server, Device]]) -> dict[str, dict[tuple[str, int, int], str]]:
    """Return the columns that have something to show, each as text a device."""
    columns: dict[str, dict[tuple[str, int, int], str]] = {}
    pairs = list(rows)
    for name in ("rank", "super pod", "server", "host", "pod", "device", "address", "SDID", "port"):
        texts = {_key(server, device): _cells(server, device)[name] for server, device in pairs}
        if any(texts.values()):
            columns[name] = texts
    return columns


def _cells(server: Server, device: Device) -> dict[str, str]:
    def text(value: object) -> str:
        return "" if value is None else str(value)

    return {
        "rank": str(device.rank),
        "super pod": text(server.super_pod_id),
        "server": server.server_id,
        "host": text(server.host_ip) if server.host_ip != server.server_id else "",
        "pod": text(server.pod_ip) if server.pod_ip != server.server_id else "",
        "device": "host" if device.device_id == HOST_DEVICE else str(device.device_id),
        "address": " ".join(device.device_ips),
        "SDID": text(device.super_device_id),
        "port": text(device.device_port),
    }


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
        for server, device in _rows(table)
        if rank is None or device.rank == rank
    ]
    counts = {"num_servers": len(table.servers), "world_size": table.world_size, "super_pods": table.super_pods}
    return {"format": table.format.value, **counts, "ranks": ranks}
