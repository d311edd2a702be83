from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from fcn4dist.errors import ConfigError
from fcn4dist.hosts import place, schedulers
from fcn4dist.hosts.find_place import HostOptions, find_place
from fcn4dist.hosts.place import Place, resolve_master
from fcn4dist.hosts.schedulers import _ask_scontrol, expand_nodelist

OWN = "192.0.2.7"


@pytest.fixture(autouse=True)
def own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host has one routable address, and its name is node7."""
    interface = [SimpleNamespace(address=address) for address in (OWN, "127.0.0.1")]
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"eth0": interface})
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    known = {
        "node7": [OWN],
        "node8": ["192.0.2.8", "127.0.0.1", "2001:db8::8"],
        "localhost": ["127.0.0.1"],
        "service": ["203.0.113.1"],
    }
    for module in (place, schedulers):
        monkeypatch.setattr(module, "find_own_address", lambda: OWN)
        monkeypatch.setattr(module, "resolve_host", lambda name: known.get(name, []))


def hostfile(folder: Path, text: str) -> HostOptions:
    (folder / "hosts").write_text(text)
    return HostOptions(hostfile=folder / "hosts")


def test_options_say_who_this_host_is() -> None:
    found = find_place(HostOptions(nodes=2, node_rank=1, master_addr="node8", master_port=4000), {})
    assert found == Place(2, 1, "node8", 4000, "--nodes")
    assert not found.is_master


def test_one_host_is_no_job_over_hosts() -> None:
    assert find_place(HostOptions(), {"MASTER_ADDR": "x"}) is None
    assert find_place(HostOptions(nodes=1), {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "node8"}) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 0}, r"--nodes 0: expected at least 1"),
        ({"nodes": 2}, r"needs --node-rank I, this host's number, 0 to 1"),
        ({"nodes": 2, "node_rank": 2, "master_addr": "a"}, r"--node-rank 2: out of range; 2 hosts .* 0 to 1"),
        ({"nodes": 2, "node_rank": -1, "master_addr": "a"}, r"--node-rank -1: out of range"),
        ({"nodes": 2, "node_rank": 0}, r"needs --master-addr HOST"),
        ({"node_rank": 1}, r"--node-rank 1: goes with --nodes K"),
        ({"master_addr": "a"}, r"--master-addr a: goes with --nodes K"),
    ],
)
def test_options_that_are_missing_or_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_place(HostOptions(**options), {})


def test_a_hostfile_finds_this_host_by_its_address_and_allows_unequal_hosts(tmp_path: Path) -> None:
    found = find_place(hostfile(tmp_path, "node8 slots=4\nnode7 slots=2  # me\n"), {})
    assert found is not None
    assert (found.num_nodes, found.node_rank, found.master_host, found.devices) == (2, 1, "node8", 2)
    assert (found.expected, found.names) == ((4, 2), ("node8", "node7"))
    assert found.source.startswith("--hostfile ")
    assert (found.device_ids, found.device_lists) == (None, (None, None))  # slots=N: its first N, whatever their ids


def test_a_hostfile_may_give_names_and_addresses(tmp_path: Path) -> None:
    """Names that nobody looks up: the launchers meet at the address."""
    found = find_place(hostfile(tmp_path, "first 192.0.2.8 slots=1\nsecond=192.0.2.7 slots=1\n"), {})
    assert found is not None
    assert (found.node_rank, found.master_host, found.names) == (1, "192.0.2.8", ("first", "second"))


def test_a_hostfile_that_lists_devices_means_their_physical_ids(tmp_path: Path) -> None:
    found = find_place(hostfile(tmp_path, "node8 slots=4\nnode7 devices=6-7\n"), {})
    assert found is not None
    assert (found.devices, found.device_ids, found.device_lists) == (2, (6, 7), (None, (6, 7)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node7 slots=2\nnode7 slots=2\n", r"hosts:2: host node7 is already at .*hosts:1"),
        ("node7 slots=2\nnode9 slots=2\n", r"hosts:2: unknown host 'node9'"),
        ("node7 slots=0\nnode8\n", r"hosts:1: slots=0; expected a number 1 to"),
        ("node7 slots=2\nnode8\n", r"hosts:2: host node8 has no slots=N, others have"),
        ("node8 slots=2\n", r"none of its hosts is this one \(addresses: 192.0.2.7\); say --node-rank"),
        ("", r"no host in it"),
    ],
)
def test_bad_hostfiles(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_place(hostfile(tmp_path, text), {})


def test_a_hostfile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--hostfile .*nowhere: cannot be read"):
        find_place(HostOptions(hostfile=tmp_path / "nowhere"), {})


def test_the_master_must_be_reachable_and_here() -> None:
    assert resolve_master(Place(2, 0, "node7", 29400, "")) == (OWN,)
    assert resolve_master(Place(2, 1, "node8", 29400, "")) == ("192.0.2.8", "2001:db8::8")
    assert resolve_master(Place(2, 1, "2001:DB8:0::8", 29400, "")) == ("2001:db8::8",)
    with pytest.raises(ConfigError, match=r"not an address of this host, which is node 0; its own: 192.0.2.7"):
        resolve_master(Place(2, 0, "node8", 29400, ""))
    with pytest.raises(ConfigError, match=r"localhost is 127.0.0.1, which other hosts cannot reach"):
        resolve_master(Place(2, 0, "localhost", 29400, ""))
    with pytest.raises(
        ConfigError, match=r"localhost is 127.0.0.1, which other hosts cannot reach; expected .* node 0"
    ):
        resolve_master(Place(2, 1, "localhost", 29400, ""))
    with pytest.raises(ConfigError, match=r"--master-addr nowhere: unknown host"):
        resolve_master(Place(2, 1, "nowhere", 29400, ""))


def test_the_own_name_is_never_loopback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Debian's /etc/hosts gives the own name 127.0.1.1."""
    known = {"node7": ["127.0.1.1"], "node8": ["192.0.2.8"]}
    monkeypatch.setattr(place, "resolve_host", lambda name: known.get(name, []))
    assert resolve_master(Place(2, 0, "node7", 29400, "")) == (OWN,)
    found = find_place(hostfile(tmp_path, "node8\nnode7\n"), {})
    assert found is not None
    assert found.node_rank == 1


