"""Single rules of HCCL's parsers, each on one damaged table; expected values from the parsers' sources."""

from __future__ import annotations

import copy

import pytest
from rank_table_samples import VALID_TABLES, cloud_table, concise_table, heterogeneous_table, lab_table, layered_table

from fcn4dist.ascend.rank_table.check import check_all_chips, check_document
from fcn4dist.ascend.rank_table.read import Document, find_format, load_document
from fcn4dist.ascend.rank_table.schema import CHIPS

DELETE = object()


def judge(table, chip, *, msrun=False, file="table.json"):
    return check_document(Document(file, table, find_format(table), None, ()), chip, msrun=msrun)


def damage(table, path, value):
    """Return a copy with the value at `path` ("server_list.0.device.1.rank_id") replaced or deleted."""
    changed = copy.deepcopy(table)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node = changed
    for part in parents:
        node = node[part]
    if value is DELETE:
        del node[last]
    else:
        node[last] = value
    return changed


def errors(verdict):
    return [(finding.code, finding.where) for finding in verdict.findings if finding.severity == "error"]


@pytest.mark.parametrize("name", VALID_TABLES)
def test_valid_tables_are_accepted_without_errors_by_the_chips_of_their_format(name):
    table = VALID_TABLES[name]()
    expected = {"2.0": ["950"], "1.2": ["910", "910b", "a3", "310p3"]}.get(name, ["910", "910b", "a3", "310p3"])
    assert [chip for chip in CHIPS if judge(table, chip).accepted] == expected


def test_a_table_that_nobody_objects_to_has_no_findings():
    assert judge(concise_table(), "910b", msrun=True).findings == ()
    assert judge(concise_table(version="1.2"), "a3", msrun=True).findings == ()
    assert judge(layered_table(), "950").findings == ()


DEVICE = "server_list.0.device.1"
CONCISE_ERRORS = [
    ("status", "initializing", "910b", ("HCCL_E_TIMEOUT", "status")),
    ("status", DELETE, "910b", ("EI0017", "status")),
    ("status", 1, "910b", ("EI0017", "status")),
    ("version", "2.1", "910b", ("EI0014", "version")),
    ("version", 1.0, "910b", ("EI0014", "version")),
    ("version", "2.0", "910b", ("EI0014", "version")),
    ("server_count", "3", "910b", ("EI0014", "server_count")),
    ("server_count", "0", "910b", ("EI0014", "server_count")),
    ("server_count", 2, "910b", ("EI0017", "server_count")),
    ("server_list", [], "910b", ("HCCL_E_PARA", "server_list")),
    ("server_list", "no", "910b", ("HCCL_E_PARA", "server_list")),
    ("server_list", DELETE, "910b", ("HCCL_E_NOT_FOUND", "server_list")),
    ("server_list.0.server_id", "", "910b", ("HCCL_E_PARA", "server_list[0].server_id")),
    ("server_list.0.server_id", "é" * 33, "910b", ("HCCL_E_PARA", "server_list[0].server_id")),
    ("server_list.1.server_id", "192.0.2.1", "910b", ("EI0014", "server_list[1].server_id")),
    ("server_list.0.host_ip", "", "910b", ("EI0014", "server_list[0].host_ip")),
    ("server_list.0.host_ip", "2001:db8::1", "910b", ("EI0014", "server_list[1].host_ip")),
    ("server_list.0.device", {}, "910b", ("HCCL_E_PARA", "server_list[0].device")),
    (f"{DEVICE}.device_id", "8", "910", ("EI0014", "server_list[0].device[1].device_id")),
    (f"{DEVICE}.device_id", "16", "910b", ("EI0014", "server_list[0].device[1].device_id")),
    (f"{DEVICE}.device_id", "16", "a3", ("EI0014", "server_list[0].device[1].device_id")),
    (f"{DEVICE}.device_id", "32", "310p3", ("EI0014", "server_list[0].device[1].device_id")),
    (f"{DEVICE}.device_id", "0", "910b", ("EI0014", "server_list[0].device[1].device_id")),
    (f"{DEVICE}.device_id", "-1", "910b", ("EI0014", "server_list[0].device[1].device_id")),
    (f"{DEVICE}.device_id", "abc", "910b", ("EI0014", "server_list[0].device[1].device_id")),
    (f"{DEVICE}.rank_id", "4294967296", "910b", ("EI0014", "server_list[0].device[1].rank_id")),
    (f"{DEVICE}.rank_id", "0", "910b", ("EI0014", "server_list[0].device[1].rank_id")),
    (f"{DEVICE}.rank_id", "7", "910b", ("EI0014", "server_list[0].device[1].rank_id")),
    (f"{DEVICE}.rank_id", DELETE, "910b", ("EI0017", "server_list[0].device[1].rank_id")),
    (f"{DEVICE}.device_ip", "198.51.100.1", "910b", ("EI0014", "server_list[0].device[1].device_ip")),
    (f"{DEVICE}.device_ip", "0.0.0.0", "910b", ("EI0014", "server_list[0].device[1].device_ip")),
    (f"{DEVICE}.device_ip", " 198.51.100.9", "910b", ("EI0014", "server_list[0].device[1].device_ip")),
    (f"{DEVICE}.device_ip", "2001:db8::9", "910b", ("EI0001", "server_list[0].device[1].device_ip")),
    (f"{DEVICE}.device_ip", "198.51.100.8,198.51.100.9", "910b", ("HCCL_E_PARA", "server_list[0].device[1].device_ip")),
    (f"{DEVICE}.device_ip", "", "910b", ("EI0014", "server_list[0].device[1].device_ip")),
    (f"{DEVICE}.device_port", "0", "910b", ("EI0014", "server_list[0].device[1].device_port")),
    (f"{DEVICE}.host_port", "65536", "910b", ("EI0014", "server_list[0].device[1].host_port")),
]


