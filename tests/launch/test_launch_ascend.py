"""Jobs on 1, 2 and 4 Ascend hosts up to the moment of their start, held to the contract of CANN, HCCL and MindSpore alone."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bare_set import make_bare_set
from fake_ascend import FakeHost, devices_of_cann, make_host
from operator_table import operator_table
from rich.console import Console

from fcn4dist.ascend import devices
from fcn4dist.config import load_config
from fcn4dist.errors import RankTableError
from fcn4dist.hosts.place import Place
from fcn4dist.hosts.roster import Go, HostCard, Layout, Node, Readiness
from fcn4dist.hosts.session import Kind, Say, Session, Verdict
from fcn4dist.job.devices import survey_host
from fcn4dist.job.plan import JobPlan
from fcn4dist.launch.host_job import HostJob, LaunchRequest, choose_devices
from fcn4dist.run.folder import RunDir


@dataclass(frozen=True)
class Sort:
    """What a host of the job is like."""

    nodes: Sequence[int]  # of /dev
    num_ranks: int
    environ: Mapping[str, str] = field(default_factory=dict)
    listed: tuple[int, ...] | None = None  # by the host file
    chip_name: str | None = "910B3"


class Told(Session):
    """A host whose neighbours are played by the test."""

    def __init__(self, layout: Layout, node_rank: int) -> None:
        node = layout.nodes[node_rank]
        super().__init__(
            HostCard(
                node_rank=node_rank, num_nodes=len(layout.nodes), host=node.name, address=node.address,
                devices=node.devices, target="Ascend", resume=False, rank_table="auto", versions={}, config=None,
            )
        )  # fmt: skip
        self.layout, self.is_chief = layout, node_rank == 0

    def join(self, limit_s: float, run_dir: str, say: Say) -> Layout:
        raise NotImplementedError

    def gather(self, ready: Readiness, say: Say) -> list[Readiness]:
        raise NotImplementedError

    def begin(self, go: Go | None) -> Go:
        raise NotImplementedError

    def conclude(self, kind: Kind, failure: dict[str, Any] | None) -> Verdict:
        raise NotImplementedError


@dataclass
class Started:
    """What was about to start."""

    hosts: list[FakeHost]
    plans: list[JobPlan]
    said: str

    def table(self, node: int) -> dict[str, Any] | None:
        file = self.plans[node].run_dir.rank_table
        return json.loads(file.read_text()) if file.exists() else None


Start = Callable[..., Started]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bare_set(tmp_path_factory.mktemp("set") / "data", num_clips=128)


@pytest.fixture
def start(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return a function that takes a job over such hosts as far as `launch` does before it starts a process."""

    def run(
        kinds: Sequence[Sort],
        rank_table: str = "auto",
        *,
        damage: Callable[[list[FakeHost]], object] = lambda hosts: None,
    ) -> Started:
        hosts = [
            make_host(tmp_path / f"host{i}", k.chip_name, k.nodes, k.environ, network=f"198.51.{100 + i}")
            for i, k in enumerate(kinds)
        ]
        damage(hosts)
        is_alone, first, nodes = len(kinds) == 1, 0, []
        for i, kind in enumerate(kinds):
            address = "127.0.0.1" if is_alone else f"192.0.2.{10 + i}"
            nodes.append(Node(name=f"host-{i}", address=address, devices=kind.num_ranks, first_rank=first))
            first += kind.num_ranks
        layout, console = Layout(nodes=nodes, run_dir=""), Console(file=io.StringIO(), width=300)
        monkeypatch.setattr("fcn4dist.launch.host_job.choose_scheduler_port", lambda *_: 29401)  # not this machine's
        config = load_config(overrides=[f"data.records_dir={data}", f"train.global_batch={4 * first}"])
        jobs = []

        def enter(i: int) -> None:
            monkeypatch.setattr(devices, "THIS_HOST", hosts[i].paths)
            for name in ("PATH", devices.VISIBLE, devices.MOUNTED):
                monkeypatch.delenv(name, raising=False)
            for name, value in hosts[i].environment.items():
                monkeypatch.setenv(name, value)

        readies = []
        for i, kind in enumerate(kinds):
            enter(i)
            place = None if is_alone else Place(len(kinds), i, "host-0", 29400, "--hostfile", device_ids=kind.listed)
            host = choose_devices(survey_host("Ascend", kind.num_ranks, bind_cores=False), place)
            request = LaunchRequest(rank_table=rank_table, place=place)
            run_dir = RunDir(tmp_path / "run", i)
            run_dir.path.mkdir(exist_ok=True)
            jobs.append(HostJob(config, request, host, Told(layout, i), run_dir, console))
            readies.append(jobs[-1].prepare(None))
        go = jobs[0].decide(readies)
        go = Go.model_validate(json.loads(go.model_dump_json()))  # as it comes over the wire
        plans = []
        for i, job in enumerate(jobs):
            enter(i)
            plans.append(job.accept(go))
        return Started(hosts, plans, console.file.getvalue())  # type: ignore[attr-defined]

    return run