def test_loopback_by_address_is_for_launchers_on_one_machine(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve_master(Place(2, 0, "127.0.0.1", 29400, "")) == ("127.0.0.1",)
    assert "all launchers must be on this machine" in caplog.text


SLURM = {
    "SLURM_JOB_ID": "1234", "SLURM_STEP_ID": "0", "SLURM_NNODES": "2", "SLURM_NODEID": "1",
    "SLURM_STEP_NODELIST": "node[7-8]", "SLURM_STEP_NUM_TASKS": "2",
}  # fmt: skip


def test_slurm_names_the_hosts_and_gives_each_job_a_port() -> None:
    found = find_place(HostOptions(), SLURM)
    assert found is not None
    assert (found.num_nodes, found.node_rank, found.master_host, found.names) == (2, 1, "node7", ("node7", "node8"))
    other = find_place(HostOptions(), {**SLURM, "SLURM_JOB_ID": "1235"})
    assert other is not None
    assert found.master_port != other.master_port
    assert find_place(HostOptions(master_port=5000), SLURM).master_port == 5000  # type: ignore[union-attr]


def test_several_slurm_tasks_a_host_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"SLURM_STEP_NUM_TASKS=16 on 2 hosts: .* --ntasks-per-node=1"):
        find_place(HostOptions(), {**SLURM, "SLURM_STEP_NUM_TASKS": "16"})


def test_an_allocation_without_srun_is_this_host_alone(caplog: pytest.LogCaptureFixture) -> None:
    batch = {key: value for key, value in SLURM.items() if "STEP" not in key}
    assert find_place(HostOptions(), batch) is None
    assert "a Slurm allocation of 2 hosts, but no srun" in caplog.text


def test_options_come_before_the_environment() -> None:
    found = find_place(HostOptions(nodes=3, node_rank=2, master_addr="node8"), SLURM)
    assert found is not None
    assert (found.num_nodes, found.source) == (3, "--nodes")


