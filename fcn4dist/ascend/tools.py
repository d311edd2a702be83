"""Ascend's tools, npu-smi and hccn_tool: how they are called, and what they and hccn.conf say, as values.

Nothing else in the package calls them or reads what they print.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn4dist.ascend.rank_table.rules.fields import is_address
from fcn4dist.ascend.rank_table.schema import Chip

FOLDERS = (Path("/usr/local/Ascend/driver/tools"), Path("/usr/local/sbin"))  # where the driver puts them, off PATH
LIMIT_S = 20.0  # for one answer
OWN_PREFIX = "FCN4DIST_"
MEGABYTE = 1 << 20

_CONF_KEY = re.compile(r"^\s*(address|IPv6address)_(\d+)\s*=\s*(\S*)\s*$", re.MULTILINE)
_NPU_ID = re.compile(r"^\s*NPU ID\s*:\s*(\d+)\s*$", re.MULTILINE)
_CHIP_COUNT = re.compile(r"^\s*Chip Count\s*:\s*(\d+)\s*$", re.MULTILINE)
_SPOD_KEY = re.compile(r"^\s*(SDID|Super Pod ID)\s*:\s*(\d+)\s*$", re.MULTILINE)
_LINK = re.compile(r"^\s*link status\s*:\s*(\w+)", re.MULTILINE | re.IGNORECASE)


def without_own(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that another program is started with: all but our own, such as the job's secret."""
    return {name: value for name, value in environ.items() if not name.startswith(OWN_PREFIX)}


class Tools:
    """The tools of this host: what they print; an empty text where one is missing, fails or hangs.

    One that hung is not asked again: sixteen devices would be sixteen times the limit.
    """

    def __init__(
        self, environ: Mapping[str, str], *, folders: Sequence[Path] = FOLDERS, limit_s: float = LIMIT_S
    ) -> None:
        search = os.pathsep.join([environ.get("PATH", os.defpath), *map(str, folders)])
        self._hccn_tool = shutil.which("hccn_tool", path=search)
        self._npu_smi = shutil.which("npu-smi", path=search)
        self._limit_s = limit_s
        self._hung: set[str] = set()

    @property
    def has_hccn_tool(self) -> bool:
        """Whether hccn_tool is installed."""
        return self._hccn_tool is not None

    def ask_hccn(self, device: int, *arguments: str) -> str:
        """Return what `hccn_tool -i DEVICE ...` prints; the device by its physical id."""
        return self._ask(self._hccn_tool, "-i", str(device), *arguments)

    def ask_npu_smi(self, *arguments: str) -> str:
        """Return what `npu-smi info ...` prints."""
        return self._ask(self._npu_smi, "info", *arguments)

    def _ask(self, tool: str | None, *arguments: str) -> str:
        """Return what a tool prints: its text decides, not its exit code."""
        if tool is None or tool in self._hung:
            return ""
        try:
            done = subprocess.run(
                [tool, *arguments],
                capture_output=True,
                timeout=self._limit_s,
                stdin=subprocess.DEVNULL,
                env=without_own(os.environ),
                check=False,
            )
        except subprocess.TimeoutExpired:
            self._hung.add(tool)
            return ""
        except OSError:
            return ""
        return done.stdout.decode(errors="replace")


def parse_hccn_address(text: str) -> str | None:
    """Return the address that `hccn_tool -i N -ip -g` (or `-inet6`) printed; None if the device has none.

    The lines are `ipaddr:192.0.2.1` or `ipv6_address:2001:db8::1`: the key ends at the first colon.
    """
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("ipaddr", "ipv6_address") and is_address(value.strip()):
            return value.strip()
    return None


def parse_link(text: str) -> bool | None:
    """Return whether `hccn_tool -i N -link -g` says that the link is up; None if it says neither."""
    match = _LINK.search(text)
    return None if match is None else match[1].upper() == "UP"


def parse_hccn_conf(text: str) -> dict[int, str]:
    """Return the address of every device in an hccn.conf; IPv4 before IPv6 where it has both."""
    found: dict[int, dict[str, str]] = {}
    for key, device, value in _CONF_KEY.findall(text):
        if is_address(value):
            found.setdefault(int(device), {})[key] = value
    return {device: values.get("address") or values["IPv6address"] for device, values in sorted(found.items())}


@dataclass(frozen=True, slots=True)
class Npu:
    """Where one device sits for npu-smi."""

    device_id: int  # physical id
    npu: int  # `-i`
    chip: int  # `-c`


def parse_npu_smi_map(text: str) -> list[Npu]:
    """Return the devices in the table of `npu-smi info -m`; rows of the controller (Mcu) have no logic id.

    NPUs with two chips (A3) have physical ids 2 x NPU ID + Chip ID.
    """
    rows = [line.split() for line in text.splitlines()]
    places = [(int(r[0]), int(r[1])) for r in rows if len(r) >= 3 and all(word.isdigit() for word in r[:3])]
    chips = 1 + max((chip for _, chip in places), default=0)
    return [Npu(npu * chips + chip, npu, chip) for npu, chip in places]