BARE = Sort(range(8), 4)
IN_CONTAINER = Sort(range(4, 8), 4, {"ASCEND_VISIBLE_DEVICES": "4-7"})
UPPER_HALF = Sort(range(8), 4, {"ASCEND_RT_VISIBLE_DEVICES": "4-7", "DEVICE_ID": "6", "RANK_TABLE_FILE": "/old.json"})
TWO_OF_FOUR = Sort(range(4, 8), 2, {"ASCEND_RT_VISIBLE_DEVICES": "1,3"})
PRIVILEGED = Sort(range(8), 2, {"ASCEND_VISIBLE_DEVICES": "5,6"})
LISTED = Sort(range(8), 3, listed=(2, 3, 5))
A3 = Sort(range(16), 16, chip_name="Ascend910")
A3_TWO_DIES = Sort(range(16), 2, {"ASCEND_RT_VISIBLE_DEVICES": "14,15"}, chip_name="Ascend910")
WITHOUT_NPU_SMI = Sort(range(4, 8), 4, chip_name=None)
JOBS = {
    "1 host, bare metal": [BARE],
    "1 host, container": [IN_CONTAINER],
    "1 host, upper half": [UPPER_HALF],
    "1 host, two of a container": [TWO_OF_FOUR],
    "1 host, privileged": [PRIVILEGED],
    "1 host, A3": [A3],
    "1 host, A3, two dies": [A3_TWO_DIES],
    "1 host, no npu-smi": [WITHOUT_NPU_SMI],
    "2 hosts, container and bare metal": [IN_CONTAINER, BARE],
    "2 hosts, A3": [A3, A3_TWO_DIES],
    "4 hosts, all unlike": [UPPER_HALF, TWO_OF_FOUR, PRIVILEGED, LISTED],
    "4 hosts, alike": [IN_CONTAINER, IN_CONTAINER, IN_CONTAINER, IN_CONTAINER],
}
SIZES = ("1 host, container", "2 hosts, container and bare metal", "4 hosts, all unlike")


def entries_of_scheduler(table: dict[str, Any], address: str) -> list[tuple[int, int]]:
    """Return (device_id, rank_id) of a host in the order of the file: what MindSpore's scheduler indexes by DEVICE_ID."""
    servers = [server for server in table["server_list"] if server.get("pod_ip") == address]
    return [(int(entry["device_id"]), int(entry["rank_id"])) for server in servers for entry in server["device"]]