@pytest.mark.parametrize(("path", "value", "chip", "expected"), CONCISE_ERRORS)
def test_concise_damage_is_refused_at_its_place(path, value, chip, expected):
    assert expected in errors(judge(damage(concise_table(), path, value), chip))


@pytest.mark.parametrize(
    ("chip", "value", "keeps_host_ip", "accepted"),
    [
        ("910", DELETE, True, True),
        ("910", DELETE, False, False),
        ("910b", DELETE, True, False),
        ("910", "", False, True),
        ("910b", "", True, False),
        ("a3", DELETE, False, True),
        ("310p3", DELETE, False, False),
    ],
)
def test_device_ip_may_be_missing_on_several_servers(chip, value, keeps_host_ip, accepted):
    table = concise_table()
    for server in table["server_list"]:
        if not keeps_host_ip:
            del server["host_ip"]
        for device in server["device"]:
            if value is DELETE:
                del device["device_ip"]
            else:
                device["device_ip"] = value
    assert judge(table, chip).accepted == accepted


@pytest.mark.parametrize(
    ("chip", "num_servers", "keeps_host_ip", "accepted"),
    [
        ("a3", 2, False, True),  # an A3 never asks for it
        ("910", 2, True, True),  # host_ip stands in for it
        ("910", 2, False, False),
        ("310p3", 2, False, False),
        ("910b", 2, True, False),
        ("910b", 1, True, True),
        ("910b", 1, False, False),
        ("a3", 1, False, False),
    ],
)
def test_a_device_ip_that_is_no_string_counts_as_none(chip, num_servers, keeps_host_ip, accepted):
    """GetSingleDeviceIp of topoinfo_ranktableConcise.cc looks at the reader's answer only in the cases above."""
    table = damage(concise_table(num_servers), "server_list.0.device.1.device_ip", 7)
    for server in table["server_list"]:
        if not keeps_host_ip:
            del server["host_ip"]
    verdict = judge(table, chip)
    assert verdict.accepted == accepted
    found = {(finding.severity, finding.where) for finding in verdict.findings}
    assert ("warning" if accepted else "error", "server_list[0].device[1].device_ip") in found


def test_device_ip_may_be_missing_on_one_server_but_with_a_warning():
    table = damage(concise_table(1), "server_list.0.device.0.device_ip", DELETE)
    verdict = judge(table, "910b")
    assert verdict.accepted
    assert [f.where for f in verdict.findings if f.severity == "warning"] == ["server_list[0].device[0].device_ip"]


@pytest.mark.parametrize(("count", "accepted"), [(3, False), (2, True), (1, True), (8, True), (5, False)])
def test_a_910_server_has_1_2_4_or_8_devices(count, accepted):
    table = concise_table(1, count)
    assert judge(table, "910").accepted == accepted
    assert judge(table, "310p3").accepted


