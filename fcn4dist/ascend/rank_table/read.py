"""Read a rank table file: its bytes, its JSON, its format; and recognise what is often taken for one."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from fcn4dist.ascend.rank_table.findings import E_PARA, EI_FILE, ROOT, Finding, Findings, quote
from fcn4dist.ascend.rank_table.schema import Format
from fcn4dist.errors import RankTableError

MAX_BYTES = 40 << 20  # HCCL's limit for 1.x and template two
MAX_LAYERED_BYTES = 1 << 30  # and for 2.0
MAX_DEPTH = 32  # 2.0 has 7 levels
READ_ATTEMPTS = 3

_LAYERED_VERSION = re.compile(rb'"version"\s*:\s*"2\.0"')
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_VERSIONS = {"1.0": Format.CONCISE, "1.1": Format.HETEROGENEOUS, "1.2": Format.SUPER_POD, "2.0": Format.LAYERED}


@dataclass(frozen=True, slots=True)
class Document:
    """A file as it was read; `root` is None where it is not JSON."""

    file: str
    root: Any
    format: Format
    mistaken_for: str | None  # what the file is, when it is no rank table
    findings: tuple[Finding, ...]  # what reading alone showed; errors here refuse the table for every chip
    read_as: str = ""  # the path that HCCL opens, links followed; empty: `file` as it stands


class _RepeatedKeys(dict[str, Any]):
    """An object that names a key twice; as in HCCL, the last value counts."""

    repeated: str


def load_document(path: Path) -> Document:
    """Read a rank table file.

    A file that is no JSON comes back with an error among its findings, as HCCL refuses it too.
    Raises RankTableError when there is nothing to judge: a missing file, a directory, no permission, or a file
    that changes while it is read.
    """
    data, size = _read_bytes(path)
    findings = Findings()
    document = None if data is None else parse_document(data, str(path))
    if document is None or (size > MAX_BYTES and document.format is not Format.LAYERED):
        limits = f"{MAX_BYTES} bytes (40 MB), or {MAX_LAYERED_BYTES} in a 2.0 file"
        findings.error(E_PARA, ROOT, f"{size} bytes; expected at most {limits}")
        return Document(str(path), None, Format.UNKNOWN, None, tuple(findings.items))
    return replace(document, read_as=real_path(path))


def real_path(path: Path) -> str:
    """Return the path that HCCL opens when it is given `path`: links are followed, as far as there are any."""
    return os.path.realpath(path)


def written_path(path: Path) -> str:
    """Return the path that HCCL opens once we have written a file at `path`: a link there is replaced."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def parse_document(data: bytes, file: str) -> Document:
    """Return the document in `data`; `file` names it in messages. Never raises."""
    findings = Findings()
    root = _parse_json(data, findings)
    if findings.has_errors:
        return Document(file, None, Format.UNKNOWN, None, tuple(findings.items))
    format_ = find_format(root)
    return Document(file, root, format_, find_mistake(root, format_), tuple(findings.items))


def load_table(path: Path) -> Document:
    """Read a file that must be a rank table of a known format, for the commands that work on its content.

    Raises RankTableError with the first reason why it is none.
    """
    document = load_document(path)
    for finding in document.findings:
        if finding.severity == "error":
            raise RankTableError(f"{path}: {finding.where}: {finding.message}")
    if document.mistaken_for is not None:
        raise RankTableError(f"{path}: {document.mistaken_for}; expected an HCCL rank table")
    return document


def _read_bytes(path: Path) -> tuple[bytes | None, int]:
    """Return the content and its size; no content when it is larger than any parser takes."""
    for _ in range(READ_ATTEMPTS):
        try:
            if not stat.S_ISREG(os.stat(path).st_mode) and not path.is_dir():  # opening a pipe would wait for ever
                raise RankTableError(f"{path}: not a regular file; expected a JSON file")
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                data = file.read(MAX_BYTES + 1)
                if len(data) > MAX_BYTES:
                    if before.st_size > MAX_LAYERED_BYTES or not _LAYERED_VERSION.search(data):
                        return None, max(before.st_size, len(data))
                    data += file.read(MAX_LAYERED_BYTES)
                after = os.fstat(file.fileno())
            now = os.stat(path)
        except OSError as error:
            _refuse_unreadable(path, error)
        if _identity(before) == _identity(after) == _identity(now):
            return data, len(data)
    raise RankTableError(
        f"{path}: changed while it was read, {READ_ATTEMPTS} times over; expected a file that is written beside "
        "and renamed: HCCL does not retry when it meets half of one"
    )


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _refuse_unreadable(path: Path, error: OSError) -> NoReturn:
    reason = "is a directory" if isinstance(error, IsADirectoryError) else (error.strerror or str(error)).lower()
    raise RankTableError(f"{path}: {reason}; expected a readable JSON file") from None


