from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from operator_table import operator_table

from fcn4dist.ascend.rank_table.check import check_document
from fcn4dist.ascend.rank_table.parse import load_rank_table
from fcn4dist.ascend.rank_table.read import Document
from fcn4dist.ascend.rank_table.schema import Format
from fcn4dist.errors import RankTableError
from fcn4dist.hosts.job_table import (
    check_job_table,
    generate_job_table,
    load_given_table,
)
from fcn4dist.hosts.roster import Layout, Node

EXAMPLES = Path(__file__).resolve().parents[2] / "rank_tables"
TWO_BY_EIGHT = load_rank_table(EXAMPLES / "2x8.json")
SERVERS = [server.server_id for server in TWO_BY_EIGHT.servers]


def layout(addresses: list[str], devices: list[int]) -> Layout:
    nodes = [
        Node(name=f"host-{i}", address=address, devices=count, first_rank=sum(devices[:i]))
        for i, (address, count) in enumerate(zip(addresses, devices, strict=True))
    ]
    return Layout(nodes=nodes, run_dir="")


def found(address: str, first_device_ip: int, devices: int = 2, chip: str = "910b", gap: str = "") -> dict[str, Any]:
    """What discovery on one host gives."""
    entries = [
        {"device_id": str(i), "device_ip": f"198.51.100.{first_device_ip + i}", "rank_id": str(i)}
        for i in range(devices)
    ]
    server = {"server_id": address, "host_ip": address, "pod_ip": address, "device": entries}
    table = {"version": "1.0", "status": "completed", "server_count": "1", "server_list": [server]}
    return {"chip": chip, "table": table, "gap": gap}


def generate(job: Layout, servers: list[dict[str, Any]], read_as: Path | None = None) -> dict[str, Any]:
    table, gap = generate_job_table(job, servers, read_as=read_as)
    assert table is not None, gap
    return table


def test_a_generated_table_has_the_jobs_ranks_also_where_addresses_sort_otherwise() -> None:
    job = layout(["192.0.2.9", "192.0.2.10"], [2, 1])
    table = generate(job, [found("192.0.2.9", 1), found("192.0.2.10", 11, devices=1)])
    ranks = [(s["pod_ip"], [d["rank_id"] for d in s["device"]]) for s in table["server_list"]]
    assert ranks == [("192.0.2.9", ["0", "1"]), ("192.0.2.10", ["2"])]
    verdict = check_document(Document("t.json", table, Format.CONCISE, None, ()), "910b", msrun=True)
    assert verdict.accepted


def test_hosts_with_other_chips_or_devices_get_no_table() -> None:
    job = layout(["192.0.2.9", "192.0.2.10"], [2, 2])
    with pytest.raises(RankTableError, match=r"host-1 \(node 1, ranks 2-3\) has chip a3, host-0 .* 910b"):
        generate(job, [found("192.0.2.9", 1), found("192.0.2.10", 11, chip="a3")])
    with pytest.raises(RankTableError, match=r"host-1 .*: 1 NPUs found for the rank table; expected 2"):
        generate(job, [found("192.0.2.9", 1), found("192.0.2.10", 11, devices=1)])


def test_a_table_that_hccl_would_refuse_is_not_used() -> None:
    job = layout(["192.0.2.9", "192.0.2.10"], [2, 2])
    same = [found("192.0.2.9", 1), found("192.0.2.10", 1)]  # the same device addresses
    with pytest.raises(RankTableError, match="would refuse the table"):
        generate(job, same)
    with_gap = [*same[:1], {**same[1], "gap": "npu-smi names no chip"}]  # it may be right where more is known
    assert generate_job_table(job, with_gap, read_as=None) == (
        None,
        "host-1 (node 1, ranks 2-3): npu-smi names no chip",
    )


def test_a_run_directory_that_hccl_trips_over_matters_only_to_a_table_that_hccl_reads() -> None:
    job, servers = layout(["192.0.2.9", "192.0.2.10"], [2, 2]), [found("192.0.2.9", 1), found("192.0.2.10", 11)]
    assert generate(job, servers) == generate(job, servers, Path("/run/rank_table.json"))
    with pytest.raises(RankTableError, match=r'opens it as "/run\.json\.d/rank_table\.json"'):
        generate(job, servers, Path("/run.json.d/rank_table.json"))


def test_a_given_table_that_fits_is_taken() -> None:
    job = layout(SERVERS, [8, 8])
    for node in range(2):
        check_job_table(TWO_BY_EIGHT, "t.json", job, node, range(8), is_exported=True)


