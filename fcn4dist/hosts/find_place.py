"""Which host of a job this one is: from options, a host file, Slurm, or what Kubernetes operators set."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.ascend.addresses import Resolver, is_routable, own_addresses, resolve_host
from fcn4dist.ascend.hostfile import Host, parse_hostfile
from fcn4dist.errors import ConfigError, RankTableError
from fcn4dist.hosts.place import DEFAULT_PORT, Place, check_node_rank, resolve_for_job
from fcn4dist.hosts.schedulers import place_from_environment


@dataclass(frozen=True)
class HostOptions:
    """What the user said about hosts; None where nothing was said."""

    nodes: int | None = None
    node_rank: int | None = None
    master_addr: str | None = None
    master_port: int | None = None
    hostfile: Path | None = None


def find_place(options: HostOptions, environ: Mapping[str, str], *, imagined: bool = False) -> Place | None:
    """Return this host's place, or None for a job on one host.

    Options come before the environment; `imagined` (a dry run) needs no --node-rank and no --master-addr, and a host
    file that does not list this machine is fine. Raises ConfigError for what is missing, contradicts or is out of range.
    """
    if options.hostfile is not None:
        return _from_hostfile(options, imagined=imagined)
    if options.nodes is not None:
        return _from_options(options, imagined=imagined)
    for name, value in (("--node-rank", options.node_rank), ("--master-addr", options.master_addr)):
        if value is not None:
            raise ConfigError(f"{name} {value}: goes with --nodes K; without it the job has one host")
    return place_from_environment(environ, options.master_port)


def _from_options(options: HostOptions, *, imagined: bool) -> Place | None:
    nodes = options.nodes
    assert nodes is not None
    if nodes < 1:
        raise ConfigError(f"--nodes {nodes}: expected at least 1")
    rank = options.node_rank if options.node_rank is not None or not (imagined or nodes == 1) else 0
    if rank is None:
        raise ConfigError(f"--nodes {nodes}: needs --node-rank I, this host's number, 0 to {nodes - 1}")
    check_node_rank(rank, nodes, "--node-rank")
    if nodes == 1:
        return None
    master = options.master_addr or ("node-0" if imagined else None)
    if master is None:
        raise ConfigError(f"--nodes {nodes}: needs --master-addr HOST, the name or address of node 0")
    return Place(nodes, rank, master, options.master_port or DEFAULT_PORT, "--nodes")


def _from_hostfile(options: HostOptions, *, imagined: bool) -> Place | None:
    file = options.hostfile
    assert file is not None
    try:
        text = file.read_text(encoding="utf-8")
        hosts = parse_hostfile(text, str(file), _imagining_resolver() if imagined else resolve_for_job)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--hostfile {file}: cannot be read: {error}") from None
    except RankTableError as error:
        raise ConfigError(str(error)) from None
    for name, value in (("--nodes", options.nodes), ("--master-addr", options.master_addr)):
        if value is not None:
            raise ConfigError(f"{name} {value}: --hostfile {file} says it already; leave one of them out")
    rank = options.node_rank if options.node_rank is not None else _find_self(hosts, file, imagined=imagined)
    check_node_rank(rank, len(hosts), "--node-rank")
    lists = tuple(None if host.is_counted else host.device_ids for host in hosts)
    counts = [len(host.device_ids) if host.device_ids is not None else 0 for host in hosts]
    missing = next((host for host, count in zip(hosts, counts, strict=True) if not count), None)
    if missing is not None and any(counts):
        raise ConfigError(
            f"{missing.where}: host {missing.name} has no slots=N, others have; expected it on all or none"
        )
    place = Place(
        num_nodes=len(hosts),
        node_rank=rank,
        master_host=hosts[0].address if imagined or hosts[0].has_address else hosts[0].name,
        master_port=options.master_port or DEFAULT_PORT,
        source=f"--hostfile {file}",
        devices=counts[rank] or None,
        device_ids=lists[rank],
        expected=tuple(counts) if all(counts) else None,
        names=tuple(host.name for host in hosts),
        device_lists=lists,
    )
    return place


def _imagining_resolver() -> Resolver:
    """Return a name lookup that also has an address for names that this machine does not know, for a dry run."""
    made: dict[str, str] = {}

    def resolve(name: str) -> list[str]:
        known = [address for address in resolve_host(name) if is_routable(address)]
        number = len(made) + 1
        return known or [made.setdefault(name, f"198.18.{number // 250}.{number % 250 + 1}")]  # RFC 2544: nobody's

    return resolve


def _find_self(hosts: Sequence[Host], file: Path, *, imagined: bool) -> int:
    own = own_addresses()
    mine = [rank for rank, host in enumerate(hosts) if host.address in own or host.name == socket.gethostname()]
    if len(mine) == 1 or (mine and imagined):
        return mine[0]
    if imagined:
        return 0
    if not mine:
        routable = ", ".join(sorted(address for address in own if is_routable(address))) or "none"
        raise ConfigError(
            f"--hostfile {file}: none of its hosts is this one (addresses: {routable}); say --node-rank I"
        )
    names = " and ".join(hosts[rank].name for rank in mine)
    raise ConfigError(f"--hostfile {file}: {names} are both this host; expected each host once")
