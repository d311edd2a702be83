"""Discovery against fake tools that print what the real ones are documented to print."""

from __future__ import annotations

import socket

import psutil
import pytest
from fake_ascend import HCCN_TOOL, NPU_SMI, SPOD, FakeHost, format_info

from fcn4dist.ascend.addresses import find_own_address, is_routable
from fcn4dist.ascend.tools import (
    Npu,
    parse_chip,
    parse_hccn_address,
    parse_hccn_conf,
    parse_link,
    parse_npu_smi_info,
    parse_npu_smi_list,
    parse_npu_smi_map,
    parse_spod_info,
)
from fcn4dist.errors import RankTableError

INFO_910B = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc2                 Version: 24.1.rc2                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 4     910B3               | OK            | 93.4        47                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3350 / 65536         |
+===========================+===============+====================================================+
| 5     910B3               | OK            | 91.0        46                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3350 / 65536         |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| No running processes found in NPU 4                                                            |
+===========================+===============+====================================================+
"""
INFO_A3 = """\
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     Ascend910           | OK            | 172.4       38                0    / 0             |
| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3140 / 65536         |
+------------------------------------------------------------------------------------------------+
| 0     Ascend910           | OK            | -           37                0    / 0             |
| 1     1                   | 0000:9F:00.0  | 0           0    / 0          2875 / 65536         |
+===========================+===============+====================================================+
"""
MAP = """\
\tNPU ID                         Chip ID                        Chip Logic ID                  Chip Name
\t0                              0                              0                              Ascend 910B
\t0                              1                              -                              Mcu
\t1                              0                              1                              Ascend 910B
\t1                              1                              -                              Mcu
"""
LIST = """\
\tTotal Count                    : 2

\tNPU ID                         : 6
\tChip Count                     : 1