@pytest.mark.parametrize(
    ("job", "node", "devices", "message"),
    [
        (layout(SERVERS, [8, 4]), 0, range(8), r"t.json: 16 ranks in it, the job has 12"),
        (layout(["192.0.2.99", SERVERS[1]], [8, 8]), 0, range(8), r"no server 192.0.2.99, which is host-0"),
        (layout(SERVERS[::-1], [8, 8]), 0, range(8), r"has rank 8 on device 0, .*; the job has there rank 0 on device 0"),
        (layout(SERVERS, [8, 8]), 1, [1, 2, 3, 4, 5, 6, 7, 8], r"the job has there rank 8 on device 1"),
    ],
)  # fmt: skip
def test_a_given_table_must_agree_with_the_job(job: Layout, node: int, devices: list[int], message: str) -> None:
    with pytest.raises(RankTableError, match=message):
        check_job_table(TWO_BY_EIGHT, "t.json", job, node, devices, is_exported=True)


def test_on_cpu_only_the_counts_are_held_to_the_job() -> None:
    check_job_table(TWO_BY_EIGHT, "t.json", layout(["a", "b"], [8, 8]), 0, range(8), is_exported=False)
    with pytest.raises(RankTableError, match=r"servers of \[8, 8\] devices, the job's hosts have \[12, 4\]"):
        check_job_table(TWO_BY_EIGHT, "t.json", layout(["a", "b"], [12, 4]), 0, range(12), is_exported=False)


def test_a_table_for_one_host() -> None:
    one = load_given_table(EXAMPLES / "1x8.json", "CPU", {}, Path("rank_table.json"), ["127.0.0.1"]).table

    def check(devices: range, *, is_exported: bool) -> None:
        alone = layout(["127.0.0.1"], [len(devices)])
        check_job_table(one, "t.json", alone, 0, devices, is_exported=is_exported)

    check(range(8), is_exported=True)
    with pytest.raises(RankTableError, match=r"t.json: 8 ranks on 1 servers in it, the job has 2 on this one"):
        check(range(2), is_exported=False)
    with pytest.raises(RankTableError, match=r"rank 0 on device 0, .*; the job has rank 0 on device 8"):
        check(range(8, 16), is_exported=True)


def test_a_file_that_is_no_rank_table(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(RankTableError, match=r"t\.json"):
        load_given_table(tmp_path / "t.json", "CPU", {}, Path("rank_table.json"), ["127.0.0.1"])


def test_a_given_table_is_checked_under_the_name_of_its_copy_in_the_run(tmp_path: Path) -> None:
    """The user's own name does not matter, since the run keeps a copy; a run directory that HCCL trips over does."""
    given = tmp_path / "hccl"
    given.write_bytes((EXAMPLES / "1x8.json").read_bytes())
    good, bad = tmp_path / "run" / "rank_table.json", tmp_path / "run.json.d" / "rank_table.json"
    assert load_given_table(given, "Ascend", {}, good, ["127.0.0.1"]).table.world_size == 8
    with pytest.raises(
        RankTableError, match=r'opens it as "[^"]*/run\.json\.d/rank_table\.json"; expected "\.json" at'
    ):
        load_given_table(given, "Ascend", {}, bad, ["127.0.0.1"])


@pytest.mark.parametrize("target", ["Ascend", "CPU"])
@pytest.mark.parametrize(
    ("hosts", "workers", "expected"),
    [
        (None, ["192.0.2.7", "192.0.2.8"], ["192.0.2.7", "192.0.2.8"]),
        (["203.0.113.1", "203.0.113.2"], ["192.0.2.7", "192.0.2.8"], ["192.0.2.7", "192.0.2.8"]),  # pods of their own
        (["203.0.113.1", "203.0.113.2"], ["203.0.113.2", "203.0.113.1"], ["203.0.113.1", "203.0.113.2"]),
        (["203.0.113.1", "203.0.113.2"], [], ["192.0.2.7", "192.0.2.8"]),  # a dry run that knows no address
    ],
)
def test_the_operators_table_gets_the_addresses_that_the_workers_register_with(
    target: Literal["Ascend", "CPU"], hosts: list[str] | None, workers: list[str], expected: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "hccl.json"
    file.write_text(operator_table({"192.0.2.7": range(8), "192.0.2.8": range(4)}, hosts))
    given = load_given_table(file, target, {}, Path("/run/rank_table.json"), workers)
    assert [server.pod_ip for server in given.table.servers] == expected
    assert [server["pod_ip"] for server in given.document["server_list"]] == expected
    untouched = [{**server, "pod_ip": None} for server in given.document["server_list"]]
    assert untouched == [{**server, "pod_ip": None} for server in json.loads(file.read_text())["server_list"]]
