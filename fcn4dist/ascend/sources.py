"""Where the servers of a table come from: this host, a host file, files of hosts, an inventory, or a rule."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fcn4dist.ascend.addresses import find_address
from fcn4dist.ascend.hostfile import (
    AddressPattern,
    Host,
    build_servers,
    load_collected,
    parse_devices,
    parse_hostfile,
    read_text,
)
from fcn4dist.ascend.rank_table.schema import Chip, Server
from fcn4dist.errors import RankTableError

DEFAULT_CHIP: Chip = "910b"


@dataclass(frozen=True)
class Source:
    """What an operator gave; None where nothing was given."""

    chip: Chip | None = None
    hostfile: Path | None = None
    hccn_conf: Path | None = None  # a folder of files, one a host
    inventory: Path | None = None
    servers: str | None = None  # names or addresses between commas
    devices: str | None = None  # "0-7"
    device_ip_pattern: str | None = None
    server_id: str | None = None  # this host's address


@dataclass(frozen=True)
class Cluster:
    """The servers, the chip that the table is for, and remarks for the operator."""

    servers: list[Server]
    chip: Chip
    remarks: list[str] = field(default_factory=list)


def collect_servers(source: Source, environment: Mapping[str, str] | None = None) -> Cluster:
    """Return the servers that `source` describes; without any description those of this host.

    Raises RankTableError for options that contradict each other and for everything that the readers refuse.
    """
    _check_options(source)
    if source.inventory is not None:
        from fcn4dist.ascend.inventory import load_inventory  # pydantic and yaml load here

        servers = load_inventory(source.inventory)
        has_pods = any(server.super_pod_id is not None for server in servers)
        return Cluster(servers, source.chip or ("a3" if has_pods else DEFAULT_CHIP), _chip_remark(source, servers))
    if source.hostfile is not None or source.servers is not None or source.hccn_conf is not None:
        servers = _servers_by_name(source)
        return Cluster(servers, source.chip or DEFAULT_CHIP, _chip_remark(source, servers))
    return _discover(source, os.environ if environment is None else environment)


def _check_options(source: Source) -> None:
    given = {
        "--hostfile": source.hostfile,
        "--inventory": source.inventory,
        "--servers": source.servers,
        "--hccn-conf": source.hccn_conf,
    }
    named = [option for option, value in given.items() if value is not None]
    if len(named) > 1 and set(named) not in ({"--hostfile", "--hccn-conf"}, {"--servers", "--hccn-conf"}):
        raise RankTableError(f"{' and '.join(named)} exclude each other; --hccn-conf goes with --hostfile or --servers")
    if source.device_ip_pattern is not None and (source.hccn_conf or source.inventory or not named):
        raise RankTableError("--device-ip-pattern goes with --servers or --hostfile alone")
    if source.inventory is not None and source.devices is not None:
        raise RankTableError("--devices does not go with --inventory, which lists the devices itself")
    if source.server_id is not None and named:
        raise RankTableError(f"--server-id names this host alone and does not go with {named[0]}")


def _servers_by_name(source: Source) -> list[Server]:
    hosts: list[Host] | None = None
    devices = parse_devices(source.devices, "--devices") if source.devices is not None else None
    if source.hostfile is not None:
        hosts = parse_hostfile(read_text(source.hostfile), str(source.hostfile))
        if devices is not None:
            hosts = [host if host.device_ids is not None else replace(host, device_ids=devices) for host in hosts]
    elif source.servers is not None:
        hosts = _hosts_by_option(source.servers, devices)
    if source.hccn_conf is not None:
        return load_collected(source.hccn_conf, hosts)
    pattern = AddressPattern(source.device_ip_pattern) if source.device_ip_pattern is not None else None
    return build_servers(hosts or [], pattern)


def _hosts_by_option(servers: str, devices: tuple[int, ...] | None) -> list[Host]:
    hosts: list[Host] = []
    seen: dict[str, str] = {}
    for name in (part.strip() for part in servers.split(",")):
        if not name:
            raise RankTableError(f"--servers {servers}: an empty name; expected names or addresses between commas")
        address = find_address(name, "--servers")
        if address in seen:
            raise RankTableError(f"--servers: {name} and {seen[address]} are one host, {address}; expected each once")
        seen[address] = name
        hosts.append(Host(name, address, devices, "--servers"))
    return hosts


def _chip_remark(source: Source, servers: list[Server]) -> list[str]:
    if source.chip is not None:
        return []
    has_pods = any(server.super_pod_id is not None for server in servers)
    return [f"no --chip: wrote for {'a3, since there are super pods' if has_pods else DEFAULT_CHIP}"]


def _discover(source: Source, environment: Mapping[str, str]) -> Cluster:
    from fcn4dist.ascend.discover import discover

    device_ids = parse_devices(source.devices, "--devices") if source.devices is not None else None
    address = find_address(source.server_id, "--server-id") if source.server_id is not None else None
    found = discover(environment, chip=source.chip, device_ids=device_ids, server_address=address)
    remarks = list(found.remarks)
    if source.chip is None:
        told = f"npu-smi names {found.chip}" if found.chip else f"npu-smi names no chip, wrote for {DEFAULT_CHIP}"
        remarks.append(f"no --chip: {told}")
    return Cluster([found.server], source.chip or found.chip or DEFAULT_CHIP, remarks)
