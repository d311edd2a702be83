"""Files that others read appear whole: written beside, synced, renamed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

BLOCK_BYTES = 1 << 20


def save_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write `path` through `write(file)` so that readers see the old content or all of the new one.

    The temporary file stands beside the target and is removed when anything fails. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def save_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    save_atomically(path, lambda file: file.write(text.encode()))


def save_json(path: Path, document: Any) -> None:
    """Write indented JSON atomically; NaN is refused, since JSON has none."""
    save_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sync_directory(path: Path) -> None:
    """Make renames inside `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits, reading in constant memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
