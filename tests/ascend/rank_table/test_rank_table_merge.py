"""Merging: one result for any order of files, nothing lost, doubles refused with both places."""

from __future__ import annotations

import copy
import itertools

import pytest
from rank_table_samples import cloud_table, concise_table, heterogeneous_table, lab_table, layered_table

from fcn4dist.ascend.rank_table.check import check_document
from fcn4dist.ascend.rank_table.merge import accepting_chips, merge_documents
from fcn4dist.ascend.rank_table.read import Document, find_format
from fcn4dist.errors import RankTableError


def document(table, name="a.json"):
    return Document(name, table, find_format(table), None, ())


def documents(*tables):
    return [document(table, f"{letter}.json") for letter, table in zip("abcdef", tables, strict=False)]


def host_table(server, num_devices=2, *, version="1.0", pod="pod-0"):
    """Return what host number `server` would generate for itself: ranks from 0."""
    table = concise_table(1, num_devices, version=version)
    entry = table["server_list"][0]
    address = f"192.0.2.{server}"
    entry.update(server_id=address, host_ip=address, pod_ip=address)
    for device in entry["device"]:
        device["device_ip"] = f"198.51.{server}.{device['device_id']}"
        if version == "1.2":
            device["super_device_id"] = str(100 * server + int(device["device_id"]))
    if version == "1.2":
        table["super_pod_list"] = [{"super_pod_id": pod, "server_list": [{"server_id": address}]}]
    return table


def test_servers_are_sorted_as_texts_and_ranks_renumbered():
    merged = merge_documents(documents(host_table(9), host_table(10), host_table(100, 3)))
    servers = merged["server_list"]
    assert [server["server_id"] for server in servers] == ["192.0.2.10", "192.0.2.100", "192.0.2.9"]
    assert [[device["rank_id"] for device in server["device"]] for server in servers] == [
        ["0", "1"],
        ["2", "3", "4"],
        ["5", "6"],
    ]
    assert (merged["server_count"], merged["status"], merged["version"]) == ("3", "completed", "1.0")


def test_every_order_of_the_files_gives_the_same_table():
    tables = [host_table(n, version="1.2", pod=pod) for n, pod in ((1, "x"), (2, "y"), (3, "x"))]
    results = [merge_documents(documents(*order)) for order in itertools.permutations(tables)]
    assert all(result == results[0] for result in results)
    assert results[0]["super_pod_list"] == [
        {"super_pod_id": "x", "server_list": [{"server_id": "192.0.2.1"}, {"server_id": "192.0.2.3"}]},
        {"super_pod_id": "y", "server_list": [{"server_id": "192.0.2.2"}]},
    ]
    assert check_document(document(results[0]), "a3", msrun=True).findings == ()


def test_the_inputs_stay_as_they_are():
    tables = [host_table(1), host_table(2)]
    before = copy.deepcopy(tables)
    merge_documents(documents(*tables))
    assert tables == before


def test_tables_of_several_servers_merge_and_keep_what_hccl_does_not_read():
    first, second = concise_table(2), host_table(7)
    second["server_list"][0]["rack"] = "r7"
    second["server_list"][0]["device"][0]["backup_device_ip"] = "198.51.100.99"
    merged = merge_documents(documents(first, second))
    assert merged["server_list"][2]["rack"] == "r7"
    assert merged["server_list"][2]["device"][0]["backup_device_ip"] == "198.51.100.99"
    assert [d["rank_id"] for s in merged["server_list"] for d in s["device"]] == [str(rank) for rank in range(6)]


def test_the_order_of_ranks_inside_a_server_is_kept_and_devices_stand_by_id():
    table = host_table(1, 4)
    for device, rank in zip(table["server_list"][0]["device"], "3201", strict=True):
        device["rank_id"] = rank
    table["server_list"][0]["device"].reverse()
    merged = merge_documents(documents(host_table(0, 4), table))
    devices = merged["server_list"][1]["device"]
    assert [(device["device_id"], device["rank_id"]) for device in devices] == [
        ("0", "7"),
        ("1", "6"),
        ("2", "4"),
        ("3", "5"),
    ]


def test_a_missing_pod_ip_is_filled_in():
    """As hccl_tools.py leaves it out."""
    tables = [host_table(1), host_table(2)]
    for table in tables:
        del table["server_list"][0]["pod_ip"]
    tables[1]["server_list"][0]["server_id"] = "node-2"
    merged = merge_documents(documents(*tables))
    assert [server["pod_ip"] for server in merged["server_list"]] == ["192.0.2.1", "192.0.2.2"]
    assert check_document(document(merged), "910b", msrun=True).accepted


def test_a_pods_own_address_comes_before_its_hosts():
    """As MindCluster's operator tells them apart; workers in a pod's own network register with the pod's."""
    tables = [host_table(1), host_table(2)]
    for number, table in enumerate(tables, 1):
        del table["server_list"][0]["pod_ip"]
        table["server_list"][0]["container_ip"] = f"10.244.1.{number}"
    merged = merge_documents(documents(*tables))
    assert [server["pod_ip"] for server in merged["server_list"]] == ["10.244.1.1", "10.244.1.2"]


def with_server_id(table, server_id):
    table["server_list"][0]["server_id"] = server_id
    return table


