"""HCCL's ports, its interface, and other processes on the NPUs, of machines that stand in a folder."""

from __future__ import annotations

import socket

import pytest
from fake_machine import HEAD, ROW, FakeMachine

from fcn4dist.ascend.addresses import find_own_address
from fcn4dist.ascend.tools import NpuProcess, parse_npu_processes, parse_npu_smi_info
from fcn4dist.doctor.hccl import check_hccl_ports, check_interface, check_npu_processes, read_interfaces

# as in github.com/vllm-project/vllm-ascend/issues/12980
PROCESSES = """
| NPU     Chip              | Process id    | Process name       | Process memory(MB)    | Process id in container |
+===========================+===============+======================================================================+
| 0       0                 | 632268        | python3.1          | 197                   | NA                      |
+===========================+===============+======================================================================+
| No running processes found in NPU 1                                                                              |
+===========================+===============+======================================================================+
"""


def linux(machine: FakeMachine, ephemeral: str = "32768\t60999\n", reserved: str = "\n") -> None:
    """Say which ports Linux gives to connections, and which it keeps."""
    machine.write("proc/sys/net/ipv4/ip_local_port_range", ephemeral)
    machine.write("proc/sys/net/ipv4/ip_local_reserved_ports", reserved)


@pytest.mark.parametrize(
    ("ephemeral", "reserved", "status", "command"),
    [
        ("32768\t60999\n", "\n", "warning", "ip_local_reserved_ports=60000-60031"),  # Linux as it comes
        ("32768\t60999\n", "8080,60000-60015\n", "warning", "ip_local_reserved_ports=8080,60000-60015,60000-60031"),
        ("32768\t60999\n", "8080,60000-60031\n", "ok", ""),
        ("32768\t60999\n", "60000-60015,60016-60030,60031\n", "ok", ""),
        ("32768\t59999\n", "\n", "ok", ""),
        ("1024\t60000\n", "\n", "warning", "60000-60031"),
    ],
)
def test_ports_that_linux_may_give_away(
    machine: FakeMachine, ephemeral: str, reserved: str, status: str, command: str
) -> None:
    linux(machine, ephemeral, reserved)
    check = check_hccl_ports(machine.around)
    assert (check.status, command in check.remedy) == (status, True), check


def test_a_port_of_hccl_that_is_taken(machine: FakeMachine) -> None:
    linux(machine, reserved="1024-65535\n")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        port = holder.getsockname()[1]
        machine.environ["HCCL_IF_BASE_PORT"] = str(port)
        check = check_hccl_ports(machine.around)
    assert (check.status, f"{port} is in use" in check.message) == ("warning", True)
    assert "EJ0003" in check.message
    machine.environ["HCCL_IF_BASE_PORT"] = "65535"
    assert check_hccl_ports(machine.around).status == "error"  # HCCL takes 65520 at most (EI0001)


def test_another_process_on_an_npu(machine: FakeMachine) -> None:
    machine.add_npus(2)
    assert check_npu_processes(machine.around).status == "ok"
    text = HEAD + ROW.format(npu=0, health="OK") + ROW.format(npu=1, health="OK") + PROCESSES
    machine.write("tools/info", text)
    check = check_npu_processes(machine.around)
    assert (check.status, "python3.1 (632268) on NPU 0" in check.message) == ("warning", True)
    assert parse_npu_processes(text) == [NpuProcess(0, 632268, "python3.1")]
    assert [npu.npu for npu in parse_npu_smi_info(text)] == [0, 1]  # a process is no NPU
    machine.environ["HCCL_NPU_SOCKET_PORT_RANGE"] = "auto"
    assert check_npu_processes(machine.around).status == "ok"


NICS = {"enp3s0": ["192.0.2.7"], "bond0": ["198.51.100.7", "2001:db8::7"], "docker0": ["203.0.113.1"]}


@pytest.mark.parametrize(
    ("variables", "status", "words"),
    [
        ({}, "warning", "HCCL alone would take bond0"),
        ({"HCCL_IF_IP": "192.0.2.7"}, "ok", "192.0.2.7"),
        ({"HCCL_IF_IP": "192.0.2.8"}, "error", "192.0.2.8 is none of this host's"),
        ({"HCCL_SOCKET_IFNAME": "enp"}, "ok", "enp: enp3s0"),
        ({"HCCL_SOCKET_IFNAME": "=enp"}, "error", "matches none"),
        ({"HCCL_SOCKET_IFNAME": "=enp3s0,eth0"}, "ok", "enp3s0"),
        ({"HCCL_SOCKET_IFNAME": "^docker,bond"}, "ok", "enp3s0"),
        ({"HCCL_SOCKET_IFNAME": "^=bond0"}, "ok", "docker0"),
        ({"HCCL_SOCKET_IFNAME": "ib"}, "error", "matches none"),
        ({"HCCL_SOCKET_IFNAME": "ib", "HCCL_IF_IP": "192.0.2.7"}, "ok", "HCCL_IF_IP"),  # the address counts first
    ],
)
def test_the_interface_between_hosts(machine: FakeMachine, variables: dict[str, str], status: str, words: str) -> None:
    machine.environ |= variables
    check = check_interface(True, machine.around, NICS)
    assert (check.status, words in check.message) == (status, True), check
    assert bool(check.remedy) == (status != "ok")


def test_one_interface_or_one_host_leaves_no_choice(machine: FakeMachine) -> None:
    assert check_interface(False, machine.around, NICS).status == "ok"
    assert check_interface(True, machine.around, {"eth0": ["192.0.2.7"]}).status == "ok"


def test_the_interfaces_of_this_machine_have_its_address() -> None:
    found = read_interfaces()
    assert find_own_address() in {address for addresses in found.values() for address in addresses}
    assert "lo" not in found
