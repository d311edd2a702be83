"""IP addresses: those of this host, those of a name, and whether other hosts reach them."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable

import psutil

from fcn4dist.ascend.rank_table.rules.fields import is_address
from fcn4dist.errors import RankTableError

Resolver = Callable[[str], list[str]]  # host name -> its addresses


def resolve_host(name: str) -> list[str]:
    """Return the addresses of a host by the system's name lookup, IPv4 first; an empty list if it knows none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    addresses = [str(entry[4][0]).partition("%")[0] for entry in sorted(found, key=lambda entry: entry[0])]
    return list(dict.fromkeys(addresses))


def find_address(name: str, where: str, resolve: Resolver = resolve_host) -> str:
    """Return the routable address of a host: `name` if it is one, else what name lookup knows, never loopback.

    Raises RankTableError when there is none: 127.0.1.1 as server id, as /etc/hosts of Debian has it, would be the
    same on every host.
    """
    addresses = [name] if is_address(name) else resolve(name)
    routable = next((address for address in addresses if is_routable(address)), None)
    if routable is not None:
        return routable
    if addresses:
        raise RankTableError(f"{where}: {name} is {addresses[0]}, loopback or unspecified; expected a routable address")
    raise RankTableError(
        f"{where}: unknown host {name!r}: name lookup has no address; expected one that it knows, or an IP"
    )


def is_routable(address: str) -> bool:
    """Whether other hosts can reach the address at all."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return not (parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast)


def own_addresses() -> set[str]:
    """Return the IP addresses of this host's interfaces, loopback included."""
    return {address for addresses in own_interfaces().values() for address in addresses}


def own_interfaces() -> dict[str, list[str]]:
    """Return the IP addresses of this host by interface, loopback included."""
    groups = {
        name: [entry.address.partition("%")[0] for entry in entries] for name, entries in psutil.net_if_addrs().items()
    }
    return {name: [address for address in group if is_address(address)] for name, group in groups.items()}


def find_own_address() -> str:
    """Return the address of this host on its default route, else of its host name, else of any interface.

    No packet is sent. Raises RankTableError when the host has loopback alone.
    """
    for family, outside in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((outside, 9))
                address = str(probe.getsockname()[0])
        except OSError:
            continue
        if is_routable(address):
            return address
    with contextlib.suppress(RankTableError):
        return find_address(socket.gethostname(), "this host")
    for address in sorted(own_addresses()):
        if ipaddress.ip_address(address).version == 4 and is_routable(address):
            return address
    raise RankTableError("this host has no address but loopback; name one that other hosts reach with --server-id")
