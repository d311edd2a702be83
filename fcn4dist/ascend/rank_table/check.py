"""Judge a rank table as HCCL's parser for a chip does, and go on where HCCL stops at the first error."""

from __future__ import annotations

from typing import Any

from fcn4dist.ascend.rank_table.findings import (
    E_INTERNAL,
    E_TIMEOUT,
    EI_KEY,
    EI_VALUE,
    ROOT,
    Finding,
    Findings,
    Verdict,
    kind,
    quote,
)
from fcn4dist.ascend.rank_table.read import Document
from fcn4dist.ascend.rank_table.rules.concise import check_concise
from fcn4dist.ascend.rank_table.rules.heterogeneous import check_heterogeneous
from fcn4dist.ascend.rank_table.rules.layered import check_layered
from fcn4dist.ascend.rank_table.rules.msrun import check_msrun
from fcn4dist.ascend.rank_table.rules.template_two import check_cloud, check_lab
from fcn4dist.ascend.rank_table.schema import Chip, Format, RankTable, Server

_ORDER = {"error": 0, "warning": 1, "note": 2}


def check_document(document: Document, chip: Chip, *, msrun: bool = False) -> Verdict:
    """Return the verdict of `chip`'s HCCL; with `msrun` also that of MindSpore's scheduler."""
    findings = Findings(list(document.findings))
    servers: list[Server] = []
    if not findings.has_errors:
        _check_path(document, findings)
        servers = _check_content(document, chip, findings)
        if msrun and document.mistaken_for is None:
            check_msrun(document, findings)
    ordered = sorted(dict.fromkeys(findings.items), key=lambda finding: _ORDER[finding.severity])
    table = RankTable(document.format, tuple(servers)) if servers and findings.hole is None else None
    return Verdict(document.file, chip, tuple(ordered), table)


def check_all_chips(document: Document, *, msrun: bool = False) -> list[Verdict]:
    """Return the verdict of every chip that the document's format fits."""
    return [check_document(document, chip, msrun=msrun) for chip in document.format.chips]


def first_error(verdict: Verdict) -> Finding | None:
    """Return the first error of a verdict."""
    return next((finding for finding in verdict.findings if finding.severity == "error"), None)


def _check_path(document: Document, findings: Findings) -> None:
    """HCCL follows links, then the first ".json" of the path must be its end; the library of 950 takes any name."""
    path = document.read_as or document.file
    if document.format is not Format.LAYERED and not is_table_path(path):
        expected = 'expected ".json" at its end and nowhere else'
        findings.error(E_INTERNAL, ROOT, f"HCCL opens it as {quote(path, 200)}; {expected}")


def is_table_path(path: str) -> bool:
    """Whether HCCL opens a file at this path, all links followed."""
    return path.partition(".json")[1:] == (".json", "")


def _check_content(document: Document, chip: Chip, findings: Findings) -> list[Server]:
    root = document.root
    if not isinstance(root, dict):
        findings.error(EI_KEY, ROOT, f"the document is {kind(root)}; expected an object")
    elif document.mistaken_for is not None:
        findings.error(EI_KEY, ROOT, f"this is {document.mistaken_for}; expected an HCCL rank table")
    elif document.format is Format.LAYERED and chip != "950":
        findings.error(EI_VALUE, "version", f'"2.0" is for 950 alone; the library of {chip} takes "1.0" or "1.2"')
    elif document.format is Format.UNKNOWN:
        _refuse_unknown(root, chip, findings)
    elif document.format is not Format.LAYERED and chip == "950":
        found = f"format {document.format.value}"
        findings.error(EI_VALUE, "version", f'{found}; the library of 950 takes "2.0" alone')
    else:
        _check_status(root, document.format, findings)
        return read_servers(root, document.format, chip, findings)
    return []


def _refuse_unknown(root: dict[str, Any], chip: Chip, findings: Findings) -> None:
    expected = '"2.0"' if chip == "950" else '"1.0" or "1.2"'
    if "version" in root:
        findings.error(EI_VALUE, "version", f"{quote(root['version'])}; expected {expected} for {chip}")
    elif "server_list" in root or "rank_list" in root:
        list_key = "server_list" if "server_list" in root else "rank_list"
        reads = "without it HCCL takes the file for template two and misses group_count"
        findings.error(EI_KEY, "version", f"the key is missing beside {list_key}: {reads}; expected {expected}")
    else:
        findings.error(EI_KEY, "version", f"the key is missing, and group_list too; expected {expected}")


def _check_status(root: dict[str, Any], format_: Format, findings: Findings) -> None:
    """The 1.x libraries wait for "completed" for half an hour, then fail; the library of 950 never looks."""
    status = root.get("status")
    if format_ is Format.LAYERED:
        if "status" in root and status != "completed":
            findings.warning(
                "status", f'{quote(status)}: HCCL 2.0 does not wait for it; other tools wait for "completed"'
            )
    elif "status" not in root:
        findings.error(EI_KEY, "status", 'the key is missing; expected "completed"')
    elif not isinstance(status, str):
        findings.error(EI_KEY, "status", f'{quote(status)} is {kind(status)}; expected "completed"')
    elif status != "completed":
        waits = "HCCL reads the file again every second for 30 minutes, then fails"
        findings.error(E_TIMEOUT, "status", f'{quote(status)}: {waits}; expected "completed"')


def read_servers(root: dict[str, Any], format_: Format, chip: Chip, findings: Findings) -> list[Server]:
    """Read the servers of a known format, in one pass with the checks of a chip that knows it."""
    if format_ in (Format.CONCISE, Format.SUPER_POD):
        return check_concise(root, format_, chip, findings)
    if format_ is Format.CLOUD:
        return check_cloud(root, chip, findings)
    if format_ is Format.LAB:
        return check_lab(root, chip, findings)
    if format_ is Format.HETEROGENEOUS:
        return check_heterogeneous(root, chip, findings)
    return check_layered(root, findings)
