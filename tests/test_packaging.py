"""The sdist and the wheel: what is in them, what they ask for, and that every install hint names an extra that exists."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import fcn4dist

ROOT = Path(__file__).resolve().parents[1]
BUILD = """
import os, sys, tarfile
from setuptools import build_meta
target = sys.argv[1]  # setuptools changes sys.argv
sdist = build_meta.build_sdist(target)
with tarfile.open(os.path.join(target, sdist)) as archive:
    archive.extractall(target)
os.chdir(os.path.join(target, sdist.removesuffix(".tar.gz")))
build_meta.build_wheel(target)
"""
NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build an sdist from a copy of the clone, and the wheel from that sdist, as `python -m build` does but offline."""
    folder = tmp_path_factory.mktemp("packaging")
    copy, dist = folder / "clone", folder / "dist"
    copy.mkdir()
    for name in ("fcn4dist", "tests", "configs", "docs", "docker", "launch", "rank_tables", "benchmarks", ".ci"):
        shutil.copytree(ROOT / name, copy / name, ignore=NOT_SOURCE)
    for file in ROOT.iterdir():
        if file.is_file() and file.name != ".git":
            shutil.copy(file, copy)
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(dist)], cwd=copy, capture_output=True, text=True, timeout=120, check=False
    )
    assert built.returncode == 0, built.stderr
    return dist


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    (file,) = dist.glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {str(file.relative_to(ROOT)) for file in (ROOT / "fcn4dist").rglob("*") if file.is_file()}
    expected = {name for name in expected if "__pycache__" not in name}
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == expected  # so: pages, styles and scripts of the report, py.typed, no tests
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


def test_the_command_is_there(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    line = wheel.read(name).decode().split("[console_scripts]\n")[1].split("\n")[0]
    command, _, target = line.partition(" = ")
    assert command == "fcn4dist"
    assert callable(EntryPoint(command, target, "console_scripts").load())


def test_the_version_is_one_everywhere(metadata: Message) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## .*?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert {metadata["Version"], citation["version"], newest[1]} == {fcn4dist.__version__}


def test_numpy_2_is_refused_only_beside_mindspore(metadata: Message) -> None:
    wanted = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]

    def allows_numpy_2(extra: str) -> bool:
        asked = [r for r in wanted if r.name == "numpy" and (r.marker is None or r.marker.evaluate({"extra": extra}))]
        assert asked
        return all("2.4.0" in requirement.specifier for requirement in asked)

    assert [extra for extra in metadata.get_all("Provides-Extra") or [] if not allows_numpy_2(extra)] == ["train"]
    with_mindspore = [str(r.marker) for r in wanted if r.name == "mindspore"]
    assert with_mindspore == ['extra == "train"']


def test_every_install_hint_names_an_extra_that_exists(metadata: Message) -> None:
    extras = set(metadata.get_all("Provides-Extra") or [])
    files = [*(ROOT / "fcn4dist").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docker").iterdir()]
    named = re.findall(
        r"(?:(?:fcn4dist|whl|/src|'\.)\[|pip_install\(.)([a-z,]+)[\]'\"]",
        "\n".join(file.read_text() for file in [*files, ROOT / "README.md", ROOT / "Makefile"]),
    )
    assert len(named) > 10
    assert {extra for names in named for extra in names.split(",")} <= extras


def test_the_sdist_is_enough_for_a_packager(dist: Path) -> None:
    (file,) = dist.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("LICENSE", "CHANGELOG.md", "CITATION.cff", "constraints.txt", "docs/ascend.md", "configs/demo.yaml"):
        assert name in names
    assert {str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("*.py")} <= names
