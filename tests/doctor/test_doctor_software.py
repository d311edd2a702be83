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
    custom_operators_cann,
    find_wheel,
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


def wheel(folder: Path, *, takes: list[str], built: str | None = None) -> Path:
    """Make what the wheel of MindSpore says of CANN."""
    check = folder / "run_check/_check_version.py"
    check.parent.mkdir(parents=True)
    check.write_text(f'class GPU:\n    self.version = ["10.1"]\nclass AscendEnvChecker:\n    self.version = {takes}\n')
    if built is not None:
        info = folder / "lib/plugin/ascend/custom_ascendc_910b/version.info"
        info.parent.mkdir(parents=True)
        info.write_text(f"custom_opp_compiler_version={built}\n")
    return folder


def test_the_installed_mindspore_says_which_cann_it_is_made_for() -> None:
    """MindSpore 2.7.2 to 2.10 all name 8.5: https://mindspore.cn/docs/en/master/faq/installation.html."""
    installed = find_wheel()
    assert installed is not None
    assert "8.5" in supported_cann(installed)
    assert str(custom_operators_cann(installed)).split(".")[0] in ("8", "9")


@pytest.mark.parametrize(
    ("mindspore", "built", "cann", "target", "status"),
    [
        ("2.7.2", None, "8.5.0", "Ascend", "ok"),
        ("2.8.0", None, "8.5.0", "Ascend", "ok"),
        ("2.9.0", None, "9.0.0", "Ascend", "ok"),
        ("2.9.0", "9.0.0", "9.0.0.1", "Ascend", "ok"),
        ("2.9.0rc1", None, "9.0.0", "Ascend", "ok"),
        ("2.10.0", "9.1.0", "9.1.0", "Ascend", "ok"),
        ("2.10.0", "9.1.0", "8.5.0", "Ascend", "warning"),  # taken, and its own operators do not fit
        ("2.10.0", "9.1.0", "8.2.RC1", "Ascend", "warning"),
        ("2.9.0", None, "8.5.0", "Ascend", "warning"),
        ("2.10.0", "9.1.0", "7.0.RC1", "Ascend", "error"),
        ("2.10.0", "9.1.0", "7.0.RC1", "CPU", "warning"),
    ],
)
def test_pairing(
    machine: FakeMachine, tmp_path: Path, mindspore: str, built: str | None, cann: str, target: str, status: str
) -> None:
    machine.add_cann(cann)
    installed = wheel(tmp_path / "mindspore", takes=["8.2", "8.3", "8.5", "9.0", "9.1"], built=built)
    check = check_cann(mindspore, target, machine.around, installed)  # type: ignore[arg-type]
    assert (check.status, cann in check.message) == (status, True), check
    assert bool(check.remedy) == (status != "ok")


def test_cann_is_needed_on_ascend_alone(machine: FakeMachine) -> None:
    assert check_cann("2.10.0", "CPU", machine.around).status == "ok"
    assert check_cann("2.10.0", "Ascend", machine.around).status == "error"


def test_a_cann_that_nobody_sourced_is_told(machine: FakeMachine) -> None:
    home = machine.add_cann()
    del machine.environ["LD_LIBRARY_PATH"]
    check = check_cann("2.10.0", "Ascend", machine.around)
    assert (check.status, check.remedy) == ("error", f"source {home}/set_env.sh")


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