def _parse_json(data: bytes, findings: Findings) -> Any:
    """Parse as nlohmann::json does in HCCL: UTF-8 (a mark is skipped), no comments, no NaN, text behind is ignored."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        return findings.error(EI_FILE, ROOT, f"not UTF-8: {found}; expected JSON in UTF-8")
    text = text.lstrip(" \t\r\n")
    if not text:
        return findings.error(EI_FILE, ROOT, "the file is empty; expected a JSON object")
    repeated: list[_RepeatedKeys] = []
    try:
        root, end = _decoder(repeated).raw_decode(text)
        if _LONE_SURROGATE.search(text):
            json.dumps(root, ensure_ascii=False).encode()  # a lone half of a pair is no text, in HCCL neither
    except UnicodeEncodeError:
        return findings.error(EI_FILE, ROOT, "a string holds half of a UTF-16 pair; expected valid text")
    except RecursionError:
        return findings.error(EI_FILE, ROOT, "nested too deep to be read; a rank table has at most 7 levels")
    except ValueError as error:
        return findings.error(EI_FILE, ROOT, f"not JSON: {_say_where(text, error)}")
    if _is_deeper(root, MAX_DEPTH):
        return findings.error(EI_FILE, ROOT, f"nested more than {MAX_DEPTH} levels deep; a rank table has at most 7")
    if text[end:].strip():
        findings.warning(ROOT, f"{quote(text[end:].strip())} behind the first JSON value: HCCL ignores it, others fail")
    for marked in repeated:
        findings.warning(ROOT, f"key {quote(marked.repeated)} is given twice in one object: the last one counts")
    return root


def _decoder(repeated: list[_RepeatedKeys]) -> json.JSONDecoder:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) == len(pairs):
            return built
        marked = _RepeatedKeys(built)
        names = [name for name, _ in pairs]
        marked.repeated = next(name for name in names if names.count(name) > 1)
        repeated.append(marked)
        return marked

    return json.JSONDecoder(object_pairs_hook=build, parse_constant=_refuse_constant, parse_float=_parse_float)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number {text[:20]} is out of range")
    return value


def _is_deeper(root: Any, maximum: int) -> bool:
    """Whether containers stand inside each other more than `maximum` times; looks at a level after the other."""
    level = [root] if isinstance(root, (dict, list)) else []
    for _ in range(maximum):
        if not level:
            return False
        inner = itertools.chain.from_iterable(node.values() if isinstance(node, dict) else node for node in level)
        level = [node for node in inner if isinstance(node, (dict, list))]
    return bool(level)


def _say_where(text: str, error: Exception) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return str(error) or type(error).__name__
    rest = text[error.pos : error.pos + 2]
    if rest in ("//", "/*"):
        return f"a comment at line {error.lineno} column {error.colno}; expected JSON without comments"
    return f"{error.msg} at line {error.lineno} column {error.colno}"


def find_format(root: Any) -> Format:
    """Return the format by the same keys as HCCL: `version`, then `deploy_mode`."""
    if not isinstance(root, dict):
        return Format.UNKNOWN
    if "version" in root:
        version = root["version"]
        return _VERSIONS.get(version, Format.UNKNOWN) if isinstance(version, str) else Format.UNKNOWN
    if "deploy_mode" in root:
        return Format.LAB
    return Format.CLOUD if "group_list" in root or "group_count" in root else Format.UNKNOWN


def find_mistake(root: Any, format_: Format) -> str | None:
    """Say what a document is, if it is one of the files that are often taken for a rank table."""
    if not isinstance(root, dict):
        return None
    if "server_group_list" in root:
        return "a MindCluster global-ranktable (server_group_list), which HCCL does not read"
    if "prefill_device_list" in root or "decode_device_list" in root:
        return "a prefill/decode device list for serving, which HCCL does not read"
    if root.get("kind") == "ConfigMap" and "data" in root:
        return "a Kubernetes ConfigMap; the rank table is the text under its data"
    if format_ is not Format.UNKNOWN or "version" in root:
        return None
    if set(root) <= {"status", "complete_count"} and "status" in root:
        status = quote(root["status"])
        return f"a controller's initial ConfigMap (status {status}, no servers): the controller has not filled it in"
    return None
