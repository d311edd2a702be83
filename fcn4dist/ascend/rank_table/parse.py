"""A table as a value for those who show, plan or compare: also one that HCCL refuses, as long as it can be read."""

from __future__ import annotations

from pathlib import Path

from fcn4dist.ascend.rank_table.check import check_document, first_error, read_servers
from fcn4dist.ascend.rank_table.findings import Findings
from fcn4dist.ascend.rank_table.read import Document, load_table
from fcn4dist.ascend.rank_table.schema import Chip, Device, Format, RankTable, Server
from fcn4dist.errors import RankTableError


def load_rank_table(path: Path) -> RankTable:
    """Read a file and return its servers, devices and ranks, whatever the checks say.

    Raises RankTableError naming the path of a value that is missing or unreadable.
    """
    return parse_table(load_table(path))


def accept_document(document: Document, chip: Chip | None) -> RankTable:
    """Return the table of a file that is about to be used: HCCL of `chip` and MindSpore's scheduler must accept it.

    `chip` None: that of one chip is enough. Raises RankTableError with the first reason against it.
    """
    chips = document.format.chips if chip is None else (chip,)
    verdicts = [check_document(document, each, msrun=True) for each in chips]
    verdict = next((verdict for verdict in verdicts if verdict.accepted), verdicts[0])
    error = first_error(verdict)
    if error is not None:
        code = f" [{error.code}]" if error.code else ""
        raise RankTableError(f"{document.file}: {error.where}: {error.message}{code}")
    assert verdict.table is not None  # what is accepted was read
    return verdict.table


def parse_table(document: Document) -> RankTable:
    """Return the table in a document; raises RankTableError naming the first value that cannot be read."""
    if document.format is Format.UNKNOWN:
        expected = 'expected "version" 1.0, 1.1, 1.2 or 2.0, or group_list'
        raise RankTableError(f"{document.file}: version: no known format; {expected}")
    findings = Findings()
    servers = read_servers(document.root, document.format, document.format.chips[0], findings)
    if findings.hole is not None:
        raise RankTableError(f"{document.file}: {findings.hole.where}: {findings.hole.message}")
    return RankTable(document.format, tuple(servers))


def find_rank(table: RankTable, rank: int) -> tuple[Server, Device]:
    """Return where a rank is; raises RankTableError when the table has no such rank."""
    for server in table.servers:
        for device in server.devices:
            if device.rank == rank:
                return server, device
    raise RankTableError(f"rank {rank} is not in the table; expected 0 to {table.world_size - 1}")