@pytest.mark.parametrize(
    ("ids", "accepted"),
    [(ids, True) for ids in ("0145", "0246", "0347", "1256", "1357", "2367", "0123", "4567")]
    + [(ids, False) for ids in ("2345", "0167", "0156")],
)
def test_four_devices_of_a_910_form_a_ring(ids, accepted):
    table = concise_table(1, 4)
    for device, number in zip(table["server_list"][0]["device"], ids, strict=True):
        device["device_id"] = number
    assert judge(table, "910").accepted == accepted
    assert judge(table, "910b").accepted


@pytest.mark.parametrize(
    ("ids", "accepted"), [((0, 1, 8, 9), True), ((0, 1, 8, 10), False), ((8, 9), True), ((0, 8, 9), False)]
)
def test_both_modules_of_one_910b_server_are_used_alike(ids, accepted):
    table = concise_table(1, len(ids))
    for device, number in zip(table["server_list"][0]["device"], ids, strict=True):
        device["device_id"] = str(number)
    verdict = judge(table, "910b")
    assert verdict.accepted == accepted
    assert accepted or errors(verdict) == [("EI0010", "server_list[0].device")]


@pytest.mark.parametrize(("chip", "accepted"), [("910", False), ("310p3", False), ("910b", True), ("a3", True)])
def test_unequal_servers(chip, accepted):
    table = concise_table(2, 2)
    table["server_list"][1]["device"].pop()
    verdict = judge(table, chip)
    assert verdict.accepted == accepted
    assert any("server" in f.message and "devices" in f.message for f in verdict.findings)


WARNINGS = [
    ("server_count", DELETE, "server_count"),
    ("server_list.0.pod_ip", DELETE, "server_list[0].pod_ip"),
    ("server_list.0.server_id", "10.*.*.*", "server_list[0].server_id"),
    ("server_list.0.server_id", "xx.xx.xx.xx", "server_list[0].server_id"),
    ("server_list.0.server_id", "127.0.1.1", "server_list[0].server_id"),
    ("server_list.0.server_id", "192.0.2.9", "server_list[1].server_id"),
    (f"{DEVICE}.rank_id", "1abc", "server_list[0].device[1].rank_id"),
    (f"{DEVICE}.device_id", " +1", "server_list[0].device[1].device_id"),
    (f"{DEVICE}.device_port", "16666", "server_list[0].device[1].device_port"),
    ("super_pod_list", [], "super_pod_list"),
]


@pytest.mark.parametrize(("path", "value", "where"), WARNINGS)
def test_what_other_readers_trip_over_is_a_warning(path, value, where):
    verdict = judge(damage(concise_table(), path, value), "910b")
    assert verdict.accepted
    assert where in [finding.where for finding in verdict.findings if finding.severity == "warning"]


def test_interleaved_ranks_are_a_warning():
    table = concise_table()
    first, second = (server["device"] for server in table["server_list"])
    first[1]["rank_id"], second[0]["rank_id"] = second[0]["rank_id"], first[1]["rank_id"]
    verdict = judge(table, "a3")
    assert verdict.accepted
    assert any("interleave" in finding.message for finding in verdict.findings)


def test_ignored_keys_are_notes_once_a_key():
    table = concise_table()
    for server in table["server_list"]:
        server["host_nic_ip"] = "reserve"
    notes = [finding for finding in judge(table, "910b").findings if finding.severity == "note"]
    assert [(note.where, "in 1 more" in note.message) for note in notes] == [("server_list[0].host_nic_ip", True)]


@pytest.mark.parametrize(
    ("name", "accepted"), [("a.json", True), ("a.txt", False), ("x.json.d/a.json", False), ("hccl", False)]
)
def test_hccl_looks_at_the_name_of_the_file(name, accepted):
    assert judge(concise_table(), "910b", file=name).accepted == accepted
    assert judge(layered_table(), "950", file=name).accepted


@pytest.mark.parametrize(("given", "real", "accepted"), [("link", "t.json", True), ("link.json", "data", False)])
def test_hccl_follows_links_before_it_looks_at_the_name(given, real, accepted, save, tmp_path):
    save(concise_table(), real)
    (tmp_path / given).symlink_to(real)
    assert check_document(load_document(tmp_path / given), "910").accepted == accepted


