"""One table: hosts and their variables, and the devices, numbers and chip that must come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fake_ascend import devices_of_cann, make_host

from fcn4dist.ascend.devices import MOUNTED, VISIBLE, find_devices
from fcn4dist.ascend.rank_table.schema import Chip
from fcn4dist.errors import DeviceError


@dataclass(frozen=True)
class Case:
    """A host, and the physical ids by position that a worker there sees; `refused`: what the refusal says instead."""

    title: str
    chip_name: str | None  # as npu-smi prints it; None: no npu-smi
    nodes: Sequence[int]
    environ: Mapping[str, str] = field(default_factory=dict)
    ids: Sequence[int] = ()
    workers_variable: str | None = None
    chip: Chip | None = "910b"
    conf: str | None = None  # hccn.conf, where there is no hccn_tool
    addresses: Sequence[int] | None = None  # last number of each; by default id + 1
    refused: str | None = None


EIGHT, ALL_DIES = range(8), range(16)
HOST_CONF = "".join(f"address_{device}=198.51.100.{device + 1}\n" for device in EIGHT)
CASES = [
    Case("bare metal", "910B3", EIGHT, ids=EIGHT),
    Case("910A", "910A", EIGHT, ids=EIGHT, chip="910"),
    Case("910ProB", "910ProB", EIGHT, ids=EIGHT, chip="910"),
    Case("910B2C, sixteen", "910B2C", ALL_DIES, ids=ALL_DIES),
    Case("310P, two chips a card", "310P3", range(4), ids=range(4), chip="310p3"),
    Case("950 that holds 910 in other columns", "Ascend950PR", EIGHT, ids=EIGHT, chip="950"),
    Case("A3, sixteen dies", "Ascend910", ALL_DIES, ids=ALL_DIES, chip="a3"),
    Case("A3, its full name", "Ascend910_9391", range(2), ids=range(2), chip="a3"),
    Case("A3, two dies visible", "Ascend910", ALL_DIES, {VISIBLE: "14,15"}, [14, 15], "14,15", chip="a3"),
    Case("A3, half of it in a container", "Ascend910", range(8, 16),
         {MOUNTED: ",".join(f"Ascend910-{die}" for die in range(8, 16))}, range(8, 16), chip="a3"),
    Case("upper half visible", "910B3", EIGHT, {VISIBLE: "4,5,6,7"}, [4, 5, 6, 7], "4,5,6,7"),
    Case("a range, which CANN cannot read", "910B3", EIGHT, {VISIBLE: "0-3"}, range(4), "0,1,2,3"),
    Case("a blank and no order, which CANN cannot read", "910B3", EIGHT, {VISIBLE: "3, 1"}, [1, 3], "1,3"),
    Case("all visible by name", "910B3", EIGHT, {VISIBLE: "0-7"}, EIGHT),
    Case("set to nothing", "910B3", EIGHT, {VISIBLE: " "}, EIGHT),
    Case("container with 4-7", "910B3", range(4, 8), {MOUNTED: "4-7"}, [4, 5, 6, 7]),
    Case("container with 4-7, nobody says so", "910B3", range(4, 8), ids=[4, 5, 6, 7]),
    Case("container with 4-7, two visible", "910B3", range(4, 8), {MOUNTED: "4-7", VISIBLE: "1,3"}, [5, 7], "1,3"),
    Case("container with 4-7, physical ids given as positions", "910B3", range(4, 8), {VISIBLE: "4,5"},
         refused=r"ASCEND_RT_VISIBLE_DEVICES=4,5: position 5 of 4 devices \(4, 5, 6, 7\); expected positions from 0"),
    Case("container with one device", "910B3", [6], {MOUNTED: "6"}, [6]),
    Case("privileged container: all nodes, two meant", "910B3", EIGHT, {MOUNTED: "4,5"}, [4, 5], "4,5"),
    Case("privileged container, positions of others", "910B3", EIGHT, {MOUNTED: "4,5", VISIBLE: "0,1"},
         refused="no device is left: this host has 0, 1, .*ASCEND_VISIBLE_DEVICES=4,5, ASCEND_RT_VISIBLE_DEVICES=0,1"),
    Case("the container runtime's words", "910B3", EIGHT, {MOUNTED: "all"}, EIGHT),
    Case("out of range", "910B3", EIGHT, {VISIBLE: "6,8"}, refused="position 8 of 8 devices"),
    Case("no list", "910B3", EIGHT, {VISIBLE: "0,a"}, refused="ASCEND_RT_VISIBLE_DEVICES: 'a' is no device list"),
    Case("goes down", "910B3", EIGHT, {VISIBLE: "4-2"}, refused="ASCEND_RT_VISIBLE_DEVICES: '4-2'"),
    Case("no npu-smi", None, range(4), ids=range(4), chip=None),
    Case("no hccn_tool", "910B3", range(4, 8), ids=range(4, 8), conf=HOST_CONF),
    Case("no hccn_tool, hccn.conf counts the container's own", "910B3", range(4, 8), {VISIBLE: "1,3"}, [5, 7], "1,3",
         conf="address_0=198.51.100.40\naddress_1=198.51.100.50\naddress_2=198.51.100.60\naddress_3=198.51.100.70\n",
         addresses=[50, 70]),
    Case("the same with ids that overlap", "910B3", [1, 2], ids=[1, 2],
         conf="address_0=198.51.100.10\naddress_1=198.51.100.20\n", addresses=[10, 20]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_what_comes_out(case: Case, tmp_path: Path) -> None:
    host = make_host(tmp_path / "host", case.chip_name, case.nodes, case.environ)
    if case.conf is not None:
        (host.bin / "hccn_tool").unlink()
        host.conf.write_text(case.conf)
    if case.refused is not None:
        with pytest.raises(DeviceError, match=case.refused):
            find_devices(host.environment, host.dev)
        with pytest.raises(DeviceError, match=case.refused):
            host.discover()
        return
    found = find_devices(host.environment, host.dev)
    assert [(device.position, device.physical_id) for device in found.numbers] == list(enumerate(case.ids))
    assert found.variable == case.workers_variable
    assert devices_of_cann(host.nodes, found.variable) == list(case.ids)  # CANN counts as we do
    table = host.discover()
    addresses = [device + 1 for device in case.ids] if case.addresses is None else case.addresses
    assert [(device.device_id, device.device_ips) for device in table.server.devices] == [
        (device, (f"198.51.100.{last}",)) for device, last in zip(case.ids, addresses, strict=True)
    ]
    assert table.chip == case.chip


@pytest.mark.parametrize(
    ("visible", "chosen", "variable"),
    [
        (None, [0, 1], None),  # its first ones: what is visible stays as it is
        (None, [2, 3], "2,3"),
        (None, [0, 3], "0,3"),
        ("4,5,6,7", [4, 5], "4,5,6,7"),
        ("4,5,6,7", [5, 6], "5,6"),
    ],
)
def test_chosen_devices_are_the_first_ones_of_the_worker(
    visible: str | None, chosen: list[int], variable: str | None, tmp_path: Path
) -> None:
    host = make_host(tmp_path / "host", "910B3", EIGHT, {} if visible is None else {VISIBLE: visible})
    found = find_devices(host.environment, host.dev).choose(chosen, "--hostfile hosts")
    assert found.variable == variable
    assert devices_of_cann(host.nodes, found.variable)[: len(chosen)] == chosen
    with pytest.raises(DeviceError, match=r"--hostfile hosts: device 8 is not among this host's \["):
        found.choose([8], "--hostfile hosts")


def test_a_host_without_devices(tmp_path: Path) -> None:
    assert find_devices({VISIBLE: "0"}, tmp_path / "nothing").numbers == ()