NODELISTS = [
    ("login", ["login"]),
    ("gpu[01-03,7],login", ["gpu01", "gpu02", "gpu03", "gpu7", "login"]),
    ("r1-n[9-11]", ["r1-n9", "r1-n10", "r1-n11"]),
    ("r[1-2]n[3-4],r9n1", ["r1n3", "r1n4", "r2n3", "r2n4", "r9n1"]),
]


@pytest.mark.parametrize(("text", "names"), NODELISTS)
def test_nodelists(text: str, names: list[str], tmp_path: Path) -> None:
    """Slurm's own answer, where it is installed, and python-hostlist's are the same."""
    nowhere = {"PATH": str(tmp_path)}
    assert _ask_scontrol(text, nowhere) == []
    assert expand_nodelist(text, nowhere) == names
    if shutil.which("scontrol") is not None:
        (tmp_path / "slurm.conf").write_text("ClusterName=c\nSlurmctldHost=localhost\nNodeName=localhost\n")
        assert _ask_scontrol(text, {**os.environ, "SLURM_CONF": str(tmp_path / "slurm.conf")}) == names


@pytest.mark.parametrize("text", ["gpu[1-", "gpu[a-b]", "gpu[3-1]", "", "]["])
def test_bad_nodelists(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SLURM_STEP_NODELIST"):
        expand_nodelist(text, {"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"VC_TASK_INDEX": "1", "VC_WORKER_HOSTS": "w-0.job,w-1.job"}, (2, 1, "w-0.job", 29400, None)),
        (
            {"MASTER_ADDR": "node8", "MASTER_PORT": "23456", "WORLD_SIZE": "4", "RANK": "3"},
            (4, 3, "node8", 23456, None),
        ),
        (
            {"MASTER_ADDR": "node8", "MASTER_PORT": "2222", "WORLD_SIZE": "16", "RANK": "1", "LOCAL_WORLD_SIZE": "8",
             "LOCAL_RANK": "{0,1,2,3,4,5,6,7}"},
            (2, 1, "node8", 2222, 8),
        ),
        (
            {"MS_SCHED_HOST": "node8", "MS_SCHED_PORT": "2222", "MS_WORKER_NUM": "16", "MS_LOCAL_WORKER": "8",
             "MS_NODE_RANK": "1"},
            (2, 1, "node8", 2222, 8),
        ),
        (  # the master is told "localhost", or a service's address: it listens on its own
            {"MASTER_ADDR": "localhost", "MASTER_PORT": "23456", "WORLD_SIZE": "2", "RANK": "0"},
            (2, 0, OWN, 23456, None),
        ),
        (
            {"MASTER_ADDR": "service", "MASTER_PORT": "23456", "WORLD_SIZE": "2", "RANK": "0"},
            (2, 0, OWN, 23456, None),
        ),
    ],
)  # fmt: skip
def test_what_kubernetes_operators_set(environ: dict[str, str], expected: tuple[object, ...]) -> None:
    found = find_place(HostOptions(), environ)
    assert found is not None
    assert (found.num_nodes, found.node_rank, found.master_host, found.master_port, found.devices) == expected


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"MASTER_ADDR": "a", "WORLD_SIZE": "2", "RANK": "2"}, "RANK 2: out of range"),
        ({"MASTER_ADDR": "a", "WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE=two: expected a whole number"),
        (
            {"MASTER_ADDR": "a", "WORLD_SIZE": "4", "RANK": "1", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"},
            "LOCAL_RANK=1: several tasks on this host",
        ),
        (
            {"MS_SCHED_HOST": "a", "MS_WORKER_NUM": "10", "MS_LOCAL_WORKER": "8", "MS_NODE_RANK": "0"},
            "MS_WORKER_NUM=10: expected a multiple of the 8 devices",
        ),
        ({"VC_TASK_INDEX": "0", "VC_A_HOSTS": "a,b", "VC_B_HOSTS": "c"}, "VC_A_HOSTS and VC_B_HOSTS: one kind"),
    ],
)
def test_bad_environments(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_place(HostOptions(), environ)