POD = "super_pod_list.0"
SUPER_POD_ERRORS = [
    (f"{POD}.super_pod_id", "", ("EI0014", "super_pod_list[0].super_pod_id")),
    (f"{POD}.super_pod_id", "x" * 128, ("EI0014", "super_pod_list[0].super_pod_id")),
    (f"{POD}.super_pod_id", DELETE, ("EI0017", "super_pod_list[0].super_pod_id")),
    (f"{POD}.server_list.0.server_id", "192.0.2.99", ("EI0014", "super_pod_list[0].server_list[0].server_id")),
    (f"{POD}.server_list.0.server_id", "192.0.2.2", ("EI0014", "super_pod_list[0].server_list[1].server_id")),
    (f"{POD}.server_list.0", DELETE, ("EI0014", "server_list[0].server_id")),
    (f"{DEVICE}.super_device_id", "", ("EI0014", "server_list[0].device[1].super_device_id")),
    (f"{DEVICE}.super_device_id", "4294967295", ("EI0014", "server_list[0].device[1].super_device_id")),
    (f"{DEVICE}.super_device_id", "0", ("EI0014", "server_list[0].device[1].super_device_id")),
    (f"{DEVICE}.super_device_id", DELETE, ("EI0017", "server_list[0].device[1].super_device_id")),
]


@pytest.mark.parametrize(("path", "value", "expected"), SUPER_POD_ERRORS)
def test_super_pods_matter_on_a3_alone(path, value, expected):
    table = damage(concise_table(version="1.2"), path, value)
    assert expected in errors(judge(table, "a3"))
    is_read = path.endswith("super_device_id") and value == ""
    assert judge(table, "910b").accepted != is_read


def test_a_refused_table_is_read_as_long_as_no_rank_device_or_server_is_missing():
    table = damage(concise_table(), "server_list.1.server_id", "192.0.2.1")  # listed twice
    verdict = judge(damage(table, f"{DEVICE}.device_id", "99"), "910b")
    assert [device.device_id for server in verdict.table.servers for device in server.devices] == [0, 99, 0, 1]
    assert not verdict.accepted
    assert judge(damage(table, f"{DEVICE}.rank_id", "one"), "910b").table is None


@pytest.mark.parametrize("chip", ["910", "910b", "310p3", "a3"])
@pytest.mark.parametrize("value", ["", "sdid", 5])
def test_super_device_id_is_read_by_the_version_and_not_by_the_chip(chip, value):
    path = "server_list[0].device[1].super_device_id"
    super_pods = damage(concise_table(version="1.2"), f"{DEVICE}.super_device_id", value)
    assert path in {where for _, where in errors(judge(super_pods, chip))}
    assert judge(damage(concise_table(), f"{DEVICE}.super_device_id", value), chip).accepted  # 1.0 has no such key


def test_the_same_super_device_in_two_super_pods_is_fine():
    table = concise_table(version="1.2")
    members = table["super_pod_list"][0]["server_list"]
    table["super_pod_list"] = [
        {"super_pod_id": "a", "server_list": [members[0]]},
        {"super_pod_id": "b", "server_list": [members[1]]},
    ]
    for server in table["server_list"]:
        for number, device in enumerate(server["device"]):
            device["super_device_id"] = str(number)
    assert judge(table, "a3").findings == ()


