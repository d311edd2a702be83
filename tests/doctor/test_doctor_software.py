"""Versions and their pairing, and MindSpore's trial in a process of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from fcn4dist.doctor.question import Surroundings
from fcn4dist.doctor.software import (
    CANN_MODULES,
    LIBRARIES,
    check_ascend_modules,
    check_cann,
    check_libc,
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


@pytest.mark.parametrize(
    ("machine", "version", "status"),
    [("aarch64", "2.17", "warning"), ("aarch64", "2.28", "ok"), ("aarch64", "2.34", "ok"), ("x86_64", "2.17", "ok")],
)
def test_glibc(machine: str, version: str, status: str) -> None:
    assert check_libc(machine, version).status == status


def test_glibc_of_this_machine_is_read() -> None:
    assert re.search(r"glibc 2\.\d+ on \w+", check_libc().message)


def fake_modules(machine: FakeMachine, *, leave_out: tuple[str, ...] = ()) -> None:
    """Put what CANN and MindSpore import on the path of the machine's Python, and a g++ on PATH."""
    for module in {*CANN_MODULES, *LIBRARIES} - set(leave_out):
        machine.write(f"modules/{module}.py", "")
    machine.environ["PYTHONPATH"] = str(machine.root / "modules")
    machine.write("tools/g++", "").chmod(0o755)


def test_all_that_cann_imports_is_there(machine: FakeMachine) -> None:
    fake_modules(machine)
    check = check_ascend_modules(machine.around)
    assert (check.status, check.remedy) == ("ok", "")


def test_a_module_of_cann_and_a_library_that_are_missing_are_told_apart(machine: FakeMachine) -> None:
    fake_modules(machine, leave_out=("hccl", "pathlib2"))
    machine.write("modules/te.py", "print('try sympy')\nraise RuntimeError('no libtvm.so\\nat all')")
    check = check_ascend_modules(machine.around)
    assert check.status == "error"
    assert "hccl: ModuleNotFoundError: No module named 'hccl'" in check.message
    assert "te: RuntimeError: no libtvm.so at all" in check.message
    assert "pathlib2: ModuleNotFoundError" in check.message
    assert "sympy" not in check.message
    assert "pip install its hccl and te wheels" in check.remedy
    assert "fcn4dist[ascend]" in check.remedy


def test_a_module_that_crashes_the_interpreter_is_named(machine: FakeMachine) -> None:
    fake_modules(machine)
    machine.write("modules/tbe.py", "import os; os.abort()\n")
    check = check_ascend_modules(machine.around)
    assert (check.status, "tbe: signal 6" in check.message) == ("error", True)


def test_the_doctor_does_not_import_mindspore() -> None:
    import subprocess

    code = "import sys, fcn4dist.doctor.examination; print('mindspore' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
