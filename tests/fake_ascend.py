"""Ascend hosts that are not here: device nodes, hccn.conf, and tools that print what the real ones are documented to print."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcn4dist.ascend.devices import HostPaths
from fcn4dist.ascend.discover import Discovery, discover

HCCN_TOOL = """\
#!/bin/sh
# hccn_tool -i N -ip -g | -ip -inet6 -g | -link -g
[ "$1" = -i ] || exit 1
case "$3 $4 $5" in
  "-ip -g ") file=$FAKE/ip4.$2 ;;
  "-ip -inet6 -g") file=$FAKE/ip6.$2 ;;
  "-link -g ") file=$FAKE/link.$2 ;;
  *) exit 1 ;;
esac
[ -f "$file" ] && cat "$file" || { echo "hccn_tool: command execute failed"; exit 1; }
"""
NPU_SMI = """\
#!/bin/sh
# npu-smi info | info -m | info -l | info -t spod-info -i N -c C
case "$*" in
  info) file=$FAKE/info ;;
  "info -m") file=$FAKE/map ;;
  "info -l") file=$FAKE/list ;;
  "info -t spod-info "*) file=$FAKE/spod.$5.$7 ;;
  *) exit 1 ;;
esac
[ -f "$file" ] && cat "$file"
"""
RULE = "+===========================+===============+====================================================+\n"
HEAD = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 25.0.rc1                 Version: 25.0.rc1                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| {columns:<25} | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
"""
ROWS = """\
| {npu:<5} {name:<19} | OK            | 93.4        47                0    / 0             |
| {chip:<25} | 0000:{bus:02X}:00.0  | 0           0    / 0          3350 / 65536         |
"""
PROCESSES = """\
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| {npu:<7} 0                 | 310910        | python                   | 910                     |
"""
SPOD = """\
\tSDID                           : {sdid}
\tSuper Pod Size                 : 384
\tSuper Pod ID                   : 3
"""


def format_info(name: str, ids: Sequence[int]) -> str:
    """Return what `npu-smi info` prints for devices with these physical ids; the chip's name decides about the columns.

    A3 and 950 have two chips an NPU and a column of physical ids, 310P two chips an NPU whose number is that of its slot.
    """
    has_dies = name in ("Ascend910", "Ascend950PR") or name.startswith("Ascend910_93")
    columns = "Chip  Phy-ID" if has_dies else "Chip  Device" if name == "310P3" else "Chip"
    rows = ""
    for device in ids:
        npu, chip = (device // 2, f"{device % 2:<5} {device}") if columns != "Chip" else (device, "0")
        npu += 4 if name == "310P3" else 0
        rows += ROWS.format(npu=npu, name=name, chip=chip, bus=0xC1 + device) + RULE
    return HEAD.format(columns=columns) + RULE + rows + PROCESSES.format(npu=ids[0]) + RULE


class FakeHost:
    """A host: what its tools print, its device nodes, its hccn.conf and its variables."""

    def __init__(self, folder: Path) -> None:
        self.answers, self.bin, self.dev, self.conf = (folder / name for name in ("answers", "bin", "dev", "hccn.conf"))
        for made in (self.answers, self.bin, self.dev):
            made.mkdir(parents=True)
        (self.dev / "davinci_manager").touch()
        self.environment = {"PATH": f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin"}

    @property
    def paths(self) -> HostPaths:
        return HostPaths(dev=self.dev, hccn_conf=self.conf, tool_folders=())

    @property
    def nodes(self) -> list[int]:
        return sorted(int(file.name.removeprefix("davinci")) for file in self.dev.glob("davinci[0-9]*"))

    def install(self, name: str, script: str) -> None:
        tool = self.bin / name
        tool.write_text(script.replace("\n", f"\nFAKE={self.answers}\n", 1))
        tool.chmod(0o755)

    def answer(self, name: str, text: str) -> None:
        (self.answers / name).write_text(textwrap.dedent(text))

    def add_devices(self, ids: Sequence[int], *, nodes: bool = True, network: str = "198.51.100") -> None:
        for device in ids:
            if nodes:
                (self.dev / f"davinci{device}").touch()
            self.answer(f"ip4.{device}", f"ipaddr:{network}.{device + 1}\nnetmask:255.255.0.0\n")
            self.answer(f"link.{device}", "link status: UP\n")

    def discover(self, **options: Any) -> Discovery:
        return discover(self.environment, server_address="192.0.2.7", paths=self.paths, **options)


def make_host(
    folder: Path, name: str | None, ids: Sequence[int], environ: Mapping[str, str] | None = None, **options: Any
) -> FakeHost:
    """Make a host with devices `ids` of chip `name`; None: without npu-smi."""
    host = FakeHost(folder)
    host.install("hccn_tool", HCCN_TOOL)
    host.add_devices(ids, **options)
    host.environment |= environ or {}
    if name is not None:
        host.install("npu-smi", NPU_SMI)
        host.answer("info", format_info(name, ids))
    return host


def devices_of_cann(nodes: Sequence[int], visible: str | None) -> list[int]:
    """Return the physical ids that CANN gives a process, by index; written from its manual alone.

    Without the variable all that the container has, ascending. With it the listed ones, up to the first that is no number
    or is not there; they must ascend.
    """
    if visible is None:
        return list(nodes)
    chosen: list[int] = []
    for word in visible.split(","):
        if not word.isdigit() or int(word) >= len(nodes):
            break
        assert not chosen or int(word) > chosen[-1], f"not ascending: {visible}"
        chosen.append(int(word))
    return [nodes[position] for position in chosen]