def parse_npu_smi_list(text: str) -> list[Npu]:
    """Return the devices in the blocks of `npu-smi info -l`: `NPU ID : 6`, `Chip Count : 1`."""
    counts = [int(count) for count in _CHIP_COUNT.findall(text)]
    npus = [int(npu) for npu in _NPU_ID.findall(text)]
    chips = max(counts, default=1)
    return [Npu(npu * chips + chip, npu, chip) for npu in npus for chip in range(chips)]


def _iter_rows(text: str) -> Iterator[tuple[list[list[str]], list[list[str]]]]:
    """Yield the two rows of every device in the table of `npu-smi info`: one with the name, then one with the bus id.

    A row is its three cells, each a list of words.
    """
    first: list[list[str]] | None = None
    for line in text.splitlines():
        cells = [cell.split() for cell in line.strip().strip("|").split("|")]
        if not line.lstrip().startswith("|") or len(cells) < 3 or not cells[0] or not cells[0][0].isdigit():
            continue
        if ":" in " ".join(cells[1]):
            if first is not None:
                yield first, cells
        elif len(cells[0]) > 1:
            first = cells


def parse_npu_smi_info(text: str) -> list[Npu]:
    """Return the devices in the table of `npu-smi info`: A3 and 310P have the id beside the number of the chip."""
    has_physical_ids = re.search(r"\bChip\s+(?:Phy-ID|Device)\b", text) is not None
    found = []
    for first, second in _iter_rows(text):
        npu, words = int(first[0][0]), second[0]
        physical = int(words[1]) if has_physical_ids and len(words) > 1 else npu
        found.append(Npu(physical, npu, int(words[0])))
    return found


def parse_npu_health(text: str) -> dict[int, str]:
    """Return NPU -> "OK", "Warning", "Alarm" or "Critical" of `npu-smi info`; of an A3's two chips the one that ails."""
    found: dict[int, str] = {}
    for first, _ in _iter_rows(text):
        npu, health = int(first[0][0]), " ".join(first[1])
        if health and found.get(npu, "OK") == "OK":
            found[npu] = health
    return found


@dataclass(frozen=True, slots=True)
class NpuProcess:
    """A process that uses an NPU."""

    npu: int  # `-i`
    pid: int
    name: str


def parse_npu_processes(text: str) -> list[NpuProcess]:
    """Return the processes in the last table of `npu-smi info`: `| 0       0  | 632268  | python3.1  | 197 |`."""
    _, _, table = text.partition("Process id")
    found = []
    for line in table.splitlines():
        cells = [cell.split() for cell in line.strip().strip("|").split("|")]
        if len(cells) >= 4 and len(cells[0]) == 2 and len(cells[1]) == 1 and cells[1][0].isdigit():
            found.append(NpuProcess(int(cells[0][0]), int(cells[1][0]), " ".join(cells[2])))
    return found


def parse_npu_usage(text: str) -> list[dict[str, Any]]:
    """Return an entry a device from the table of `npu-smi info`: its number there, power, temperature, load and memory.

    The first row of a device ends in `Power(W) Temp(C) Hugepages`, the second in `AICore(%) Memory-Usage(MB) HBM-Usage(MB)`. The
    memory is that of the last pair: HBM, or the DDR of chips without it. Cells that are no numbers are left out.
    """
    found: list[dict[str, Any]] = []
    for first, second in _iter_rows(text):
        power, temperature, *_ = [*map(_parse_float, first[2]), None, None]
        load, *pairs = map(_parse_float, " ".join(second[2]).replace("/", " ").split() or [""])
        used, total = pairs[-2:] if len(pairs) >= 2 else (None, None)
        values = {
            "power_w": power,
            "temperature_c": temperature,
            "load_percent": load,
            "memory_bytes": None if used is None else used * MEGABYTE,
            "total_bytes": None if total is None else total * MEGABYTE,
        }
        known = {key: value for key, value in values.items() if value is not None}
        found.append({"npu": int(first[0][0]), "chip": int(second[0][0]), **known})
    return found


def _parse_float(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def parse_chip(text: str) -> Chip | None:
    """Return the chip that the column Name of `npu-smi info` has: 950..., 910B, 910B1 to 910B4-1 and 910B2C, 310P3, or a 910.

    An A3 is 910_93.. there, or a plain Ascend910 beside a column of physical ids.
    """
    name = next((name for name in _iter_names(text)), "").removeprefix("Ascend")
    if name.startswith("950"):
        return "950"
    if re.match(r"910B(?:\d|$)", name):
        return "910b"
    if name.startswith("310P"):
        return "310p3"
    if name.startswith("910_93") or (name == "910" and "Phy-ID" in text):
        return "a3"
    return "910" if name.startswith("910") else None


def _iter_names(text: str) -> Iterator[str]:
    """Yield the name in the first row of every device; the other rows have a number or nothing there."""
    for line in text.splitlines():
        words = line.strip().strip("|").split("|")[0].split() if line.lstrip().startswith("|") else []
        if len(words) > 1 and words[0].isdigit() and not words[1].isdigit():
            yield "".join(words[1:])


def parse_spod_info(text: str) -> tuple[int, str] | None:
    """Return (SDID, Super Pod ID) of `npu-smi info -t spod-info`; None outside a super pod."""
    values = dict(_SPOD_KEY.findall(text))
    if "SDID" not in values or "Super Pod ID" not in values:
        return None
    return int(values["SDID"]), values["Super Pod ID"]