GROUP = "group_list.0"
INSTANCE = f"{GROUP}.instance_list.0"
TEMPLATE_TWO_ERRORS = [
    (cloud_table, "group_count", "2", ("HCCL_E_PARA", "group_count")),
    (cloud_table, f"{GROUP}.instance_count", "3", ("HCCL_E_PARA", "group_list[0].instance_count")),
    (cloud_table, f"{GROUP}.device_count", "3", ("HCCL_E_PARA", "group_list[0].device_count")),
    (cloud_table, f"{GROUP}.group_name", DELETE, ("EI0017", "group_list[0].group_name")),
    (cloud_table, f"{INSTANCE}.pod_name", "pod-1", ("EI0014", "group_list[0].instance_list[1].pod_name")),
    (
        cloud_table,
        f"{INSTANCE}.devices.1.device_id",
        "8",
        ("EI0014", "group_list[0].instance_list[0].devices[1].device_id"),
    ),
    (
        cloud_table,
        f"{INSTANCE}.devices.1.device_ip",
        DELETE,
        ("EI0017", "group_list[0].instance_list[0].devices[1].device_ip"),
    ),
    (
        cloud_table,
        f"{INSTANCE}.devices.1.device_id",
        "0",
        ("EI0014", "group_list[0].instance_list[0].devices[1].device_id"),
    ),
    (lab_table, "para_plane_nic_location", DELETE, ("EI0017", "para_plane_nic_location")),
    (lab_table, "para_plane_nic_location", "host", ("HCCL_E_PARA", "para_plane_nic_location")),
    (lab_table, f"{GROUP}.server_num", "4", ("HCCL_E_PARA", "group_list[0].server_num")),
    (lab_table, f"{GROUP}.server_num", "0", ("EI0014", "group_list[0].server_num")),
    (lab_table, f"{GROUP}.device_num", "3", ("HCCL_E_PARA", "group_list[0].device_num")),
    (lab_table, f"{INSTANCE}.rank_id", "3", ("EI0014", "group_list[0].instance_list[3].rank_id")),
    (
        lab_table,
        f"{INSTANCE}.devices.0.device_id",
        "1",
        ("EI0014", "group_list[0].instance_list[1].devices[0].device_id"),
    ),
    (
        lab_table,
        f"{INSTANCE}.devices.0.device_ip",
        "2001:db8::1",
        ("EI0001", "group_list[0].instance_list[1].devices[0].device_ip"),
    ),
]


@pytest.mark.parametrize(("make", "path", "value", "expected"), TEMPLATE_TWO_ERRORS)
def test_template_two_damage_is_refused_at_its_place(make, path, value, expected):
    assert expected in errors(judge(damage(make(), path, value), "910b"))


def test_cloud_mode_takes_an_empty_address_and_lab_mode_ids_beyond_7_except_on_910():
    assert judge(damage(cloud_table(), f"{INSTANCE}.devices.1.device_ip", ""), "910").accepted
    table = damage(lab_table(), f"{INSTANCE}.devices.0.device_id", "9")
    assert judge(table, "910b").accepted
    assert not judge(table, "910").accepted


RANK = "node_list.0.ranks.0"
HETEROGENEOUS_ERRORS = [
    ("collective_id", DELETE, ("EI0017", "collective_id")),
    ("collective_id", "x" * 128, ("HCCL_E_PARA", "collective_id")),
    ("mode", "udp", ("HCCL_E_PARA", "mode")),
    ("heterog_sub_version", "1.1", ("HCCL_E_PARA", "heterog_sub_version")),
    ("heterog_sub_version", "1.2", ("EI0017", "node_list[0].ranks[0].sdid")),
    ("node_list.0.node_addr", "node-a", ("EI0014", "node_list[0].node_addr")),
    ("node_list.1.node_addr", "192.0.2.1", ("EI0014", "node_list[1].node_addr")),
    (f"{RANK}.rank_ip", "x", ("EI0014", "node_list[0].ranks[0].rank_ip")),
    (f"{RANK}.rank_id", "5", ("EI0014", "node_list[0].ranks[0].rank_id")),
]


@pytest.mark.parametrize(("path", "value", "expected"), HETEROGENEOUS_ERRORS)
def test_heterogeneous_damage_is_refused_at_its_place(path, value, expected):
    assert expected in errors(judge(damage(heterogeneous_table(), path, value), "a3"))


