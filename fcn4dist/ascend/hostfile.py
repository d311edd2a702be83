"""Servers from what an operator writes: device lists, host files, address patterns, files collected from hosts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.ascend.addresses import Resolver, find_address, resolve_host
from fcn4dist.ascend.rank_table.rules.fields import is_address
from fcn4dist.ascend.rank_table.schema import Device, Server
from fcn4dist.ascend.tools import parse_hccn_conf
from fcn4dist.errors import RankTableError

MAX_DEVICE_ID = 64

_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")
_FIELD = re.compile(r"\{(server|device|rank)(?:\s*([+-])\s*(\d+))?\}")
_CONF_NAMES = re.compile(r"(?:^hccn\.conf[._-])|(?:[._-]?hccn)?\.conf$|[._-]hccn\.conf$")


@dataclass(frozen=True, slots=True)
class Host:
    """One line of a host file."""

    name: str
    address: str  # routable
    device_ids: tuple[int, ...] | None  # physical ids; None: all that the host has
    where: str  # for messages
    has_address: bool = False  # the file gives the address itself, so nobody looks the name up
    is_counted: bool = False  # only their number was given (slots=N): a launcher there takes its first N


def parse_devices(text: str, where: str) -> tuple[int, ...]:
    """Return the device ids of a list such as "0-3,6": ascending, each once.

    Raises RankTableError naming `where` for anything else.
    """
    ids: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise RankTableError(f'{where}: {part.strip()!r} is no device list; expected ids and ranges as "0-3,6"')
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last > MAX_DEVICE_ID:
            raise RankTableError(
                f"{where}: {part.strip()!r}; expected a range that goes up, to {MAX_DEVICE_ID} at most"
            )
        ids.extend(range(first, last + 1))
    repeated = next((device for index, device in enumerate(ids) if device in ids[:index]), None)
    if repeated is not None:
        raise RankTableError(f"{where}: device {repeated} is given twice; expected each once")
    return tuple(sorted(ids))


def parse_hostfile(text: str, file: str, resolve: Resolver = resolve_host) -> list[Host]:
    """Return the hosts of a host file: `HOST [ADDRESS] [slots=N] [devices=LIST]` a line, or `HOST:N`; `#` begins a comment.

    `slots=N` alone means devices 0 .. N-1; `HOST=ADDRESS` is `HOST ADDRESS`. Raises RankTableError naming file and line
    for a duplicate or unknown host, zero slots, slots that contradict the list, and anything else that is no such line.
    """
    hosts: list[Host] = []
    places: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"{file}:{number}"
        name, given, options = _split_host(words, where)
        address = find_address(given or name, where, resolve)
        for key in dict.fromkeys((name, address)):
            if key in places:
                raise RankTableError(f"{where}: host {key} is already at {places[key]}; expected each host once")
            places[key] = where
        is_counted = "devices" not in options
        devices = _host_devices(options, where)
        hosts.append(Host(name, address, devices, where, has_address=given is not None, is_counted=is_counted))
    if not hosts:
        raise RankTableError(f"{file}: no host in it; expected a host a line")
    return hosts


def _split_host(words: Sequence[str], where: str) -> tuple[str, str | None, dict[str, str]]:
    """Return the name, the address where the line gives it, and what is said of the devices."""
    name, sign, right = words[0].partition("=")
    address, rest, options = right if sign else None, list(words[1:]), {}
    if address is None and rest and is_address(rest[0]):
        address = rest.pop(0)
    if address is not None and not (name and is_address(address)):
        raise RankTableError(f"{where}: {words[0]!r}; expected HOST=ADDRESS, such as node-1=192.0.2.7")
    if address is not None and is_address(name):
        raise RankTableError(f"{where}: {name} and {address} are both addresses; expected a name and an address")
    if name.count(":") == 1:  # the MPICH spelling; an IPv6 address has more
        name, _, options["slots"] = name.partition(":")
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals or key not in ("slots", "devices") or key in options:
            raise RankTableError(f"{where}: {word!r}; expected HOST [ADDRESS] [slots=N] [devices=LIST]")
        options[key] = value
    return name, address, options


def _host_devices(options: dict[str, str], where: str) -> tuple[int, ...] | None:
    slots = options.get("slots")
    if slots is not None and not (slots.isascii() and slots.isdigit() and 1 <= int(slots[:6]) <= MAX_DEVICE_ID):
        raise RankTableError(f"{where}: slots={slots}; expected a number 1 to {MAX_DEVICE_ID}")
    if "devices" not in options:
        return None if slots is None else tuple(range(int(slots)))
    devices = parse_devices(options["devices"], where)
    if slots is not None and int(slots) != len(devices):
        raise RankTableError(f"{where}: slots={slots}, but devices={options['devices']} are {len(devices)}")
    return devices


class AddressPattern:
    """Device addresses by rule: "198.51.{server}.{device+1}", or a network, "198.18.0.0/15", one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.network: ipaddress.IPv4Interface | ipaddress.IPv6Interface | None = None
        if "/" in text:
            try:
                self.network = ipaddress.ip_interface(text)
            except ValueError as error:
                raise RankTableError(f"--device-ip-pattern {text}: {error}") from None
        elif not _FIELD.search(text):
            fields = "{server}, {device} or {rank}, as in 198.51.{server}.{device+1}, or a network as 198.18.0.0/15"
            raise RankTableError(f"--device-ip-pattern {text}: no field in it; expected {fields}")

    def addresses(self, device_ids: Sequence[Sequence[int]]) -> list[list[str]]:
        """Return an address for every device of every server; servers, devices and ranks count from 0.

        Raises RankTableError where the rule gives no valid address, or too few.
        """
        rank = 0
        found = []
        for server, ids in enumerate(device_ids):
            ranks = range(rank, rank + len(ids))
            if self.network is not None:
                found.append([self._count(self.network, position) for position in ranks])
            else:
                found.append([self._fill(server, device, place) for device, place in zip(ids, ranks, strict=True)])
            rank = ranks.stop
        return found

    def _count(self, interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface, rank: int) -> str:
        """Return the rank-th address from the one that was given; the network's own address is passed over."""
        start = interface.ip if interface.ip != interface.network.network_address else interface.ip + 1
        last = interface.network.broadcast_address
        if int(start) + rank >= int(last):
            raise RankTableError(
                f"--device-ip-pattern {self.text}: no address left for rank {rank}; expected a larger network"
            )
        return str(start + rank)

    def _fill(self, server: int, device: int, rank: int) -> str:
        values = {"server": server, "device": device, "rank": rank}

        def replace(match: re.Match[str]) -> str:
            offset = int(match[3] or 0)
            return str(values[match[1]] + (-offset if match[2] == "-" else offset))

        address = _FIELD.sub(replace, self.text)
        if not is_address(address):
            place = f"server {server}, device {device}"
            raise RankTableError(f"--device-ip-pattern {self.text}: {address!r} for {place} is no IP address")
        return address


