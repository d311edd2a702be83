"""Versions and their pairing, and MindSpore's trial in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from fcn4dist.doctor.question import Surroundings
from fcn4dist.doctor.software import (
    check_cann,
    check_mindspore,
    check_mindspore_runs,
    check_numpy,
    check_python,
    find_cann,
    supported_cann,
)


@pytest.mark.parametrize(
    ("version", "status"), [((3, 9), "error"), ((3, 10), "ok"), ((3, 12), "ok"), ((3, 13), "error"), ((4, 0), "error")]
)
def test_python(version: tuple[int, int], status: str) -> None:
    assert check_python(version).status == status


@pytest.mark.parametrize(
    ("version", "status"),
    [
        (None, "error"),
        ("2.7.1", "error"),
        ("2.7.2", "ok"),
        ("2.9.0", "ok"),
        ("2.10.0", "ok"),
        ("2.11.0rc1", "error"),
        ("2.10.0rc1", "ok"),
        ("2.9.0+ascend910b", "ok"),
        ("unknown", "error"),
    ],
)
def test_mindspore(version: str | None, status: str) -> None:
    check = check_mindspore(version)
    assert check.status == status
    assert bool(check.remedy) == (status == "error")


@pytest.mark.parametrize(
    ("version", "status"), [("1.26.4", "ok"), ("2.0.0rc1", "error"), ("2.0.2", "error"), (None, "error")]
)
def test_numpy(version: str | None, status: str) -> None:
    assert check_numpy(version).status == status


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
def test_cann_is_found_where_its_packages_put_it(machine: FakeMachine, file: str, text: str, version: str) -> None:
    path = machine.write(f"usr/local/Ascend/{file}", text)
    assert find_cann(machine.around) == (version, path)


def test_the_sourced_cann_counts_before_the_default_one(machine: FakeMachine) -> None:
    machine.write("usr/local/Ascend/cann/x-linux/ascend_toolkit_install.info", "version=8.5.0\n")
    machine.write("opt/cann/version.info", "Version=9.0.0\n")
    machine.environ["ASCEND_HOME_PATH"] = str(machine.root / "opt/cann")
    found = find_cann(machine.around)
    assert found is not None
    assert found[0] == "9.0.0"


def test_cann_versions_are_those_that_mindspore_names(tmp_path: Path) -> None:
    file = tmp_path / "check.py"
    file.write_text(
        'class GPU:\n    self.version = ["10.1"]\nclass AscendEnvChecker:\n    self.version = ["8.2", "8.5"]\n'
    )
    assert supported_cann(file) == ("8.2", "8.5")
    assert supported_cann(tmp_path / "nowhere.py") == ()


def test_the_installed_mindspore_names_cann_versions() -> None:
    """MindSpore 2.7.2 to 2.10 all name 8.5: https://mindspore.cn/docs/en/master/faq/installation.html."""
    assert "8.5" in supported_cann()


@pytest.mark.parametrize(
    ("version", "target", "status"),
    [("8.5.0", "Ascend", "ok"), ("7.0.RC1", "Ascend", "error"), ("7.0.RC1", "CPU", "warning")],
)
def test_pairing(machine: FakeMachine, version: str, target: str, status: str) -> None:
    machine.write("usr/local/Ascend/cann/x-linux/ascend_toolkit_install.info", f"version={version}\n")
    check = check_cann("2.10.0", target, machine.around)  # type: ignore[arg-type]
    assert (check.status, version in check.message) == (status, True)


def test_cann_is_needed_on_ascend_alone(machine: FakeMachine) -> None:
    assert check_cann("2.10.0", "CPU", machine.around).status == "ok"
    assert check_cann("2.10.0", "Ascend", machine.around).status == "error"


def test_mindspore_computes_here() -> None:
    check = check_mindspore_runs("CPU", Surroundings())
    assert check.status == "ok", check.message
    assert "first convolution on CPU" in check.message


def test_a_mindspore_that_cannot_be_imported_shows_its_last_line(machine: FakeMachine) -> None:
    machine.write("fake/mindspore.py", "raise ImportError('libgomp.so.1: cannot open shared object file')\n")
    machine.environ["PYTHONPATH"] = str(machine.root / "fake")
    check = check_mindspore_runs("CPU", machine.around)
    assert check.status == "error"
    assert check.message == "exit code 1: ImportError: libgomp.so.1: cannot open shared object file"


def test_a_mindspore_that_crashes_or_hangs_is_told(machine: FakeMachine) -> None:
    machine.environ["PYTHONPATH"] = str(machine.root / "fake")
    machine.write("fake/mindspore.py", "import os; os.abort()\n")
    assert "signal 6" in check_mindspore_runs("CPU", machine.around).message
    machine.write("fake/mindspore.py", "import signal; signal.pause()\n")
    check = check_mindspore_runs("CPU", machine.around, limit_s=3.0)
    assert (check.status, "more than 3 s" in check.message) == ("error", True)


def test_the_doctor_does_not_import_mindspore() -> None:
    import subprocess

    code = "import sys, fcn4dist.doctor.examination; print('mindspore' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