\tNPU ID                         : 7
\tChip Count                     : 1
"""


@pytest.fixture
def host(tmp_path):
    made = FakeHost(tmp_path / "host")
    made.install("hccn_tool", HCCN_TOOL)
    return made


def addresses(discovery):
    return {device.device_id: device.device_ips for device in discovery.server.devices}


def test_addresses_come_from_hccn_tool(host):
    host.add_devices(range(8))
    found = host.discover()
    assert addresses(found) == {device: (f"198.51.100.{device + 1}",) for device in range(8)}
    assert (found.server.server_id, found.server.pod_ip) == ("192.0.2.7", "192.0.2.7")
    assert found.remarks == []


def test_ipv6_is_asked_for_where_there_is_no_ipv4(host):
    host.add_devices([0])
    host.answer("ip4.0", "")
    host.answer("ip6.0", "ipv6_address:2001:db8::a:1\nprefix_length:64\n")
    assert addresses(host.discover()) == {0: ("2001:db8::a:1",)}


def test_a_link_that_is_down_is_reported(host):
    host.add_devices([0, 1])
    host.answer("link.1", "link status: DOWN\n")
    found = host.discover()
    assert len(found.server.devices) == 2
    assert [remark for remark in found.remarks if "DOWN" in remark] == [
        "device 1: its link is DOWN; collectives between servers will hang"
    ]


@pytest.mark.parametrize("answer", ["ipaddr:-.-.-.-\n", "", "hccn_tool: no permission\n", "ipaddr:0.0.0.0\n"])
def test_a_device_without_an_address_is_kept_and_reported(host, answer):
    host.add_devices([0, 1])
    host.answer("ip4.1", answer)
    found = host.discover()
    assert addresses(found) == {0: ("198.51.100.1",), 1: ()}
    assert any(remark.startswith("device 1 has no address") for remark in found.remarks)


def test_without_the_tool_hccn_conf_is_read(host):
    (host.bin / "hccn_tool").unlink()
    host.add_devices([0, 1])
    host.conf.write_text("address_0=198.51.100.1\nnetmask_0=\naddress_1=198.51.100.2\nIPv6address_1=2001:db8::2\n")
    found = host.discover()
    assert addresses(found) == {0: ("198.51.100.1",), 1: ("198.51.100.2",)}
    assert any("hccn_tool is not on PATH" in remark for remark in found.remarks)


def test_a_difference_between_tool_and_file_is_reported_and_the_tool_counts(host):
    host.add_devices([0, 1])
    host.conf.write_text("address_0=198.51.100.1\naddress_1=203.0.113.2\n")
    found = host.discover()
    assert addresses(found)[1] == ("198.51.100.2",)
    (remark,) = found.remarks
    assert "198.51.100.2" in remark
    assert "203.0.113.2" in remark


def test_devices_that_the_container_runtime_names_and_that_are_not_here_are_told(host):
    host.add_devices([4, 6])
    host.environment["ASCEND_VISIBLE_DEVICES"] = "Ascend910-4,Ascend910-5"
    found = host.discover()
    assert list(addresses(found)) == [4]
    assert found.remarks == ["ASCEND_VISIBLE_DEVICES=Ascend910-4,Ascend910-5: device 5 is not here, but 4, 6"]


def test_asked_devices_must_be_there(host):
    host.add_devices(range(4))
    assert list(addresses(host.discover(device_ids=(1, 2)))) == [1, 2]
    with pytest.raises(RankTableError, match="device 4 is not on this host; expected some of 0, 1, 2, 3"):
        host.discover(device_ids=(3, 4))


def test_npu_smi_names_devices_and_chip_where_there_are_no_device_nodes(host):
    host.add_devices([4, 5], nodes=False)
    host.install("npu-smi", NPU_SMI)
    host.answer("info", INFO_910B)
    found = host.discover()
    assert (list(addresses(found)), found.chip) == ([4, 5], "910b")


def test_an_a3_tells_its_super_pod(host):
    host.add_devices([0, 1])
    host.install("npu-smi", NPU_SMI)
    host.answer("info", INFO_A3)
    host.answer("spod.0.0", SPOD.format(sdid=16777216))
    host.answer("spod.0.1", SPOD.format(sdid=16842753))
    found = host.discover()
    assert found.chip == "a3"
    assert found.server.super_pod_id == "3"
    assert [device.super_device_id for device in found.server.devices] == [16777216, 16842753]


def test_with_hccn_tool_alone_the_ids_are_tried(host):
    host.add_devices(range(3), nodes=False)
    assert list(addresses(host.discover(chip="910"))) == [0, 1, 2]


def test_with_hccn_tool_alone_a_device_without_an_address_is_found_by_its_link(host):
    host.add_devices(range(2), nodes=False)
    host.answer("ip4.1", "")
    assert addresses(host.discover()) == {0: ("198.51.100.1",), 1: ()}
    assert list(addresses(host.discover(device_ids=(1,)))) == [1]


def test_a_host_without_any_npu_says_where_it_looked(host):
    (host.bin / "hccn_tool").unlink()
    with pytest.raises(RankTableError, match=r"no NPU on this host: no .*/dev/davinci\*, no .*/hccn\.conf"):
        host.discover()


def test_a_tool_that_cannot_be_run_is_as_a_missing_one(host):
    host.add_devices([0])
    host.install("hccn_tool", "#!/no/such/interpreter\n")
    assert addresses(host.discover()) == {0: ()}


def test_this_host_names_an_address_that_others_can_reach_or_says_that_it_has_none():
    addresses = [entry for entries in psutil.net_if_addrs().values() for entry in entries]
    if any(entry.family == socket.AF_INET and is_routable(entry.address) for entry in addresses):
        assert is_routable(find_own_address())
    else:
        with pytest.raises(RankTableError, match="--server-id"):
            find_own_address()


def test_hccn_tool_output():
    assert parse_hccn_address("ipaddr:192.1.45.172\nnetmask:255.255.0.0\n") == "192.1.45.172"
    assert parse_hccn_address("ipv6_address:2001:db8::1\nprefix_length:64\n") == "2001:db8::1"
    assert parse_hccn_address("Notice: update the driver\nipaddr: 192.0.2.1 \n") == "192.0.2.1"
    assert parse_hccn_address("ipaddr:10.0.0.11 / netmask:255.255.255.0") is None
    assert parse_link("link status: UP\n") is True
    assert parse_link("link status: DOWN\npresent : not present\n") is False
    assert parse_link("") is None


def test_hccn_conf_prefers_ipv4_and_passes_blank_values_over():
    text = "address_0=29.1.137.205\nnetmask_0=\nsend_arp_status_0=1\nIPv6address_0=121::101\n"
    text += "IPv6address_3=121::102\naddress_5=\n"
    assert parse_hccn_conf(text) == {0: "29.1.137.205", 3: "121::102"}


def test_npu_smi_output():
    assert parse_npu_smi_info(INFO_910B) == [Npu(4, 4, 0), Npu(5, 5, 0)]
    assert parse_npu_smi_info(INFO_A3) == [Npu(0, 0, 0), Npu(1, 0, 1)]
    assert parse_npu_smi_info(format_info("310P3", range(3))) == [Npu(0, 4, 0), Npu(1, 4, 1), Npu(2, 5, 0)]
    assert parse_npu_smi_map(MAP) == [Npu(0, 0, 0), Npu(1, 1, 0)]
    assert parse_npu_smi_list(LIST) == [Npu(6, 6, 0), Npu(7, 7, 0)]
    assert parse_spod_info(SPOD.format(sdid=16777216)) == (16777216, "3")
    assert parse_spod_info("This device does not support it") is None


@pytest.mark.parametrize(
    ("text", "chip"),
    [
        (INFO_910B, "910b"),
        (INFO_A3, "a3"),
        ("| 0     910B2C   | OK |", "910b"),
        ("| 0     910B4-1  | OK |", "910b"),
        ("| 0     Ascend910B2C | OK |", "910b"),
        ("| 0     Ascend910_9392 | OK |", "a3"),
        ("| 0     910ProB | OK |", "910"),
        ("| 0     910B    | OK |", "910b"),
        ("| 0     Ascend910 | OK |", "910"),
        ("| 0     310P3   | OK |", "310p3"),
        ("| Chip  Phy-ID | Bus-Id |\n| 0     Ascend950PR | OK | 910 |\n| 1  310  | python | 910B |", "950"),
        ("| 0     Ascend950PR | OK |", "950"),
        ("", None),
    ],
)
def test_the_chip_follows_from_the_name(text, chip):
    assert parse_chip(text) == chip
