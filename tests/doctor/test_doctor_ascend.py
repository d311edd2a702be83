"""NPUs, links, hccl_rootinfo.json and rank tables, on hosts whose tools print what the real ones are documented to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_machine import HEAD, ROW, FakeMachine
from operator_table import operator_table

from fcn4dist.ascend.addresses import find_own_address
from fcn4dist.ascend.tools import parse_npu_health
from fcn4dist.doctor.ascend import check_rank_table, check_root_info, examine_npus


def table(path: Path, servers: dict[str, list[str]], status: str = "completed") -> Path:
    """Write a rank table of 1.0: server id -> the addresses of devices 0, 1, ..."""
    ranks = iter(range(100))
    document = {
        "version": "1.0",
        "server_count": str(len(servers)),
        "server_list": [
            {
                "server_id": server,
                "device": [
                    {"device_id": str(i), "device_ip": ip, "rank_id": str(next(ranks))} for i, ip in enumerate(ips)
                ],
                "pod_ip": server,
            }
            for server, ips in servers.items()
        ],
        "status": status,
    }
    path.write_text(json.dumps(document))
    return path


def test_without_npu_jobs_run_on_cpu(machine: FakeMachine) -> None:
    found = examine_npus("auto", 2, 1, machine.around)
    assert (found.check.status, found.discovery, found.device_ids) == ("ok", None, [])
    asked = examine_npus("Ascend", 2, 1, machine.around).check
    assert asked.status == "error"
    assert "CANN (no libascendcl.so" in asked.message
    assert "an NPU" in asked.message


def test_a_driver_without_cann_is_told(machine: FakeMachine) -> None:
    machine.write("dev/davinci0", "")
    machine.write("usr/local/Ascend/driver/version.info", "Version=24.1\n")
    check = examine_npus("auto", 1, 1, machine.around).check
    assert (check.status, "missing: CANN (no libascendcl.so" in check.message) == ("ok", True)


def test_healthy_npus(machine: FakeMachine) -> None:
    machine.add_npus(2)
    found = examine_npus("auto", 2, 1, machine.around)
    assert found.check.status == "ok"
    assert found.check.message == "2 x 910b: devices 0, 1; all links up"
    assert examine_npus("auto", 3, 1, machine.around).check.status == "error"


@pytest.mark.parametrize(("num_servers", "status"), [(1, "warning"), (2, "error")])
def test_a_link_that_is_down(machine: FakeMachine, num_servers: int, status: str) -> None:
    machine.add_npus(2, down=1)
    check = examine_npus("auto", 2, num_servers, machine.around).check
    assert (check.status, "device 1: its link is DOWN" in check.message) == (status, True)
    assert "hccn_tool" in check.remedy


@pytest.mark.parametrize(("num_servers", "status"), [(1, "warning"), (2, "error")])
def test_an_npu_without_address(machine: FakeMachine, num_servers: int, status: str) -> None:
    machine.add_npus(2)
    (machine.tools / "ip.1").unlink()
    check = examine_npus("auto", 2, num_servers, machine.around).check
    assert (check.status, "device 1 has no address" in check.message) == (status, True)


def test_a_sick_npu(machine: FakeMachine) -> None:
    machine.add_npus(2, sick=1)
    check = examine_npus("auto", 2, 1, machine.around).check
    assert (check.status, "NPU 1 is Critical" in check.message) == ("error", True)


def test_health_of_the_table() -> None:
    text = HEAD + ROW.format(npu=4, health="OK") + ROW.format(npu=5, health="Alarm")
    assert parse_npu_health(text) == {4: "OK", 5: "Alarm"}


def test_root_info(machine: FakeMachine) -> None:
    none = examine_npus("auto", 1, 1, machine.around)
    assert check_root_info(none, machine.around).status == "ok"
    file = machine.write("etc/hccl_rootinfo.json", '{"version": "2.0", "rank_list": [{"device_id": 0}]}')
    assert "here is no NPU" in check_root_info(none, machine.around).message
    machine.add_npus(1)
    other = check_root_info(examine_npus("auto", 1, 1, machine.around), machine.around)
    assert (other.status, "here is 910b" in other.message) == ("warning", True)
    info = (machine.tools / "info").read_text().replace("910B3", "950PR")
    (machine.tools / "info").write_text(info)
    newest = examine_npus("auto", 1, 1, machine.around)
    assert check_root_info(newest, machine.around).status == "ok"
    file.write_text('{"version": "2.0", "rank_list": [{"device_id": 7}]}')
    assert "lists device 7" in check_root_info(newest, machine.around).message
    file.write_text('{"version": "1.0"}')
    assert check_root_info(newest, machine.around).status == "error"
    file.write_text("{")
    assert check_root_info(newest, machine.around).status == "warning"


def test_a_table_without_npu_to_compare(machine: FakeMachine, tmp_path: Path) -> None:
    none = examine_npus("auto", 1, 1, machine.around)
    good = table(tmp_path / "good.json", {"192.0.2.1": ["198.51.100.1"], "192.0.2.2": ["198.51.100.2"]})
    check = check_rank_table(good, none, 1)
    assert (check.status, "2 ranks on 2 servers" in check.message) == ("ok", True)
    assert (
        check_rank_table(good.rename(tmp_path / "hccl"), none, 1).status == "ok"
    )  # a run copies it to rank_table.json
    waiting = table(tmp_path / "waiting.json", {"192.0.2.1": ["198.51.100.1"]}, status="initializing")
    refused = check_rank_table(waiting, none, 1)
    assert (refused.status, 'expected "completed"' in refused.message) == ("error", True)
    assert check_rank_table(tmp_path / "nowhere.json", none, 1).status == "error"


def test_a_table_against_the_devices_here(machine: FakeMachine, tmp_path: Path) -> None:
    machine.add_npus(2)
    npus, own = examine_npus("auto", 2, 1, machine.around), find_own_address()
    right = table(tmp_path / "right.json", {own: ["192.0.2.10", "192.0.2.11"]})
    assert check_rank_table(right, npus, 2).status == "ok"
    assert "launch.devices asks for 1" in check_rank_table(right, npus, 1).message
    moved = table(tmp_path / "moved.json", {own: ["192.0.2.10", "192.0.2.99"]})
    assert "device 1 has 192.0.2.11, the table says 192.0.2.99" in check_rank_table(moved, npus, 2).message
    large = table(tmp_path / "large.json", {own: ["192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.13"]})
    assert "lists device 2, here are [0, 1]" in check_rank_table(large, npus, 4).message
    others = table(tmp_path / "others.json", {"198.51.100.7": ["192.0.2.10"], "198.51.100.8": ["192.0.2.11"]})
    assert "none of its servers" in check_rank_table(others, npus, 1).message


def test_the_operators_table_is_as_good_as_one_with_pod_ip(machine: FakeMachine, tmp_path: Path) -> None:
    file = tmp_path / "hccl.json"
    file.write_text(operator_table({"192.0.2.1": [0, 1], "192.0.2.2": [0, 1]}))
    check = check_rank_table(file, examine_npus("auto", 1, 1, machine.around), 2)
    assert (check.status, "4 ranks on 2 servers" in check.message) == ("ok", True)
    file.write_text(operator_table({"192.0.2.1": [0, 1]}, status="initializing"))
    assert check_rank_table(file, examine_npus("auto", 1, 1, machine.around), 2).status == "error"