LEVEL = "rank_list.0.level_list.1"
ADDRESS = f"{LEVEL}.rank_addr_list.0"
IN_ADDRESS = "rank_list[0].level_list[1].rank_addr_list[0]"
LAYERED_ERRORS = [
    ("rank_count", "2", ("EI0014", "rank_count")),
    ("rank_count", 3, ("EI0014", "rank_count")),
    ("rank_count", 65537, ("EI0014", "rank_count")),
    ("rank_count", True, ("EI0014", "rank_count")),
    ("rank_count", DELETE, ("EI0017", "rank_count")),
    ("detour", "perhaps", ("EI0014", "detour")),
    ("rank_list.1.rank_id", 0, ("EI0014", "rank_list[1].rank_id")),
    ("rank_list.1.rank_id", 2, ("EI0014", "rank_list[1].rank_id")),
    ("rank_list.0.local_id", 65, ("EI0014", "rank_list[0].local_id")),
    ("rank_list.0.local_id", 64, ("EI0017", "rank_list[0].replaced_local_id")),
    ("rank_list.0.device_port", 0, ("EI0014", "rank_list[0].device_port")),
    (f"{LEVEL}.net_layer", 0, ("EI0014", "rank_list[0].level_list[1].net_layer")),
    (f"{LEVEL}.net_layer", 8, ("EI0014", "rank_list[0].level_list[1].net_layer")),
    (f"{LEVEL}.net_instance_id", "", ("EI0014", "rank_list[0].level_list[1].net_instance_id")),
    (f"{LEVEL}.net_type", "RING", ("EI0014", "rank_list[0].level_list[1].net_type")),
    (f"{LEVEL}.rank_addr_list", [], ("EI0014", "rank_list[1].level_list[1].rank_addr_list")),
    (f"{ADDRESS}.addr_type", "IPv4", ("EI0014", f"{IN_ADDRESS}.addr_type")),
    (f"{ADDRESS}.addr_type", "IPV6", ("EI0014", f"{IN_ADDRESS}.addr")),
    (f"{ADDRESS}.addr_type", "EID", ("EI0014", f"{IN_ADDRESS}.addr")),
    (f"{ADDRESS}.ports", [], ("EI0014", f"{IN_ADDRESS}.ports")),
    (f"{ADDRESS}.ports", [7], ("EI0014", f"{IN_ADDRESS}.ports[0]")),
    (f"{ADDRESS}.backup_addr", ["2001:db8::1"], ("EI0014", f"{IN_ADDRESS}.backup_addr[0]")),
]


@pytest.mark.parametrize(("path", "value", "expected"), LAYERED_ERRORS)
def test_layered_damage_is_refused_at_its_place(path, value, expected):
    assert expected in errors(judge(damage(layered_table(), path, value), "950"))


def test_a_backup_npu_takes_the_place_of_one_that_is_gone():
    table = damage(layered_table(), "rank_list.1.local_id", 64)
    table["rank_list"][1]["replaced_local_id"] = 1
    assert judge(table, "950").accepted
    table["rank_list"][1]["replaced_local_id"] = 0
    assert errors(judge(table, "950")) == [("EI0014", "rank_list[1].replaced_local_id")]


def test_950_does_not_wait_for_completed_but_says_so():
    verdict = judge(damage(layered_table(), "status", "initializing"), "950")
    assert verdict.accepted
    assert [finding.where for finding in verdict.findings] == ["status"]


MSRUN_ERRORS = [
    ("server_list.1.pod_ip", DELETE, "server_list[1].pod_ip"),
    ("server_list.1.pod_ip", "host-2", "server_list[1].pod_ip"),
    ("server_list.1.pod_ip", "127.0.0.1", "server_list[1].pod_ip"),
    ("server_list.0.device.0.device_id", "5", "server_list[0].device[1].device_id"),
]


@pytest.mark.parametrize(("path", "value", "where"), MSRUN_ERRORS)
def test_msrun_needs_what_the_scheduler_reads(path, value, where):
    table = damage(concise_table(), path, value)
    assert judge(table, "910b").accepted
    assert (None, where) in errors(judge(table, "910b", msrun=True))


def test_the_upstream_msrun_example_is_fine():
    """Ranks 3, 2, 0, 1 on devices 0 to 3 of one loopback server: runs on hardware (MindSpore's own test)."""
    table = concise_table(1, 4)
    server = table["server_list"][0]
    server.update(server_id="10.*.*.*", pod_ip="127.0.0.1")
    for device, rank in zip(server["device"], "3201", strict=True):
        device["rank_id"] = rank
    assert judge(table, "910b", msrun=True).accepted


def test_without_a_chip_every_chip_of_the_format_is_judged():
    def chips(table):
        return [verdict.chip for verdict in check_all_chips(Document("t.json", table, find_format(table), None, ()))]

    assert chips(concise_table()) == ["910", "910b", "a3", "310p3"]
    assert chips(layered_table()) == ["950"]
    assert chips({"version": "9"}) == ["910", "910b", "a3", "310p3", "950"]
