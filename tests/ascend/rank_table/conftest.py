"""Write a table to a file of the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a table, or any text, to a file of this test."""

    def save_table(table: Any, name: str = "table.json") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(table if isinstance(table, str) else json.dumps(table), encoding="utf-8")
        return file

    return save_table
