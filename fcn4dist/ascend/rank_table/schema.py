"""What a rank table holds: chips, formats, and the servers and devices of one cluster as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args

Chip = Literal["910", "910b", "a3", "310p3", "950"]
CHIPS: tuple[Chip, ...] = get_args(Chip)

# Physical ids on one server are 0 .. n-1 (HCCL's own limit a chip); on 950 the last one is the backup NPU.
DEVICES_A_SERVER: dict[Chip, int] = {"910": 8, "910b": 16, "a3": 16, "310p3": 32, "950": 65}


class Format(str, Enum):
    """The layouts that HCCL's parsers know; the value is what messages and --json call it."""

    CONCISE = "1.0"  # template one: 910, 910B, 300I Duo, A3 without super pods
    SUPER_POD = "1.2"  # template one with super pods: A3
    HETEROGENEOUS = "1.1"  # host and device ranks, by node
    CLOUD = "template two (cloud)"  # no version: ranks follow from the order of server ids
    LAB = "template two (lab)"  # no version, but deploy_mode: MindSpore 0.x and 1.0
    LAYERED = "2.0"  # 950: by rank, with network layers
    UNKNOWN = "unknown"  # not a rank table, or not JSON at all

    @property
    def chips(self) -> tuple[Chip, ...]:
        """The chips whose library knows this format; all of them when there is nothing to go by."""
        if self is Format.UNKNOWN:
            return CHIPS
        return ("950",) if self is Format.LAYERED else ("910", "910b", "a3", "310p3")


@dataclass(frozen=True, slots=True)
class Device:
    """One NPU, or one of the two dies of an A3 NPU."""

    device_id: int  # physical id on its server
    rank: int = -1  # 0 .. world_size - 1; -1 before ranks are given out
    device_ips: tuple[str, ...] = ()  # addresses of its RoCE port
    super_device_id: int | None = None  # SDID, unique in the super pod (A3)
    device_port: int | None = None
    ports: tuple[str, ...] = ("0/0",)  # die/port of device_ips (950)
    levels: tuple[dict[str, Any], ...] = ()  # network layers as in the file (950)


@dataclass(frozen=True, slots=True)
class Server:
    """One host and its devices, in the order of the file."""

    server_id: str
    devices: tuple[Device, ...]
    host_ip: str | None = None
    pod_ip: str | None = None  # what MindSpore's scheduler compares with the workers' address
    super_pod_id: str | None = None


@dataclass(frozen=True, slots=True)
class RankTable:
    """A cluster: its servers in the order of the file."""

    format: Format
    servers: tuple[Server, ...]

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return sum(len(server.devices) for server in self.servers)

    @property
    def super_pods(self) -> dict[str, list[str]]:
        """The server ids of every super pod, in the order of the file."""
        pods: dict[str, list[str]] = {}
        for server in self.servers:
            if server.super_pod_id is not None:
                pods.setdefault(server.super_pod_id, []).append(server.server_id)
        return pods
