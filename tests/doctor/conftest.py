"""A machine of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_machine import FakeMachine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """Return an empty machine."""
    return FakeMachine(tmp_path / "root", monkeypatch)
