"""Imports go down, and MindSpore is paid for only where it is used (DESIGN section 2)."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "fcn4dist"
# the rooms, floor by floor: a file imports its own room and the floors below, never a neighbour or a floor above (DESIGN 2)
FLOORS = (
    ("errors", "files"),
    ("config",),
    ("ascend", "run"),
    ("job", "track"),
    ("data", "hosts"),
    ("model",),
    ("evaluate",),
    ("train",),
    ("export", "launch"),
    ("report", "doctor", "tag"),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
WITH_MINDSPORE = ("data/shards.py", "model/", "train/", "evaluate/", "export/")


def imports_of(file: Path) -> set[str]:
    """Return the modules that `file` imports anywhere, also inside functions and for types only."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & MODULES or {node.module}
    return found


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


MODULES = {name_of(file) for file in PACKAGE.rglob("*.py")}
FILES = {file.relative_to(PACKAGE): imports_of(file) for file in sorted(PACKAGE.rglob("*.py"))}


def test_imports_go_down_and_mindspore_is_paid_for_only_where_it_is_used() -> None:
    wrong = []
    for file, imported in FILES.items():
        room = file.parts[0].removesuffix(".py")
        for module in imported:
            if module.split(".")[0] == "mindspore" and not str(file).startswith(WITH_MINDSPORE):
                wrong.append(f"{file} imports {module}")
            if module.startswith("fcn4dist.") and room in FLOOR_OF and room_of(module) in FLOOR_OF:
                is_below = FLOOR_OF[room_of(module)] < FLOOR_OF[room]
                if room_of(module) != room and not is_below:
                    wrong.append(f"{file} imports {module}, which is not below it")
    assert not wrong


def test_no_circle_of_files() -> None:
    # the Python face imports what it offers when that is first used; from it, files take nothing but the version
    imports = {name_of(PACKAGE / file): (imported & MODULES) - {"fcn4dist"} for file, imported in FILES.items()}
    tuple(TopologicalSorter(imports).static_order())  # raises CycleError, which names the circle


def test_every_file_has_a_room() -> None:
    rooms = {file.parts[0].removesuffix(".py") for file in FILES} - {"__init__", "__main__"}
    assert rooms == set(FLOOR_OF)


def test_help_does_not_load_mindspore_or_numpy() -> None:
    code = "import sys; from fcn4dist.cli.main import cli; cli(['--help'], standalone_mode=False); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "click" in loaded
    assert not {"mindspore", "numpy", "sklearn", "librosa", "matplotlib"} & set(loaded)


def test_importing_the_package_is_light_and_its_public_names_are_there() -> None:
    code = (
        "import sys; before = set(sys.modules); import fcn4dist; print(*set(sys.modules) - before); "
        "print(*(getattr(fcn4dist, name).__name__ for name in fcn4dist.__all__[1:])); print(hasattr(fcn4dist, 'nothing'))"
    )
    loaded, names, nothing = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {name for name in loaded.split() if name.startswith("fcn4dist")} == {"fcn4dist"}
    assert {name.split(".")[0] for name in loaded.split()} - {"fcn4dist"} <= sys.stdlib_module_names
    assert len(loaded.split()) < 50  # typing and what it needs, where no .pth file of the environment has loaded them
    assert (names, nothing) == ("fcn4dist.errors fcn4dist.evaluate load open_dataset", "False")