def with_address(table, address):
    table["server_list"][0]["device"][1]["device_ip"] = address
    return table


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            host_table(1),
            with_server_id(host_table(2), "192.0.2.1"),
            r'b\.json: server_list\[0\]\.server_id: server_id "192\.0\.2\.1" is already in a\.json: ',
        ),
        (
            host_table(1),
            with_address(host_table(2), "198.51.1.0"),
            r'b\.json: server_list\[0\]\.device\[1\]\.device_ip: device_ip "198\.51\.1\.0" is already in a\.json: ',
        ),
        (
            host_table(1),
            host_table(2, version="1.2"),
            r"b\.json has format 1\.2, a\.json has 1\.0; expected one format",
        ),
        (host_table(1), {**host_table(2), "status": "initializing"}, r'b\.json: status: "initializing"'),
        (host_table(1), {**host_table(2), "status": 7}, r"b\.json: status: 7"),
        ({**host_table(1), "note": 1}, {**host_table(2), "note": 2}, r"b\.json: note is 2, in a\.json 1"),
        (host_table(1), {**host_table(2), "server_list": []}, r"b\.json: server_list: the array is empty"),
    ],
)
def test_what_cannot_be_merged_is_refused_with_both_places(first, second, message):
    with pytest.raises(RankTableError, match=message):
        merge_documents(documents(first, second))


def test_super_devices_are_unique_in_a_super_pod_and_pods_in_all_files_or_none():
    first, second = host_table(1, version="1.2"), host_table(2, version="1.2")
    second["server_list"][0]["device"][0]["super_device_id"] = "100"
    with pytest.raises(
        RankTableError, match=r'b\.json: .*super_device_id of super pod "pod-0" 100 is already in a\.json'
    ):
        merge_documents(documents(first, second))
    second["super_pod_list"][0]["super_pod_id"] = "pod-1"
    assert accepting_chips(merge_documents(documents(first, second)), find_format(first)) == [
        "910",
        "910b",
        "a3",
        "310p3",
    ]
    del second["super_pod_list"]
    with pytest.raises(RankTableError, match=r"only one has super_pod_list"):
        merge_documents(documents(first, second))


def test_a_result_that_no_chip_takes_is_refused():
    first, second = host_table(1), host_table(2)
    second["server_list"][0]["device"][1]["device_ip"] = "2001:db8::1"
    with pytest.raises(RankTableError, match=r"^a\.json, b\.json: no chip would accept the merged table: .*device_ip"):
        merge_documents(documents(first, second))


def test_the_same_file_twice_is_refused():
    table = document(host_table(1))
    with pytest.raises(RankTableError, match=r"a\.json is given twice"):
        merge_documents([table, table])


def test_cloud_tables_merge_by_instances():
    first, second = cloud_table(1), cloud_table(1)
    instance = second["group_list"][0]["instance_list"][0]
    instance.update(pod_name="pod-9", server_id="192.0.2.0")
    for device in instance["devices"]:
        device["device_ip"] = f"198.51.9.{device['device_id']}"
    merged = merge_documents(documents(first, second))
    assert merged == merge_documents(documents(second, first))
    (group,) = merged["group_list"]
    assert [i["pod_name"] for i in group["instance_list"]] == ["pod-9", "pod-0"]
    assert (group["instance_count"], group["device_count"]) == ("2", "4")
    second["group_list"][0]["group_name"] = "other"
    with pytest.raises(RankTableError, match="expected one group name"):
        merge_documents(documents(first, second))


def test_lab_tables_merge_and_renumber():
    first, second = lab_table(1), lab_table(1)
    for instance in second["group_list"][0]["instance_list"]:
        instance["server_id"] = "192.0.2.0"
        instance["devices"][0]["device_ip"] = f"198.51.9.{instance['rank_id']}"
    merged = merge_documents(documents(first, second))
    assert merged == merge_documents(documents(second, first))
    (group,) = merged["group_list"]
    assert [(i["server_id"], i["rank_id"]) for i in group["instance_list"]] == [
        ("192.0.2.0", "0"),
        ("192.0.2.0", "1"),
        ("192.0.2.1", "2"),
        ("192.0.2.1", "3"),
    ]
    assert (group["device_num"], group["server_num"], group["instance_count"]) == ("4", "2", "4")


def test_nodes_of_1_1_merge_when_they_are_of_one_collective():
    first, second = heterogeneous_table(), heterogeneous_table()
    for number, node in enumerate(second["node_list"]):
        node["node_addr"] = f"192.0.1.{number + 1}"
    merged = merge_documents(documents(first, second))
    assert [node["node_addr"] for node in merged["node_list"]] == ["192.0.1.1", "192.0.1.2", "192.0.2.1", "192.0.2.2"]
    assert [rank["rank_id"] for node in merged["node_list"] for rank in node["ranks"]] == [str(n) for n in range(8)]
    second["collective_id"] = "other"
    with pytest.raises(RankTableError, match="collective_id"):
        merge_documents(documents(first, second))


def test_ranks_of_2_0_merge_by_instance_and_local_id():
    first, second = layered_table(2), layered_table(2)
    for rank in second["rank_list"]:
        rank["level_list"][0]["net_instance_id"] = "a-mesh"
    merged = merge_documents(documents(first, second))
    assert merged == merge_documents(documents(second, first))
    assert [(r["rank_id"], r["level_list"][0]["net_instance_id"], r["local_id"]) for r in merged["rank_list"]] == [
        (0, "a-mesh", 0),
        (1, "a-mesh", 1),
        (2, "mesh", 0),
        (3, "mesh", 1),
    ]
    assert merged["rank_count"] == 4
    with pytest.raises(RankTableError, match=r'local_id of instance "mesh"'):
        merge_documents(documents(first, copy.deepcopy(first)))
