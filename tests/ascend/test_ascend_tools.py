"""Ascend's tools are called from one file, without the job's secret, and what they print is read there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import fcn4dist
from fcn4dist.ascend.tools import Tools, parse_npu_health

PACKAGE = Path(fcn4dist.__file__).parent
COMMAND = re.compile(r"(?:\S*/)?(?:npu-smi|hccn_tool)(?: (?:info|-).*)?")  # a command, not advice in a sentence

A3_ONE_CHIP_AILS = """\
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     Ascend910           | Alarm         | 172.4       38                0    / 0             |
| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3140 / 65536         |
| 0     Ascend910           | OK            | -           37                0    / 0             |
| 1     1                   | 0000:9F:00.0  | 0           0    / 0          2875 / 65536         |
| 1     Ascend910           | OK            | -           37                0    / 0             |
| 0     2                   | 0000:A1:00.0  | 0           0    / 0          2875 / 65536         |
"""


def strings_of(file: Path) -> list[str]:
    tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return [node.value for node in tree if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_no_other_file_calls_the_tools() -> None:
    files = {file.relative_to(PACKAGE).as_posix(): file for file in PACKAGE.rglob("*.py")}
    callers = {name for name, file in files.items() if any(map(COMMAND.fullmatch, strings_of(file)))}
    assert callers == {"ascend/tools.py"}
    askers = {name for name, file in files.items() if "net_if_addrs" in file.read_text(encoding="utf-8")}
    assert askers == {"ascend/addresses.py"}


@pytest.mark.parametrize("name", ["npu-smi", "hccn_tool"])
def test_a_tool_does_not_see_the_jobs_secret(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / name
    tool.write_text('#!/bin/sh\necho "$1 ${FCN4DIST_JOB_SECRET-none} ${ASCEND_RT_VISIBLE_DEVICES-none}"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("FCN4DIST_JOB_SECRET", "hush")
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1")
    tools = Tools({"PATH": str(tmp_path)}, folders=())
    said = tools.ask_npu_smi() if name == "npu-smi" else tools.ask_hccn(3, "-ip", "-g")
    assert said.split()[1:] == ["none", "1"]


def test_a_tool_that_hangs_or_is_missing_says_nothing(tmp_path: Path) -> None:
    tool = tmp_path / "npu-smi"
    tool.write_text(f"#!/bin/sh\necho $2 >>{tmp_path}/asked\nexec sleep 60\n")
    tool.chmod(0o755)
    tools = Tools({"PATH": str(tmp_path)}, folders=(Path("/bin"),), limit_s=1.0)
    assert [tools.ask_npu_smi("-m"), tools.ask_npu_smi("-l")] == ["", ""]
    assert (tmp_path / "asked").read_text() == "-m\n"  # one that hung is not asked again
    assert (tools.has_hccn_tool, tools.ask_hccn(0, "-ip", "-g")) == (False, "")


def test_of_two_chips_the_one_that_ails_counts() -> None:
    assert parse_npu_health(A3_ONE_CHIP_AILS) == {0: "Alarm", 1: "OK"}
