"""A host's place in a job over hosts, and the addresses under which the hosts find each other."""

from __future__ import annotations

import ipaddress
import logging
import socket
from dataclasses import dataclass

from fcn4dist.ascend.addresses import find_own_address, is_routable, own_addresses, resolve_host
from fcn4dist.ascend.rank_table.rules.fields import is_address
from fcn4dist.errors import ConfigError, RankTableError

log = logging.getLogger(__name__)
DEFAULT_PORT = 29400  # where launchers meet; outside MindSpore's 8118-12213 and Linux's ephemeral ports


@dataclass(frozen=True)
class Place:
    """This host's place in a job over hosts."""

    num_nodes: int
    node_rank: int  # 0 .. num_nodes - 1; 0 is the master
    master_host: str  # a name or an address
    master_port: int  # where the launchers meet
    source: str  # where all this was read, for people
    devices: int | None = None  # of this host, where the source says so
    device_ids: tuple[int, ...] | None = None  # physical ids of this host's, where a host file lists them
    expected: tuple[int, ...] | None = None  # devices of every host, where the source knows them
    names: tuple[str, ...] | None = None  # of every host, where the source knows them
    device_lists: tuple[tuple[int, ...] | None, ...] | None = None  # of every host, where a host file lists them

    @property
    def is_master(self) -> bool:
        """Whether the launchers meet on this host."""
        return self.node_rank == 0


def check_node_rank(rank: int, nodes: int, where: str) -> None:
    """Raise ConfigError unless 0 <= rank < nodes."""
    if not 0 <= rank < nodes:
        raise ConfigError(f"{where} {rank}: out of range; {nodes} hosts have the numbers 0 to {nodes - 1}")


def resolve_for_job(name: str) -> list[str]:
    """Return the addresses of a host as `resolve_host` does, but never this host's name as loopback.

    Debian's /etc/hosts has 127.0.1.1 for the own name; others cannot reach that, so it is the default route's address then.
    """
    addresses = resolve_host(name)
    short = socket.gethostname().partition(".")[0]
    if any(is_routable(address) for address in addresses) or name.partition(".")[0] != short:
        return addresses
    try:
        return [find_own_address()]
    except RankTableError:
        return addresses


def resolve_master(place: Place) -> tuple[str, ...]:
    """Return the addresses of the master, to be tried in turn; on the master itself the one of its own to listen on.

    A name never means loopback, which is another machine on each host. Loopback that is given as an address is taken: several
    launchers on one machine, to try things. Raises ConfigError.
    """
    host = place.master_host
    addresses = [str(ipaddress.ip_address(host))] if is_address(host) else resolve_for_job(host)
    if is_address(host) and ipaddress.ip_address(host).is_loopback:
        log.warning("--master-addr %s is loopback: all launchers must be on this machine", host)
        return (addresses[0],)
    if not addresses:
        raise ConfigError(f"--master-addr {host}: unknown host; expected a name that all hosts know, or an address")
    own = own_addresses()
    mine_text = ", ".join(sorted(address for address in own if is_routable(address))) or "none"
    routable = tuple(address for address in addresses if is_routable(address))
    if not routable:
        whose = f"this host's addresses: {mine_text}" if place.is_master else "expected a name or an address of node 0"
        raise ConfigError(f"--master-addr {host} is {addresses[0]}, which other hosts cannot reach; {whose}")
    if not place.is_master:
        return routable
    mine = [address for address in routable if address in own]
    if not mine:
        raise ConfigError(
            f"--master-addr {host} is {routable[0]}, not an address of this host, which is node 0; its own: {mine_text}"
        )
    return (mine[0],)