def check_job(started: Started, *, is_exported: bool) -> None:
    """Hold every rank to the contract; knows nothing of how the job was planned."""
    world = [worker for plan in started.plans for worker in plan.workers]
    addresses = [plan.workers[0].process.env["MS_WORKER_IP"] for plan in started.plans]
    assert len(set(addresses)) == len(addresses)
    assert [plan.scheduler is not None for plan in started.plans] == [True] + [False] * (len(addresses) - 1)
    ranks = []
    for node, (host, plan) in enumerate(zip(started.hosts, started.plans, strict=True)):
        table, used = started.table(node), set()
        assert table is not None
        assert table == started.table(0)  # all hosts have the same
        assert table["status"] == "completed"
        scheduler = plan.scheduler.env if plan.scheduler is not None else None
        for env in [worker.process.env for worker in plan.workers]:
            assert (env["MS_ROLE"], env["MS_WORKER_NUM"], env["RANK_SIZE"]) == (
                "MS_WORKER",
                f"{len(world)}",
                f"{len(world)}",
            )
            assert env["MS_NODE_ID"] == env["RANK_ID"]
            assert (env["MS_SCHED_HOST"], env["MS_WORKER_IP"]) == (addresses[0], addresses[node])
            assert addresses == ["127.0.0.1"] or not env["MS_SCHED_HOST"].startswith("127.")
            assert not 8118 <= int(env["MS_SCHED_PORT"]) <= 12213  # MindSpore's ring
            assert int(env["MS_SCHED_PORT"]) not in (16666, *range(60000, 60032))  # HCCL's own
            seen = devices_of_cann(host.nodes, env.get("ASCEND_RT_VISIBLE_DEVICES"))
            position = int(env["DEVICE_ID"])
            assert 0 <= position < len(seen)
            assert seen[position] not in used  # one rank a device
            used.add(seen[position])
            entries = entries_of_scheduler(table, env["MS_WORKER_IP"])
            assert entries[position] == (seen[position], int(env["RANK_ID"]))
            assert len(entries) == len(plan.workers)  # or the scheduler keeps its own ranks
            assert env.get("RANK_TABLE_FILE") == (str(plan.run_dir.rank_table) if is_exported else None)
            ranks.append(int(env["RANK_ID"]))
        if scheduler is not None:
            assert (scheduler["MS_ROLE"], "DEVICE_ID" in scheduler) == ("MS_SCHED", False)
            assert scheduler["MS_SCHED_PORT"] == world[0].process.env["MS_SCHED_PORT"]
            assert scheduler.get("RANK_TABLE_FILE") == world[0].process.env.get("RANK_TABLE_FILE")
    assert ranks == list(range(len(world)))


@pytest.mark.parametrize("title", JOBS)
def test_every_rank_is_where_the_table_and_cann_have_it(title: str, start: Start) -> None:
    started = start(JOBS[title], "export")
    check_job(started, is_exported=True)
    assert "rank table" not in started.said


@pytest.mark.parametrize("title", SIZES)
def test_by_default_the_table_is_kept_and_not_handed_over(title: str, start: Start) -> None:
    check_job(start(JOBS[title]), is_exported=False)


@pytest.mark.parametrize("title", SIZES)
def test_what_hccl_is_told_by_variables(title: str, start: Start) -> None:
    """DESIGN 7: an interface over hosts, how long to wait for a rank that compiles and for one that is late, CANN's own log."""
    kinds = JOBS[title]
    for plan in start(kinds).plans:
        for env in [worker.process.env for worker in plan.workers]:
            assert env.get("HCCL_IF_IP") == (env["MS_WORKER_IP"] if len(kinds) > 1 else None)
            assert env["HCCL_CONNECT_TIMEOUT"] == "600"  # HCCL's 120 s are over before a first compile may be
            assert env["HCCL_EXEC_TIMEOUT"] == env["MS_CPU_COMM_OP_TIMEOUT"]
            assert 68 <= int(env["HCCL_EXEC_TIMEOUT"]) <= 17340  # what a 910A takes
            log = Path(env["ASCEND_PROCESS_LOG_PATH"])
            assert log == plan.run_dir.logs(plan.attempt) or plan.run_dir.logs(plan.attempt) in log.parents


