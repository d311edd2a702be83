"""`fcn4dist rank-table`: write, merge, check, show and convert HCCL rank tables, without an NPU."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fcn4dist.ascend.rank_table.schema import CHIPS, Chip
from fcn4dist.cli.main import Group
from fcn4dist.cli.options import (
    AnyPath,
    choice,
    hostfile_option,
    is_quiet,
    json_option,
    output_option,
    verbosity_options,
)
from fcn4dist.errors import RankTableError

if TYPE_CHECKING:
    from fcn4dist.ascend.rank_table.findings import Finding, Verdict
    from fcn4dist.ascend.sources import Cluster, Source

SHOWN_FINDINGS = 20  # a severity and verdict, on the terminal; --json gives all

chip_option = click.option("--chip", type=choice(CHIPS), help="The chip that the table is for.")
table_option = output_option("Where to write.  [default: stdout]")


@click.group(name="rank-table", cls=Group)
def rank_table() -> None:
    """Write, merge, check and show HCCL rank tables.

    A rank table tells HCCL which devices take part in a job, at which addresses, and which rank each has.
    """


@rank_table.command()
@click.argument("files", nargs=-1, required=True, type=AnyPath, metavar="FILE...")
@chip_option
@click.option("--msrun", is_flag=True, help="Check what MindSpore's scheduler needs, too.")
@json_option
@verbosity_options
def validate(files: tuple[Path, ...], chip: Chip | None, msrun: bool, as_json: bool) -> None:
    """Check rank tables as HCCL's own parser does; without --chip for every chip that the format fits.

    Errors refuse a table, warnings say what other readers trip over, notes what is ignored. Exit code 0: every file
    is accepted (by one chip at least, without --chip), 1: a file is refused, 2: a file cannot be read.
    """
    from fcn4dist.ascend.rank_table.check import check_all_chips, check_document
    from fcn4dist.ascend.rank_table.read import load_document

    verdicts: list[list[Verdict]] = []
    unreadable: list[RankTableError] = []
    for file in files:
        try:
            document = load_document(file)
        except RankTableError as error:
            unreadable.append(error)
            continue
        verdicts.append(
            [check_document(document, chip, msrun=msrun)] if chip else check_all_chips(document, msrun=msrun)
        )
    if as_json:
        _print_json([verdict.to_json() for of_file in verdicts for verdict in of_file])
    else:
        for of_file in verdicts:
            _print_verdicts(of_file)
    if unreadable:
        raise RankTableError("\n".join(map(str, unreadable)))
    if not all(any(verdict.accepted for verdict in of_file) for of_file in verdicts):
        sys.exit(1)


def _print_json(document: Any) -> None:
    import json

    click.echo(json.dumps(document, indent=2))


def _print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print the verdicts on one file; chips with the same findings share a paragraph."""
    groups: dict[tuple[Finding, ...], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.findings, []).append(verdict)
    for findings, group in groups.items():
        chips = ", ".join(verdict.chip for verdict in group)
        result = "accepted" if group[0].accepted else "refused"
        click.echo(f"{group[0].file}: {result} ({chips}){_count(findings)}")
        for severity in ("error", "warning", "note"):
            found = [finding for finding in findings if finding.severity == severity]
            for finding in found[:SHOWN_FINDINGS]:
                code = f" [{finding.code}]" if finding.code else ""
                click.echo(f"  {severity}: {finding.where}: {finding.message}{code}")
            if len(found) > SHOWN_FINDINGS:
                click.echo(f"  {severity}: and {len(found) - SHOWN_FINDINGS} more (--json gives all)")


def _count(findings: Sequence[Finding]) -> str:
    counts = (
        (severity, sum(finding.severity == severity for finding in findings)) for severity in ("error", "warning")
    )
    words = [f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts if count]
    return f", {', '.join(words)}" if words else ""


