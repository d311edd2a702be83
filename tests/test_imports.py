"""Imports go down, and MindSpore is paid for only where it is used (DESIGN section 2)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fcn4dist"
WITH_MINDSPORE = (
    "data/shards.py",
    "train/collectives.py",
    "model/",
    "train/",
    "evaluate/",
    "export/",
    "scoring/mindspore",
)


def imports_of(file: Path) -> set[str]:
    """Return the modules that `file` imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_mindspore_is_imported_only_where_it_may_be(file: Path) -> None:
    if not str(file.relative_to(PACKAGE)).startswith(WITH_MINDSPORE):
        assert not {name for name in imports_of(file) if name.split(".")[0] == "mindspore"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_imports_the_command_line_but_itself(file: Path) -> None:
    if not str(file.relative_to(PACKAGE)).startswith(("cli/", "__main__")):
        assert not {name for name in imports_of(file) if name.startswith("fcn4dist.cli")}


@pytest.mark.parametrize("room", ["cluster", "data"])
def test_the_lower_rooms_do_not_look_up(room: str) -> None:
    above = ("fcn4dist.train", "fcn4dist.launch.pipeline", "fcn4dist.evaluate", "fcn4dist.model")
    for file in (PACKAGE / room).rglob("*.py"):
        assert not {name for name in imports_of(file) if name.startswith(above)}, file


def test_help_does_not_load_mindspore_or_numpy() -> None:
    code = "import sys; from fcn4dist.cli.main import cli; cli(['--help'], standalone_mode=False); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "click" in loaded
    assert not {"mindspore", "numpy", "sklearn", "librosa", "matplotlib"} & set(loaded)


def test_importing_the_package_is_light_and_its_public_names_are_there() -> None:
    code = (
        "import sys; before = set(sys.modules); import fcn4dist; print(*set(sys.modules) - before); "
        "print(fcn4dist.open_dataset.__module__); print(hasattr(fcn4dist, 'nothing'))"
    )
    loaded, home, nothing = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {name for name in loaded.split() if name.startswith("fcn4dist")} == {"fcn4dist"}
    assert len(loaded.split()) < 20
    assert (home, nothing) == ("fcn4dist.data.dataset", "False")
