"""What HCCL checks after parsing 1.x and template two: ranks, devices a server, address families."""

from __future__ import annotations

import socket
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fcn4dist.ascend.rank_table.findings import EI_VALUE, Findings, quote
from fcn4dist.ascend.rank_table.rules.fields import address_family
from fcn4dist.ascend.rank_table.schema import Chip

HOST_DEVICE = -1  # a host rank of format 1.1
# 910 in a module board: four devices must be one of these sets (two HCCS rings of four, or pairs across them)
_SETS_OF_FOUR = ("0145", "0246", "0347", "1256", "1357", "2367", "0123", "4567")
_MODULE = 8  # devices that share an HCCS ring on a 910B box of 16


@dataclass(frozen=True, slots=True)
class ParsedRank:
    """One rank as a parser read it; None for what could not be read."""

    where: str  # of its device
    rank: int | None
    server_id: str
    device_id: int | None
    device_ips: Sequence[str] = ()
    rank_where: str | None = None  # of the object with rank_id, where that is another one


def check_ranks(ranks: Sequence[ParsedRank], chip: Chip, findings: Findings) -> None:
    """Check ranks 0 .. N-1, unique devices, equal servers and one address family."""
    check_rank_ids([(rank.rank_where or rank.where, rank.rank) for rank in ranks], findings)
    servers = devices_by_server(ranks)
    _check_devices_unique(ranks, findings)
    _check_equal_counts(servers, chip, findings)
    if chip == "910":
        _check_910_sets(servers, findings)
    elif chip == "910b" and len(servers) == 1:
        _check_910b_modules(servers, findings)
    if len(servers) > 1:
        addresses = ((f"{rank.where}.device_ip", address) for rank in ranks for address in rank.device_ips)
        check_one_family(addresses, "device_ip", "EI0001", findings)


def check_rank_ids(ranks: Sequence[tuple[str, int | None]], findings: Findings) -> None:
    """Check that the ranks are 0 .. N-1, each once; `ranks` are (path of the entry, rank)."""
    places: dict[int, str] = {}
    num_ranks, repeated = len(ranks), False
    for where, rank in ranks:
        if rank is None:
            continue
        if rank in places:
            repeated = True
            findings.error(
                EI_VALUE, f"{where}.rank_id", f"rank {rank} is already at {places[rank]}; expected each once"
            )
        places.setdefault(rank, where)
        if rank >= num_ranks:
            expected = f"expected 0 .. {num_ranks - 1} for {num_ranks} ranks"
            findings.error(EI_VALUE, f"{where}.rank_id", f"rank {rank} is too large; {expected}")
    complete = not repeated and all(rank is not None for _, rank in ranks)
    if complete and max(places, default=0) >= num_ranks:
        missing = [str(rank) for rank in range(num_ranks) if rank not in places]
        shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        findings.error(
            EI_VALUE, ranks[0][0].partition("[")[0], f"no rank {shown}; expected every rank 0 .. {num_ranks - 1}"
        )


def devices_by_server(ranks: Iterable[ParsedRank]) -> dict[str, list[ParsedRank]]:
    """Return the ranks of every server."""
    servers: dict[str, list[ParsedRank]] = defaultdict(list)
    for rank in ranks:
        servers[rank.server_id].append(rank)
    return servers


def _check_devices_unique(ranks: Iterable[ParsedRank], findings: Findings) -> None:
    seen: dict[tuple[str, int], str] = {}
    for rank in ranks:
        if rank.device_id is None or rank.device_id == HOST_DEVICE:
            continue
        first = seen.setdefault((rank.server_id, rank.device_id), rank.where)
        if first != rank.where:
            found = f"device {rank.device_id} of server {quote(rank.server_id)} is already at {first}"
            findings.error(EI_VALUE, f"{rank.where}.device_id", f"{found}; expected each device once a server")


def _check_equal_counts(servers: dict[str, list[ParsedRank]], chip: Chip, findings: Findings) -> None:
    counts = Counter(len(ranks) for ranks in servers.values())
    if len(counts) <= 1:
        return
    usual = counts.most_common(1)[0][0]
    server_id, ranks = next((name, ranks) for name, ranks in servers.items() if len(ranks) != usual)
    where = ranks[0].where.rpartition(".")[0] or ranks[0].where
    found = f"server {quote(server_id)} has {len(ranks)} devices, others have {usual}"
    if chip in ("910b", "a3"):
        findings.warning(where, f"{found}: HCCL takes it on {chip}, but not on 910 and 310P3, and slower")
    else:
        findings.error(EI_VALUE, where, f"{found}; expected as many on every server")


def _check_910_sets(servers: dict[str, list[ParsedRank]], findings: Findings) -> None:
    for server_id, ranks in servers.items():
        where = ranks[0].where.rpartition("[")[0]
        ids = sorted(rank.device_id for rank in ranks if rank.device_id is not None and rank.device_id != HOST_DEVICE)
        if len(ids) == 4 and "".join(map(str, ids)) not in _SETS_OF_FOUR:
            sets = " ".join(_SETS_OF_FOUR)
            found = f"server {quote(server_id)} uses devices {ids}"
            findings.error(EI_VALUE, where, f"{found}; four devices of a 910 must be one of the sets {sets}")
        elif len(ids) > 2 and len(ids) != 4 and len(ids) % 8:
            found = f"server {quote(server_id)} uses {len(ids)} devices"
            findings.error(EI_VALUE, where, f"{found}; expected 1, 2, 4 or 8 on a 910 module board")


def _check_910b_modules(servers: dict[str, list[ParsedRank]], findings: Findings) -> None:
    """One 910B server of 16: both modules must use the same planes (id modulo 8), or one is not used."""
    for server_id, ranks in servers.items():
        ids = [rank.device_id for rank in ranks if rank.device_id is not None and rank.device_id != HOST_DEVICE]
        low = sorted(device for device in ids if device < _MODULE)
        high = sorted(device - _MODULE for device in ids if device >= _MODULE)
        if low and high and low != high:
            found = f"server {quote(server_id)} uses devices {low} of 0-7 and {[d + _MODULE for d in high]} of 8-15"
            where = ranks[0].where.rpartition("[")[0]
            findings.error("EI0010", where, f"{found}; expected the same places in both modules")


def check_one_family(addresses: Iterable[tuple[str, str]], key: str, code: str, findings: Findings) -> None:
    """Check that all addresses are IPv4, or all IPv6; `addresses` are (path, address)."""
    names = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
    first: tuple[str, socket.AddressFamily] | None = None
    for where, address in addresses:
        family = address_family(address)
        if family is None:
            continue
        if first is None:
            first = (where, family)
        elif family != first[1]:
            found = f"{quote(address)} is {names[family]}, {first[0]} is {names[first[1]]}"
            findings.error(code, where, f"{found}; expected one family for every {key}")
            return