def build_servers(hosts: Sequence[Host], pattern: AddressPattern | None) -> list[Server]:
    """Return the servers of hosts whose devices are known, with addresses by rule or without any."""
    ids = [require_devices(host) for host in hosts]
    addresses = pattern.addresses(ids) if pattern is not None else [[""] * len(devices) for devices in ids]
    return [
        build_server(host.address, dict(zip(devices, found, strict=True)))
        for host, devices, found in zip(hosts, ids, addresses, strict=True)
    ]


def require_devices(host: Host) -> tuple[int, ...]:
    """Return the host's devices; raises RankTableError when nothing says which."""
    if host.device_ids is None:
        raise RankTableError(
            f"{host.where}: host {host.name} has no devices; expected slots=N, devices=LIST or --devices"
        )
    return host.device_ids


def build_server(address: str, device_ips: dict[int, str], super_pod_id: str | None = None) -> Server:
    """Return a server of device id -> address; an empty address means that the device has none."""
    devices = tuple(Device(device, device_ips=(ip,) if ip else ()) for device, ip in sorted(device_ips.items()))
    return Server(address, devices, host_ip=address, pod_ip=address, super_pod_id=super_pod_id)


def load_collected(folder: Path, hosts: Sequence[Host] | None, resolve: Resolver = resolve_host) -> list[Server]:
    """Return the servers of a folder of hccn.conf files, one a host: HOST.conf, hccn.conf.HOST or HOST/hccn.conf.

    With `hosts` only those, in their order, and only their devices. Raises RankTableError for a host without a file,
    a file without an address, and a device that its file does not name.
    """
    files = _collected_files(folder)
    if hosts is None:
        hosts = [Host(name, find_address(name, str(file), resolve), None, str(file)) for name, file in files.items()]
    servers: list[Server] = []
    places: dict[str, str] = {}
    for host in hosts:
        file = files.get(host.name) or files.get(host.address)
        if file is None:
            raise RankTableError(
                f"{folder}: no file for host {host.name}; expected {host.name}.conf, as {host.where} names it"
            )
        if host.address in places:
            raise RankTableError(f"{file}: host {host.address} is already {places[host.address]}; expected each once")
        places[host.address] = str(file)
        addresses = parse_hccn_conf(read_text(file))
        wanted = host.device_ids if host.device_ids is not None else tuple(addresses)
        missing = [device for device in wanted if device not in addresses]
        if missing or not wanted:
            name = f"address_{missing[0]}" if missing else "address_N"
            raise RankTableError(f"{file}: no {name}; expected the address of every device of {host.name}")
        servers.append(build_server(host.address, {device: addresses[device] for device in wanted}))
    return servers


def _collected_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise RankTableError(f"{folder}: not a directory; expected one hccn.conf a host in it")
    files: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        file = entry / "hccn.conf" if entry.is_dir() else entry
        if entry.name.startswith(".") or not file.is_file():
            continue
        name = entry.name if entry.is_dir() else _CONF_NAMES.sub("", entry.name) or entry.name
        if name in files:
            raise RankTableError(f"{file}: host {name} is already {files[name]}; expected one file a host")
        files[name] = file
    if not files:
        raise RankTableError(f"{folder}: no file in it; expected one hccn.conf a host, named HOST.conf")
    return files


def read_text(file: Path) -> str:
    """Return the content of a text file; raises RankTableError when there is none."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RankTableError(f"{file}: cannot be read: {error}") from None
