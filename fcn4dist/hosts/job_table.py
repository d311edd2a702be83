"""The rank table of a job: generated from what its hosts found, or given, and held to the plan before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fcn4dist.ascend.addresses import find_own_address, is_routable
from fcn4dist.ascend.discover import discover
from fcn4dist.ascend.rank_table.build import build_table, check_written, format_table
from fcn4dist.ascend.rank_table.complete import complete_document
from fcn4dist.ascend.rank_table.parse import accept_document, find_rank, parse_table
from fcn4dist.ascend.rank_table.read import Document, load_table, written_path
from fcn4dist.ascend.rank_table.schema import Chip, Format, RankTable, Server
from fcn4dist.ascend.tools import Tools, parse_chip
from fcn4dist.errors import DeviceError, RankTableError
from fcn4dist.hosts.roster import Layout

DEFAULT_CHIP: Chip = "910b"


@dataclass(frozen=True)
class GivenTable:
    """A table that the user gave, as the job uses it."""

    table: RankTable
    document: dict[str, Any]  # for RUN/rank_table.json: every server has its pod_ip


def find_own_server(
    physical_ids: Sequence[int], address: str, environ: Mapping[str, str], *, is_alone: bool
) -> dict[str, Any]:
    """Return this host's devices as a table of one server, its chip, and what could not be found out, for the master.

    `address`: what the workers here register with, loopback where the host is alone; the server is called by an address that
    others could reach, where it has one. Without a table where the devices' addresses cannot be found at all.
    """
    try:
        found = discover(environ, device_ids=physical_ids, server_address=_server_address(address))
        chip = found.chip or DEFAULT_CHIP
        if chip == "950" and not is_alone:
            raise RankTableError("the network layers of 950 hosts cannot be asked for; give --rank-table FILE")
        table = format_table(build_table([replace(found.server, pod_ip=address)], chip))
    except (RankTableError, DeviceError) as error:
        return {"chip": None, "table": None, "gap": str(error)}
    gap = "" if found.chip else "npu-smi names no chip"
    bare = [device.device_id for device in found.server.devices if not device.device_ips]
    if bare:
        gap = f"device {bare[0]} has no address, by hccn_tool and hccn.conf"
    return {"chip": chip, "table": table, "gap": gap}


def _server_address(address: str) -> str:
    if is_routable(address):
        return address
    try:
        return find_own_address()
    except RankTableError:
        return address


def generate_job_table(
    layout: Layout, found: Sequence[Mapping[str, Any]], *, read_as: Path | None
) -> tuple[dict[str, Any] | None, str]:
    """Return the table of the job, checked as HCCL and MindSpore's scheduler would, or None and why there is none.

    There is none where a host could not find out what the table needs: HCCL asks the devices itself then. `read_as`: where
    HCCL will read the table; None: it is not handed over. Raises RankTableError for hosts that contradict each other or
    HCCL's rules, and, where the table is to be handed over, for anything that is missing.
    """
    gaps = [f"{layout.title(rank)}: {entry['gap']}" for rank, entry in enumerate(found) if entry["gap"]]
    try:
        if all(entry["table"] is not None for entry in found):
            return _build_job_table(layout, found, read_as), ""
    except RankTableError:
        if not gaps:
            raise
    if read_as is not None:
        raise RankTableError(f"--rank-table export: {gaps[0]}; give --rank-table FILE, or let HCCL find out (auto)")
    return None, gaps[0]


def _build_job_table(layout: Layout, found: Sequence[Mapping[str, Any]], read_as: Path | None) -> dict[str, Any]:
    """Return the table of all hosts, with the ranks that the job has: hosts in the order of their numbers."""
    chip: Chip = found[0]["chip"]
    servers: list[Server] = []
    for rank, (node, entry) in enumerate(zip(layout.nodes, found, strict=True)):
        if entry["chip"] != chip:
            raise RankTableError(
                f"{layout.title(rank)} has chip {entry['chip']}, {layout.title(0)} {chip}; expected one chip"
            )
        document = entry["table"]
        table = parse_table(Document(f"table of {node.name}", document, Format(document["version"]), None, ()))
        server = table.servers[0]
        if len(table.servers) != 1 or len(server.devices) != node.devices:
            raise RankTableError(
                f"{layout.title(rank)}: {table.world_size} NPUs found for the rank table; expected {node.devices}"
            )
        devices = tuple(replace(device, rank=node.first_rank + i) for i, device in enumerate(server.devices))
        servers.append(replace(server, devices=devices))
    built = format_table(RankTable(Format(found[0]["table"]["version"]), tuple(servers)))
    check_written(built, chip, "rank_table.json" if read_as is None else written_path(read_as))
    return built


def load_given_table(
    path: Path, target: Literal["Ascend", "CPU"], environ: Mapping[str, str], read_as: Path, workers: Sequence[str]
) -> GivenTable:
    """Read a table that the user gave, for hosts with the addresses `workers`, and complete it.

    On Ascend HCCL of this host's chip must accept the copy that the run keeps at `read_as`; of any chip where no tool names
    one. On CPU nobody reads it. Raises RankTableError.
    """
    document = complete_document(load_table(path), workers)
    if target == "CPU":
        return GivenTable(parse_table(document), document.root)
    chip = parse_chip(Tools(environ).ask_npu_smi())
    return GivenTable(accept_document(replace(document, read_as=written_path(read_as)), chip), document.root)


def check_job_table(
    table: RankTable, where: str, layout: Layout, node_rank: int, device_ids: Sequence[int], *, is_exported: bool
) -> None:
    """Hold a given table to the job: number of ranks and hosts; where it is exported also this host's own entry.

    One host alone may have any address.

    A host without an address, which only a dry run has, is known by its first rank. Raises RankTableError naming `where`,
    what was found and what was expected.
    """
    if len(layout.nodes) == 1:
        _check_table_of_one_host(table, where, device_ids, is_exported=is_exported)
        return
    if table.world_size != layout.world_size:
        raise RankTableError(f"{where}: {table.world_size} ranks in it, the job has {layout.world_size}")
    counts = [len(server.devices) for server in table.servers]
    if not is_exported:
        if sorted(counts) != sorted(node.devices for node in layout.nodes):
            wanted = [node.devices for node in layout.nodes]
            raise RankTableError(f"{where}: servers of {counts} devices, the job's hosts have {wanted}")
        return
    node = layout.nodes[node_rank]
    own = find_server(table, node.address) if node.address else find_rank(table, node.first_rank)[0]
    if own is None:
        known = ", ".join(server.pod_ip or server.server_id for server in table.servers[:8])
        raise RankTableError(f"{where}: no server {node.address}, which is {layout.title(node_rank)}; found {known}")
    entries = sorted((device.rank, device.device_id) for device in own.devices)
    wanted_entries = list(enumerate(device_ids, start=node.first_rank))
    if entries != wanted_entries:
        found, wanted_text = _in_words(entries), _in_words(wanted_entries)
        raise RankTableError(f"{where}: server {own.server_id} has {found}; the job has there {wanted_text}")


def _check_table_of_one_host(table: RankTable, where: str, device_ids: Sequence[int], *, is_exported: bool) -> None:
    """Hold a given table to a job on this host alone: as many ranks, and where it is exported the same devices.

    Raises RankTableError naming `where`.
    """
    if table.world_size != len(device_ids) or len(table.servers) != 1:
        found = f"{table.world_size} ranks on {len(table.servers)} servers in it"
        raise RankTableError(f"{where}: {found}, the job has {len(device_ids)} on this one")
    entries = sorted((device.rank, device.device_id) for device in table.servers[0].devices)
    if is_exported and entries != list(enumerate(device_ids)):
        wanted = _in_words(list(enumerate(device_ids)))
        raise RankTableError(f"{where}: {_in_words(entries)}; the job has {wanted}")


def find_server(table: RankTable, address: str) -> Server | None:
    """Return the server that an address belongs to: its pod_ip, its host_ip or its id."""
    return next((s for s in table.servers if address in (s.pod_ip, s.host_ip, s.server_id)), None)


def _in_words(entries: Sequence[tuple[int, int]]) -> str:
    listed = ", ".join(f"rank {rank} on device {device}" for rank, device in entries[:3])
    return listed + (f" and {len(entries) - 3} more" if len(entries) > 3 else "")
