"""What hccn_tool, hccn.conf and npu-smi print, as values; no process is started here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fcn4dist.ascend.rank_table.rules.fields import is_address
from fcn4dist.ascend.rank_table.schema import Chip

_CONF_KEY = re.compile(r"^\s*(address|IPv6address)_(\d+)\s*=\s*(\S*)\s*$", re.MULTILINE)
_NPU_ID = re.compile(r"^\s*NPU ID\s*:\s*(\d+)\s*$", re.MULTILINE)
_CHIP_COUNT = re.compile(r"^\s*Chip Count\s*:\s*(\d+)\s*$", re.MULTILINE)
_SPOD_KEY = re.compile(r"^\s*(SDID|Super Pod ID)\s*:\s*(\d+)\s*$", re.MULTILINE)
_LINK = re.compile(r"^\s*link status\s*:\s*(\w+)", re.MULTILINE | re.IGNORECASE)


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


def parse_npu_smi_info(text: str) -> list[Npu]:
    """Return the devices in the table of `npu-smi info`: a row with the name, then one with the bus id, a device."""
    has_physical_ids = "Phy-ID" in text
    found: list[Npu] = []
    npu: int | None = None
    for line in text.splitlines():
        cells = [cell.split() for cell in line.strip().strip("|").split("|")]
        if not line.lstrip().startswith("|") or len(cells) < 3 or not cells[0] or not cells[0][0].isdigit():
            continue
        if ":" in " ".join(cells[1]):  # the bus id: the second row of a device
            if npu is not None:
                chip = int(cells[0][0])
                physical = int(cells[0][1]) if has_physical_ids and len(cells[0]) > 1 else npu
                found.append(Npu(physical, npu, chip))
        elif len(cells[0]) > 1:
            npu = int(cells[0][0])
    return found


def parse_chip(text: str) -> Chip | None:
    """Return the chip that `npu-smi info` names: 910B1-4 and 910B2C, 910_93 or a Phy-ID column (A3), 310P3, 950, 910."""
    if re.search(r"\b(?:Ascend)?910B(?:\d\w*)?\b", text):
        return "910b"
    if re.search(r"\b(?:Ascend)?910_93|Phy-ID", text) and "910" in text:
        return "a3"
    if re.search(r"\b(?:Ascend)?310P3?\b", text):
        return "310p3"
    if re.search(r"\b(?:Ascend)?950", text):
        return "950"
    return "910" if re.search(r"\b(?:Ascend)?910[A-Z]?", text) else None


def parse_spod_info(text: str) -> tuple[int, str] | None:
    """Return (SDID, Super Pod ID) of `npu-smi info -t spod-info`; None outside a super pod."""
    values = dict(_SPOD_KEY.findall(text))
    if "SDID" not in values or "Super Pod ID" not in values:
        return None
    return int(values["SDID"]), values["Super Pod ID"]
