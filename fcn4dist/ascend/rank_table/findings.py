"""What a check says: findings with a severity, HCCL's error code and a JSON path; verdicts a chip."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from fcn4dist.ascend.rank_table.schema import Chip, RankTable

_Value = TypeVar("_Value")
Severity = Literal["error", "warning", "note"]
ROOT = "$"  # the path of the whole document

# HCCL's codes: EI0004 file or JSON, EI0014 a wrong value, EI0017 a missing key; without one, the library's return value
EI_FILE, EI_VALUE, EI_KEY = "EI0004", "EI0014", "EI0017"
E_PARA, E_NOT_FOUND, E_TIMEOUT, E_INTERNAL = "HCCL_E_PARA", "HCCL_E_NOT_FOUND", "HCCL_E_TIMEOUT", "HCCL_E_INTERNAL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark on one place of a rank table."""

    severity: Severity  # error: HCCL refuses; warning: another reader or a documented rule breaks; note: ignored
    code: str | None  # HCCL's error code, where it has one
    where: str  # JSON path: server_list[1].device[3].device_id
    message: str  # what was found, what was expected

    def to_json(self) -> dict[str, Any]:
        """Return the finding as `validate --json` prints it."""
        return {"severity": self.severity, "code": self.code, "where": self.where, "message": self.message}


@dataclass(slots=True)
class Findings:
    """A growing list of findings."""

    items: list[Finding] = field(default_factory=list)
    hole: Finding | None = None  # the first error that leaves a value out of the table

    def need(self, value: _Value | None, default: _Value) -> _Value:
        """Return a value of the table; None, about which the last finding was, leaves a hole where `default` stands."""
        if value is not None:
            return value
        self.hole = self.hole or self.items[-1]
        return default

    def error(self, code: str | None, where: str, message: str) -> None:
        """Add what makes HCCL refuse the table."""
        self.items.append(Finding("error", code, where, message))

    def warning(self, where: str, message: str) -> None:
        """Add what HCCL accepts, but a documented rule or another reader does not."""
        self.items.append(Finding("warning", None, where, message))

    def note(self, where: str, message: str) -> None:
        """Add what has no effect."""
        self.items.append(Finding("note", None, where, message))

    @property
    def has_errors(self) -> bool:
        """Whether anything found so far refuses the table."""
        return any(finding.severity == "error" for finding in self.items)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one chip's HCCL accepts one file, and every finding on the way, errors first."""

    file: str
    chip: Chip
    findings: tuple[Finding, ...]
    table: RankTable | None = None  # what was read on the way; None where a rank, a device or a server cannot be read

    @property
    def accepted(self) -> bool:
        """Whether no finding is an error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `validate --json` prints for one file and chip."""
        findings = [finding.to_json() for finding in self.findings]
        return {"file": self.file, "chip": self.chip, "accepted": self.accepted, "findings": findings}


def quote(value: object, limit: int = 60) -> str:
    """Return a JSON value as a message shows it: in JSON's spelling, shortened, safe to print."""
    try:
        text = json.dumps(value, ensure_ascii=not _is_printable(value))
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _is_printable(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def kind(value: object) -> str:
    """Return the JSON type of a value, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names: dict[type, str] = {dict: "an object", list: "an array", str: "a string"}
    return next((name for type_, name in names.items() if isinstance(value, type_)), "a number")
