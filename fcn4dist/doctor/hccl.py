"""What HCCL needs beside NPUs: its ports on the host and on the NPUs, and the interface by which the hosts meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fcn4dist.ascend.addresses import find_own_address, is_routable, own_addresses, own_interfaces
from fcn4dist.ascend.tools import Tools, parse_npu_processes
from fcn4dist.doctor.question import Check, Surroundings
from fcn4dist.errors import RankTableError
from fcn4dist.job.ports import is_free

BASE_PORT = 60_000  # on the host, unless HCCL_IF_BASE_PORT says otherwise
NUM_PORTS = 32
NPU_PORT = 16_666
RESERVED = "net.ipv4.ip_local_reserved_ports"
ANY_ADDRESS = "0.0.0.0"
Interfaces = Mapping[str, Sequence[str]]  # name -> its addresses


def check_hccl_ports(around: Surroundings) -> Check:
    """Check that HCCL's ports on the host are free, and that Linux gives them to nobody else meanwhile."""
    name = "hccl-ports"
    if chosen := around.environ.get("HCCL_HOST_SOCKET_PORT_RANGE"):
        return Check(name, "ok", f"HCCL_HOST_SOCKET_PORT_RANGE={chosen}: not looked at")
    text = around.environ.get("HCCL_IF_BASE_PORT") or str(BASE_PORT)
    if not text.isdecimal() or not 1024 <= int(text) <= 65_520:
        return Check(name, "error", f"HCCL_IF_BASE_PORT={text}; expected 1024 to 65520", "unset HCCL_IF_BASE_PORT")
    ports = range(int(text), min(int(text) + NUM_PORTS, 65_536))
    span = f"{ports[0]}-{ports[-1]}"
    if taken := [port for port in ports if not is_free(port, ANY_ADDRESS)]:
        found = f"HCCL takes {span} on this host, and {taken[0]} is in use: its init() fails with EJ0003 or EI0019"
        return Check(name, "warning", found, "end what listens there (ss -ltnp), or set HCCL_IF_BASE_PORT on all hosts")
    folder = around.root / "proc/sys/net/ipv4"
    try:
        low, high = map(int, (folder / "ip_local_port_range").read_text().split())
        reserved = (folder / "ip_local_reserved_ports").read_text().strip()
    except (OSError, ValueError):
        return Check(name, "ok", f"HCCL's {span} are free; the ephemeral range cannot be read here")
    kept = {port for first, last in _parse_spans(reserved) for port in range(first, last + 1)}
    if not any(low <= port <= high and port not in kept for port in ports):
        return Check(name, "ok", f"HCCL's {span} are free, and kept from other programs")
    found = f"HCCL's {span} are free now, but in the ephemeral range ({low}-{high}): any connection may take one"
    value = f"{reserved},{span}" if reserved else span
    return Check(name, "warning", found, f"as root, on each host: sysctl -w {RESERVED}={value}")


def _parse_spans(text: str) -> list[tuple[int, int]]:
    """Return the first and the last of every span in "8080,60000-60031"."""
    spans = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        spans.append((int(first), int(last or first)))
    return spans


def check_npu_processes(around: Surroundings) -> Check:
    """Check that no other program uses the NPUs: it would hold HCCL's port there."""
    tools = Tools(around.environ, folders=around.host_paths.tool_folders)
    busy = parse_npu_processes(tools.ask_npu_smi())
    chosen = around.environ.get("HCCL_NPU_SOCKET_PORT_RANGE")
    if not busy or chosen:
        held = f"HCCL_NPU_SOCKET_PORT_RANGE={chosen}" if chosen else "no process on the NPUs"
        return Check("npu-processes", "ok", held)
    shown = ", ".join(f"{p.name} ({p.pid}) on NPU {p.npu}" for p in busy[:4]) + (", ..." if len(busy) > 4 else "")
    found = f"{shown}: HCCL's port on an NPU, {NPU_PORT}, has room for one (EJ0003, EI0020)"
    return Check("npu-processes", "warning", found, "end them, or leave their NPUs out (ASCEND_RT_VISIBLE_DEVICES)")


def read_interfaces() -> Interfaces:
    """Return the addresses by which other hosts may reach this one, by interface."""
    reachable = {name: [a for a in addresses if is_routable(a)] for name, addresses in own_interfaces().items()}
    return {name: addresses for name, addresses in reachable.items() if addresses}


def check_interface(is_over_hosts: bool, around: Surroundings, interfaces: Interfaces | None = None) -> Check:
    """Check which interface HCCL will take between hosts."""
    interfaces = read_interfaces() if interfaces is None else interfaces
    shown = ", ".join(f"{name} {addresses[0]}" for name, addresses in sorted(interfaces.items())) or "none"
    remedy = "name one of this host, or unset it: launch then takes the address towards the other hosts"
    if address := around.environ.get("HCCL_IF_IP"):
        if address in own_addresses() or any(address in addresses for addresses in interfaces.values()):
            return Check("interface", "ok", f"HCCL_IF_IP={address}")
        return Check("interface", "error", f"HCCL_IF_IP={address} is none of this host's ({shown})", remedy)
    if wanted := around.environ.get("HCCL_SOCKET_IFNAME"):
        if names := _choose_interfaces(wanted, interfaces):
            return Check("interface", "ok", f"HCCL_SOCKET_IFNAME={wanted}: {names[0]}")
        return Check("interface", "error", f"HCCL_SOCKET_IFNAME={wanted} matches none of this host's ({shown})", remedy)
    if not is_over_hosts:
        return Check("interface", "ok", f"one host: HCCL needs none ({shown})")
    try:
        own = find_own_address()
    except RankTableError as error:
        return Check("interface", "error", str(error), "give this host an address that the others reach")
    if len(interfaces) <= 1:
        return Check("interface", "ok", f"{shown}, the only one")
    found = f"several ({shown}), and no HCCL_IF_IP: launch gives HCCL the address by which the hosts meet, by the route {own}"
    first = min(interfaces, key=lambda name: (name.startswith("docker"), name))
    return Check(
        *("interface", "warning", f"{found}; HCCL alone would take {first}"),
        "see that the other hosts reach it; else export HCCL_IF_IP or HCCL_SOCKET_IFNAME, or another --master-addr",
    )


def _choose_interfaces(wanted: str, interfaces: Interfaces) -> list[str]:
    """Return the interfaces that HCCL_SOCKET_IFNAME admits: "eth,enp" by prefix, "=eth0" by name, with ^ all others."""
    is_excluding = wanted.startswith("^")
    rest = wanted.removeprefix("^")
    is_exact = rest.startswith("=")
    words = [word.strip() for word in rest.removeprefix("=").split(",") if word.strip()]

    def is_meant(name: str) -> bool:
        return any(name == word if is_exact else name.startswith(word) for word in words)

    return [name for name in sorted(interfaces) if is_meant(name) != is_excluding]