def lose_addresses(hosts: list[FakeHost]) -> None:
    for file in hosts[-1].answers.glob("ip4.*"):
        file.unlink()


def lose_tools(hosts: list[FakeHost]) -> None:
    for host in hosts:
        (host.bin / "hccn_tool").unlink()


@pytest.mark.parametrize(
    ("kinds", "damage", "reason"),
    [
        ([BARE, IN_CONTAINER], lose_addresses, r"host-1 \(node 1, ranks 4-7\): device 4 has no address"),
        ([BARE, BARE], lose_tools, r"host-0 \(node 0, ranks 0-3\): device 0 has no address"),
        ([A3_TWO_DIES, WITHOUT_NPU_SMI], lambda hosts: None, r"host-1 .*: npu-smi names no chip"),
        ([Sort(range(8), 8, chip_name="Ascend950PR")] * 2, lambda hosts: None, "network layers of 950 hosts"),
    ],
)
def test_where_addresses_cannot_be_found_the_job_goes_on_without_a_table_and_says_so(
    kinds: list[Sort], damage: Callable[[list[FakeHost]], object], reason: str, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/rank_table.json").write_text("of an earlier attempt")
    started = start(kinds, damage=damage)
    assert re.search(f"(?m)^no rank table: .*{reason}.*; HCCL finds the addresses by itself$", started.said)
    assert [started.table(node) for node in range(len(kinds))] == [None] * len(kinds)
    environments = [worker.process.env for plan in started.plans for worker in plan.workers]
    assert not any("RANK_TABLE_FILE" in env for env in environments)


def test_a_table_that_is_to_be_handed_over_must_be_whole(start: Start) -> None:
    with pytest.raises(RankTableError, match=r"--rank-table export: host-1 .*: device 4 has no address"):
        start([BARE, IN_CONTAINER], "export", damage=lose_addresses)


def test_one_host_needs_no_addresses(start: Start) -> None:
    started = start([IN_CONTAINER], damage=lose_tools)
    check_job(started, is_exported=False)


def share_an_address(hosts: list[FakeHost]) -> None:
    hosts[1].answer("ip4.5", "ipaddr:198.51.100.2\n")  # as device 1 of the first host


def test_addresses_that_two_devices_share_are_refused_before_anything_starts(start: Start) -> None:
    with pytest.raises(
        RankTableError, match=r'would refuse the table: .*"198.51.100.2" is already at server_list\[0\]'
    ):
        start([BARE, IN_CONTAINER], damage=share_an_address)


@pytest.mark.parametrize(
    "pods",
    [{"192.0.2.10": [4, 5, 6, 7], "192.0.2.11": [0, 1, 2, 3]}],
)
@pytest.mark.parametrize("hosts", [None, ["203.0.113.1", "203.0.113.2"]], ids=["host network", "pod network"])
def test_the_operators_table_is_completed_and_handed_over(
    pods: dict[str, list[int]], hosts: list[str] | None, start: Start, tmp_path: Path
) -> None:
    given = tmp_path / "hccl.json"
    given.write_text(operator_table(pods, hosts))
    started = start([IN_CONTAINER, BARE], str(given))
    check_job(started, is_exported=True)
    assert "pod_ip" not in given.read_text()  # the operator's own file stays


def test_the_operators_table_of_one_pod(start: Start, tmp_path: Path) -> None:
    given = tmp_path / "hccl.json"
    given.write_text(operator_table({"10.244.1.7": [4, 5, 6, 7]}))
    check_job(start([IN_CONTAINER], str(given)), is_exported=True)


def test_a_given_table_with_positions_for_ids_is_refused(start: Start, tmp_path: Path) -> None:
    given = tmp_path / "hccl.json"
    given.write_text(operator_table({"10.244.1.7": [0, 1, 2, 3]}))
    with pytest.raises(RankTableError, match=r"hccl.json: rank 0 on device 0, .*; the job has rank 0 on device 4"):
        start([IN_CONTAINER], str(given))
