"""`fcn4dist rank-table`: write, merge, check, show and convert HCCL rank tables, without an NPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from fcn4dist.cli.options import json_option, verbosity_options
from fcn4dist.cluster.rank_table.schema import CHIPS, Chip
from fcn4dist.errors import RankTableError

if TYPE_CHECKING:
    from fcn4dist.cluster.rank_table.findings import Finding, Verdict

SHOWN_FINDINGS = 20  # a severity and verdict, on the terminal; --json gives all
_FilePath = click.Path(path_type=Path)

chip_option = click.option("--chip", type=click.Choice(CHIPS, case_sensitive=False), help="The chip to judge for.")
output_option = click.option("--output", type=_FilePath, metavar="FILE", help="Where to write (default: stdout).")


@click.group(name="rank-table")
def rank_table() -> None:
    """Write, merge, check and show HCCL rank tables.

    A rank table tells HCCL which devices take part in a job, at which addresses, and which rank each has.
    """


@rank_table.command()
@click.argument("files", nargs=-1, required=True, type=_FilePath, metavar="FILE...")
@chip_option
@click.option("--msrun", is_flag=True, help="Check what MindSpore's scheduler needs, too.")
@json_option
def validate(files: tuple[Path, ...], chip: Chip | None, msrun: bool, as_json: bool) -> None:
    """Check rank tables as HCCL's own parser does; without --chip for every chip that the format fits.

    Errors refuse a table, warnings say what other readers trip over, notes what is ignored. Exit code 0: every file
    is accepted (by one chip at least, without --chip), 1: a file is refused, 2: a file cannot be read.
    """
    from fcn4dist.cluster.rank_table.check import check_all_chips, check_document
    from fcn4dist.cluster.rank_table.read import load_document

    verdicts: list[list[Verdict]] = []
    unreadable: list[RankTableError] = []
    for file in files:
        try:
            document = load_document(file)
        except RankTableError as error:
            unreadable.append(error)
            continue
        verdicts.append([check_document(document, chip, msrun=msrun)] if chip else check_all_chips(document, msrun=msrun))
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
    counts = ((severity, sum(finding.severity == severity for finding in findings)) for severity in ("error", "warning"))
    words = [f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts if count]
    return f", {', '.join(words)}" if words else ""
