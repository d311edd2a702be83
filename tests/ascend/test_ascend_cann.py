"""CANN in the folders that its packages use, found and loaded by real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cann_tree import install_cann

from fcn4dist.ascend.cann import Cann, find_cann


def test_a_machine_without_cann(tmp_path: Path) -> None:
    (tmp_path / "usr/local/Ascend/driver").mkdir(parents=True)  # the driver alone
    assert find_cann({}, tmp_path) is None


@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        (
            "ascend-toolkit/latest/aarch64-linux/ascend_toolkit_install.info",
            "package_name=x\nversion=8.2.RC1\n",
            "8.2.RC1",
        ),
        ("cann/x86_64-linux/ascend_toolkit_install.info", "version=8.5.0\narch=x86_64\n", "8.5.0"),
        ("ascend-toolkit/latest/compiler/version.info", "Version=7.7.0.1.220:8.2.RC1\n", "8.2.RC1"),
        ("ascend-toolkit/latest/compiler/version.info", "Version=7.7.0.1.220\nversion_dir=8.3.RC1\n", "8.3.RC1"),
    ],
)
def test_the_version_is_read_where_the_packages_write_it(tmp_path: Path, file: str, text: str, version: str) -> None:
    path = tmp_path / "usr/local/Ascend" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    found = find_cann({}, tmp_path)
    assert found is not None
    assert (found.version, found.source) == (version, path)
    assert "libascendcl.so" in found.problem  # there, and nobody sourced set_env.sh


def test_a_sourced_cann_is_loaded(tmp_path: Path) -> None:
    home = tmp_path / "usr/local/Ascend/cann"
    folder = install_cann(home)
    unsourced = find_cann({}, tmp_path)
    assert unsourced is not None
    assert "cannot open shared object file" in unsourced.problem
    assert unsourced.remedy == f"source {home}/set_env.sh"
    sourced = find_cann({"LD_LIBRARY_PATH": str(folder)}, tmp_path)
    info = home / "aarch64-linux/ascend_toolkit_install.info"
    assert sourced == Cann(home, "8.5.0", info)


def test_what_the_loader_takes_counts_before_the_folders_and_the_variables(tmp_path: Path) -> None:
    install_cann(tmp_path / "usr/local/Ascend/cann", "8.5.0")
    install_cann(tmp_path / "named", "9.0.0")
    folder = install_cann(tmp_path / "loaded", "9.1.0")
    named = {"ASCEND_HOME_PATH": str(tmp_path / "named")}
    by_variable, by_loader = find_cann(named, tmp_path), find_cann({**named, "LD_LIBRARY_PATH": str(folder)}, tmp_path)
    assert by_variable is not None
    assert by_loader is not None
    assert (by_variable.version, by_loader.version) == ("9.0.0", "9.1.0")


def test_a_damaged_library_is_a_problem(tmp_path: Path) -> None:
    folder = install_cann(tmp_path / "usr/local/Ascend/cann", is_whole=False)
    found = find_cann({"LD_LIBRARY_PATH": str(folder)}, tmp_path)
    assert found is not None
    assert found.version == "8.5.0"
    assert "libascendcl.so" in found.problem
