"""Converting: every rank keeps its device, nothing is invented, and what is lost is said."""

from __future__ import annotations

import pytest
from rank_table_samples import cloud_table, concise_table, heterogeneous_table, lab_table, layered_table

from fcn4dist.ascend.rank_table.convert import convert_document
from fcn4dist.ascend.rank_table.parse import parse_table
from fcn4dist.ascend.rank_table.read import Document, find_format
from fcn4dist.ascend.rank_table.schema import Format
from fcn4dist.errors import RankTableError


def document(table):
    return Document("a.json", table, find_format(table), None, ())


def ranks(table):
    parsed = parse_table(document(table))
    return {d.rank: (s.server_id, d.device_id, d.device_ips) for s in parsed.servers for d in s.devices}


EXPECTED = {
    0: ("192.0.2.1", 0, ("198.51.100.1",)),
    1: ("192.0.2.1", 1, ("198.51.100.2",)),
    2: ("192.0.2.2", 0, ("198.51.100.3",)),
    3: ("192.0.2.2", 1, ("198.51.100.4",)),
}


@pytest.mark.parametrize("target", [Format.CONCISE, Format.SUPER_POD, Format.CLOUD])
@pytest.mark.parametrize("make", [concise_table, lambda: concise_table(version="1.2"), cloud_table, lab_table])
def test_every_rank_keeps_its_device(make, target):
    converted, _ = convert_document(document(make()), target)
    assert find_format(converted) is target
    assert ranks(converted) == EXPECTED


def test_cloud_ranks_follow_the_bytes_of_server_ids():
    table = cloud_table()
    table["group_list"][0]["instance_list"][0]["server_id"] = "10.0.0.9"
    table["group_list"][0]["instance_list"][1]["server_id"] = "10.0.0.10"
    converted, _ = convert_document(document(table), Format.CONCISE)
    assert [server["server_id"] for server in converted["server_list"]] == ["10.0.0.10", "10.0.0.9"]
    assert converted["server_list"][0]["device"][0] == {"device_id": "0", "device_ip": "198.51.100.3", "rank_id": "0"}
    assert [server["pod_ip"] for server in converted["server_list"]] == ["10.0.0.10", "10.0.0.9"]


def test_two_pods_of_one_server_become_one_server():
    table = cloud_table(2, 1)
    first, second = table["group_list"][0]["instance_list"]
    second["server_id"] = first["server_id"]
    second["devices"][0]["device_id"] = "4"
    converted, _ = convert_document(document(table), Format.CONCISE)
    (server,) = converted["server_list"]
    assert [(d["device_id"], d["rank_id"]) for d in server["device"]] == [("0", "0"), ("4", "1")]


def test_what_is_lost_is_said():
    _, remarks = convert_document(document(concise_table(version="1.2")), Format.CONCISE)
    assert any("super_pod_list" in remark for remark in remarks)
    _, remarks = convert_document(document(concise_table(version="1.2")), Format.CLOUD)
    assert any("super pods" in remark for remark in remarks)
    _, remarks = convert_document(document(concise_table()), Format.SUPER_POD)
    assert any("AI-server mode" in remark for remark in remarks)
    table = cloud_table()
    table["group_list"][0]["instance_list"][0]["server_id"] = "node_0"
    _, remarks = convert_document(document(table), Format.CONCISE)
    assert any("node_0 gets no pod_ip" in remark for remark in remarks)


def swapped():
    table = concise_table()
    devices = table["server_list"][0]["device"]
    devices[0]["rank_id"], devices[1]["rank_id"] = "1", "0"
    return table


def second_group():
    table = cloud_table()
    table["group_list"].append({**table["group_list"][0], "group_name": "second"})
    return table


@pytest.mark.parametrize(
    ("table", "target", "message"),
    [
        (swapped(), Format.CLOUD, "device 0 of server 192.0.2.1 has rank 1, template two would give it rank 0"),
        (concise_table(1, 9), Format.CLOUD, "device 8; template two takes 0 to 7"),
        (second_group(), Format.CONCISE, "several groups"),
        (heterogeneous_table(), Format.CONCISE, "format 1.1 says things"),
        (layered_table(), Format.SUPER_POD, "format 2.0 says things"),
        ({**concise_table(), "status": "initializing"}, Format.SUPER_POD, '"initializing"; expected "completed"'),
        ({**concise_table(), "server_count": "7"}, Format.SUPER_POD, "no chip would accept the result: server_count"),
    ],
)
def test_what_cannot_be_said_in_the_other_format_is_refused(table, target, message):
    with pytest.raises(RankTableError, match=message):
        convert_document(document(table), target)