@rank_table.command()
@chip_option
@hostfile_option
@click.option("--hccn-conf", type=AnyPath, metavar="DIR", help="hccn.conf files collected from hosts: HOST.conf.")
@click.option("--inventory", type=AnyPath, metavar="FILE", help="YAML with servers, devices, addresses, super pods.")
@click.option("--servers", metavar="A,B,...", help="Host names or addresses.")
@click.option("--devices", metavar="LIST", help='Physical device ids of a server, as "0-7".')
@click.option(
    "--device-ip-pattern",
    metavar="RULE",
    help='Addresses by rule: "198.51.{server}.{device+1}" (counted from 0), or a network as "198.18.0.0/15".',
)
@click.option("--server-id", metavar="ADDRESS", help="This host's address (default: that of its default route).")
@table_option
@verbosity_options
def generate(output: Path | None, **options: Any) -> None:
    """Write the rank table of this Ascend host, or of a cluster that options describe.

    On an Ascend host it asks hccn_tool, /etc/hccn.conf, /dev/davinci* and npu-smi; elsewhere give --hostfile,
    --hccn-conf, --inventory or --servers. What is written is held to HCCL's rules for the chip first.
    """
    from fcn4dist.ascend.rank_table.build import build_table, check_written, format_table
    from fcn4dist.ascend.sources import Source, collect_servers

    source = Source(**options)
    cluster = collect_servers(source)
    try:
        table = build_table(cluster.servers, cluster.chip)
        document = format_table(table)
        check_written(document, cluster.chip)
    except RankTableError as error:
        file = source.inventory or source.hostfile
        raise RankTableError(f"{file}: " * (file is not None) + f"{error}{_name_options(source, cluster)}") from None
    if document["version"] == "1.2" and "super_pod_list" not in document:
        cluster.remarks.append("no super pods are known: an A3 runs the table in AI-server mode")
    servers, ranks = len(table.servers), sum(len(server.devices) for server in table.servers)
    _write(document, output, cluster.remarks, f"{ranks} ranks on {servers} server{'s'[: servers != 1]}")


def _name_options(source: Source, cluster: Cluster) -> str:
    """Return which options give the devices' addresses, where none was given and they are missing."""
    if source.device_ip_pattern or all(device.device_ips for server in cluster.servers for device in server.devices):
        return ""
    if source.inventory is not None:
        return f"; the devices have no address: {source.inventory} can give each its device_ip"
    return (
        "; the devices have no address: give --device-ip-pattern RULE (such as 198.18.0.0/15), --hccn-conf DIR (files "
        "collected from the hosts) or --inventory FILE"
    )


@rank_table.command()
@click.argument("files", nargs=-1, required=True, type=AnyPath, metavar="FILE...")
@table_option
@verbosity_options
def merge(files: tuple[Path, ...], output: Path | None) -> None:
    """Merge tables of one format into one; the order of the arguments does not matter.

    Servers stand in the text order of their ids, ranks are given out server by server, super pods are kept. A server,
    an address or a super-pod device that is in two files is refused.
    """
    from fcn4dist.ascend.rank_table.merge import accepting_chips, merge_documents
    from fcn4dist.ascend.rank_table.read import load_table

    documents = [load_table(file) for file in files]
    merged = merge_documents(documents)
    chips = ", ".join(accepting_chips(merged, documents[0].format))
    _write(merged, output, [f"merged {len(files)} files; accepted by {chips}"])


@rank_table.command()
@click.argument("file", type=AnyPath)
@click.option("--rank", type=click.IntRange(min=0), help="Show this rank alone.")
@json_option
@verbosity_options
def show(file: Path, rank: int | None, as_json: bool) -> None:
    """Show the servers, devices, ranks, addresses and super pods of a table."""
    from fcn4dist.ascend.rank_table.parse import find_rank, load_rank_table

    table = load_rank_table(file)
    if rank is not None:
        find_rank(table, rank)
    from fcn4dist.ascend.rank_table.show import describe, print_table  # rich loads here

    if as_json:
        _print_json(describe(table, rank))
    else:
        print_table(table, str(file), rank=rank)


@rank_table.command()
@click.argument("file", type=AnyPath)
@click.option("--to", "target", type=choice(["1.0", "1.2", "template-two"]), required=True, help="New format.")
@table_option
@verbosity_options
def convert(file: Path, target: str, output: Path | None) -> None:
    """Convert between template two, 1.0 and 1.2, where nothing has to be invented and no rank moves."""
    from fcn4dist.ascend.rank_table.convert import TARGETS, convert_document
    from fcn4dist.ascend.rank_table.read import load_table

    converted, remarks = convert_document(load_table(file), TARGETS[target])
    _write(converted, output, remarks)


def _write(document: dict[str, Any], output: Path | None, remarks: Sequence[str], what: str = "") -> None:
    """Write a table whole, to a file or stdout; remarks, and that `what` was written, go to stderr, unless -q."""
    from fcn4dist.ascend.rank_table.build import to_text
    from fcn4dist.ascend.rank_table.check import is_table_path
    from fcn4dist.ascend.rank_table.read import written_path
    from fcn4dist.files import save_text

    for remark in remarks if logging.getLogger(__name__).isEnabledFor(logging.WARNING) else ():
        click.echo(f"rank-table: {remark}", err=True)
    text = to_text(document)
    if output is None:
        click.echo(text, nl=False)
        return
    if not is_table_path(path := written_path(output)):
        raise RankTableError(f'--output {output}: HCCL would open {path}; expected ".json" at its end and nowhere else')
    try:
        save_text(output, text)
    except OSError as error:
        raise RankTableError(f"--output {output}: {error.strerror or error}") from None
    if not is_quiet():
        click.echo(f"rank-table: wrote {output}{what and ': '}{what}", err=True)
