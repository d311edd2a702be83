"""The value rules that HCCL's parser of 1.x and template two applies to every field."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

from fcn4dist.ascend.rank_table.findings import E_NOT_FOUND, E_PARA, EI_KEY, EI_VALUE, Findings, kind, quote

U32_MAX = 0xFFFF_FFFF
_LOOSE_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")  # what std::stoull reads before it stops


def join(where: str, key: str) -> str:
    """Return the path of a key below `where`."""
    return f"{where}.{key}" if where else key


def get_text(node: Any, key: str, where: str, findings: Findings, *, required: bool = True) -> str | None:
    """Return a scalar, which is always a JSON string; None when it is missing or not one (said in `findings`)."""
    value = node.get(key) if isinstance(node, dict) else None
    if isinstance(value, str):
        return value
    if isinstance(node, dict) and key in node:
        findings.error(EI_KEY, join(where, key), f"{quote(value)} is {kind(value)}; expected a string")
    elif required:
        findings.error(EI_KEY, join(where, key), "the key is missing" + _not_an_object(node))
    return None


def get_number(
    node: Any,
    key: str,
    where: str,
    findings: Findings,
    *,
    required: bool = True,
    limits: tuple[int, int] = (0, U32_MAX),
) -> int | None:
    """Return an unsigned number written as a string, read as std::stoull does; None when there is no valid one."""
    text = get_text(node, key, where, findings, required=required)
    if text is None:
        return None
    value = parse_number(text)
    if value is None or not limits[0] <= value <= limits[1]:
        expected = f"a number {limits[0]} to {limits[1]} written as a string"
        findings.error(EI_VALUE, join(where, key), f"{quote(text)}; expected {expected}")
        return None
    if not is_plain_number(text):
        findings.warning(join(where, key), f"{quote(text)} is read as {value}, since HCCL stops at the first non-digit")
    return value


def get_device_id(node: Any, where: str, findings: Findings, highest: int) -> int | None:
    """Return a physical device id, also one that the chip does not have (said in `findings`); None when it is none."""
    number = get_number(node, "device_id", where, findings)
    if number is not None and number > highest:
        expected = f"a number 0 to {highest} written as a string"
        findings.error(EI_VALUE, join(where, "device_id"), f"{quote(node['device_id'])}; expected {expected}")
    return number


def peek_text(node: Any, key: str) -> str | None:
    """Return a string that HCCL does not read, or reads elsewhere; None when it is none, and nothing is said."""
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, str) else None


def parse_number(text: str) -> int | None:
    """Return what HCCL reads: leading blanks, a sign and any text behind are passed over; None if nothing is left."""
    if is_plain_number(text):
        return int(text) if len(text) <= 20 else U32_MAX + 1
    match = _LOOSE_NUMBER.match(text)
    if match is None:
        return None
    value = int(match[1][:21])
    return value if value >= 0 else U32_MAX + 1  # stoull wraps a negative number around


def is_plain_number(text: str) -> bool:
    """Whether `text` is digits and nothing else."""
    return text.isascii() and text.isdigit()


def get_list(node: Any, key: str, where: str, findings: Findings) -> list[Any]:
    """Return a non-empty array; an empty list stands for a missing or a wrong one (said in `findings`)."""
    path = join(where, key)
    if not isinstance(node, dict) or key not in node:
        findings.error(E_NOT_FOUND, path, "the key is missing" + _not_an_object(node))
        return findings.need(None, [])
    value = node[key]
    if not isinstance(value, list):
        findings.error(E_PARA, path, f"{quote(value)} is {kind(value)}; expected an array")
        return findings.need(None, [])
    if not value:
        findings.error(E_PARA, path, "the array is empty; expected at least one entry")
        return findings.need(None, [])
    return value


def iter_list(node: Any, key: str, where: str, findings: Findings) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every entry of a non-empty array."""
    path = join(where, key)
    for index, entry in enumerate(get_list(node, key, where, findings)):
        yield f"{path}[{index}]", entry


def get_address(node: Any, key: str, where: str, findings: Findings) -> str | None:
    """Return a valid IP address; an empty text is not one. None when there is none (said in `findings`)."""
    text = get_text(node, key, where, findings)
    if text is None or is_address(text):
        return text
    findings.error(EI_VALUE, join(where, key), f"{quote(text)} is not a valid IP address")
    return None


def address_family(text: str) -> socket.AddressFamily | None:
    """Return AF_INET or AF_INET6, or None for anything that HCCL does not take for a usable address.

    Two colons or more mean IPv6; an interface may follow behind `%`; 0.0.0.0 and :: count as no address.
    """
    family = socket.AF_INET6 if text.count(":") >= 2 else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text.partition("%")[0])
    except (OSError, ValueError):
        return None
    return family if any(packed) else None


def is_address(text: str) -> bool:
    """Whether `text` is an IP address that HCCL can use."""
    return address_family(text) is not None


def _not_an_object(node: Any) -> str:
    return "" if isinstance(node, dict) else f", since {quote(node)} is not an object"
