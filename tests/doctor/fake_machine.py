"""A machine in a folder: its root, its tools on PATH, its variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cann_tree import install_cann

from fcn4dist.doctor.question import Surroundings

HCCN_TOOL = """#!/bin/sh
# hccn_tool -i N -ip -g | -ip -inet6 -g | -link -g
case "$3 $4" in
  "-ip -g") cat "$FAKE/ip.$2" ;;
  "-link -g") cat "$FAKE/link.$2" ;;
  *) exit 1 ;;
esac
"""
NPU_SMI = """#!/bin/sh
[ "$*" = info ] && cat "$FAKE/info"
"""
ROW = """| {npu}     910B3               | {health:<13} | 93.4        47                0    / 0             |
| 0                         | 0000:C{npu}:00.0  | 0           0    / 0          3350 / 65536         |
+===========================+===============+====================================================+
"""
HEAD = """| npu-smi 24.1.rc2                 Version: 24.1.rc2                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
"""


class FakeMachine:
    """A root folder that tests fill."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.tools = root / "tools"
        self.tools.mkdir(parents=True)
        (root / "dev/shm").mkdir(parents=True)
        self.environ = {"PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}", "HOME": str(root / "home")}
        monkeypatch.setenv("FAKE", str(self.tools))  # the fake tools look there

    @property
    def around(self) -> Surroundings:
        return Surroundings(dict(self.environ), self.root)

    def write(self, name: str, text: str) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def add_cann(self, version: str = "8.5.0") -> Path:
        """Install CANN and source its set_env.sh."""
        home = self.root / "usr/local/Ascend/cann"
        self.environ["LD_LIBRARY_PATH"] = str(install_cann(home, version))
        return home

    def add_npus(self, count: int, *, down: int | None = None, sick: int | None = None) -> None:
        """Make a host with CANN, `count` 910B devices at 192.0.2.10 and up, one with its link down, one not healthy."""
        self.add_cann()
        rows = ""
        for device in range(count):
            self.write(f"dev/davinci{device}", "")
            self.write(f"tools/ip.{device}", f"ipaddr:192.0.2.{10 + device}\nnetmask:255.255.255.0\n")
            self.write(f"tools/link.{device}", f"link status: {'DOWN' if device == down else 'UP'}\n")
            rows += ROW.format(npu=device, health="Critical" if device == sick else "OK")
        self.write("tools/info", HEAD + rows)
        for name, text in (("hccn_tool", HCCN_TOOL), ("npu-smi", NPU_SMI)):
            self.write(f"tools/{name}", text).chmod(0o755)
