"""Servers from host files, patterns, collected hccn.conf files and inventories."""

from __future__ import annotations

import pytest

from fcn4dist.ascend.hostfile import (  # type: ignore[attr-defined]
    AddressPattern,
    build_server,
    find_address,
    load_collected,
    parse_devices,
    parse_hostfile,
)
from fcn4dist.ascend.inventory import load_inventory
from fcn4dist.ascend.rank_table.build import build_table, check_written, format_table, to_text
from fcn4dist.ascend.rank_table.schema import Device, Server
from fcn4dist.ascend.sources import Source, collect_servers
from fcn4dist.errors import RankTableError

NAMES = {"node-a": ["192.0.2.1"], "node-b": ["127.0.1.1", "192.0.2.2"], "self": ["127.0.1.1"], "twin": ["192.0.2.1"]}


def resolve(name):
    return NAMES.get(name, [])


@pytest.mark.parametrize(
    ("text", "ids"), [("0-7", tuple(range(8))), ("4,0-1", (0, 1, 4)), ("15", (15,)), (" 0 , 2 ", (0, 2))]
)
def test_device_lists(text, ids):
    assert parse_devices(text, "here") == ids


@pytest.mark.parametrize("text", ["", "a", "0-", "3-1", "0,0", "0-3,2", "65", "[0,8)", "-1", "0:3", "99999", "٣"])
def test_device_lists_that_are_none(text):
    with pytest.raises(RankTableError, match=r"^here: "):
        parse_devices(text, "here")


def test_a_host_file_names_hosts_slots_and_devices():
    text = (
        "# comment\nnode-a slots=8\n\nnode-b slots=2 devices=4-5  # two\n192.0.2.9:4\n2001:db8::1 slots=1\n192.0.2.10\n"
        "nowhere 192.0.2.11 slots=2\nnobody=2001:db8::2\nnode-9:3 192.0.2.12\n"
    )
    hosts = parse_hostfile(text, "hosts", resolve)
    assert [(host.address, host.device_ids) for host in hosts] == [
        ("192.0.2.1", tuple(range(8))),
        ("192.0.2.2", (4, 5)),
        ("192.0.2.9", (0, 1, 2, 3)),
        ("2001:db8::1", (0,)),
        ("192.0.2.10", None),
        ("192.0.2.11", (0, 1)),
        ("2001:db8::2", None),
        ("192.0.2.12", (0, 1, 2)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node-a slots=1\nnode-a slots=1", r"hosts:2: host node-a is already at hosts:1"),
        ("node-a slots=1\ntwin slots=1", r"hosts:2: host 192\.0\.2\.1 is already at hosts:1"),
        ("nowhere slots=1", r"hosts:1: unknown host 'nowhere'"),
        ("self slots=1", r"hosts:1: self is 127\.0\.1\.1, loopback"),
        ("node-a slots=0", r"hosts:1: slots=0; expected a number 1 to 64"),
        ("node-a slots=-1", r"slots=-1"),
        ("node-a slots=²", r"slots=²"),
        ("node-a slots=3 devices=0-3", r"slots=3, but devices=0-3 are 4"),
        ("node-a gpus=3", r"'gpus=3'; expected HOST"),
        ("node-a 8", r"'8'; expected HOST"),
        ("x 192.0.2.1 slots=1\nnode-a slots=1", r"hosts:2: host 192\.0\.2\.1 is already at hosts:1"),
        ("node-a=somewhere", r"'node-a=somewhere'; expected HOST=ADDRESS"),
        ("x=127.0.0.1", r"127\.0\.0\.1 is 127\.0\.0\.1, loopback"),
        ("192.0.2.1 192.0.2.2", r"are both addresses"),
        ("\n# nothing\n", r"no host in it"),
    ],
)
def test_host_files_that_are_refused(text, message):
    with pytest.raises(RankTableError, match=message):
        parse_hostfile(text, "hosts", resolve)


def test_a_routable_address_is_preferred_to_loopback():
    assert find_address("node-b", "here", resolve) == "192.0.2.2"
    with pytest.raises(RankTableError, match="loopback"):
        find_address("127.0.0.1", "here", resolve)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("198.51.{server+100}.{device+1}", [["198.51.100.1", "198.51.100.2"], ["198.51.101.5"]]),
        ("198.51.100.{rank+1}", [["198.51.100.1", "198.51.100.2"], ["198.51.100.3"]]),
        ("2001:db8::{rank}:1", [["2001:db8::0:1", "2001:db8::1:1"], ["2001:db8::2:1"]]),
        ("198.51.100.0/24", [["198.51.100.1", "198.51.100.2"], ["198.51.100.3"]]),
        ("198.51.100.200/24", [["198.51.100.200", "198.51.100.201"], ["198.51.100.202"]]),
    ],
)
def test_address_rules(rule, expected):
    assert AddressPattern(rule).addresses([(0, 1), (4,)]) == expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("198.51.100.1", "no field in it"),
        ("198.51.100.{chip}", "no field in it"),
        ("198.51.100.{device+255}", "is no IP address"),
        ("198.51.100.{rank-1}", "is no IP address"),
        ("198.51.100.0/31", "no address left"),
        ("198.51.100.254/24", "no address left"),
        ("x/24", "--device-ip-pattern x/24"),
    ],
)
def test_address_rules_that_are_refused(rule, message):
    with pytest.raises(RankTableError, match=message):
        AddressPattern(rule).addresses([(0, 1), (4,)])


def test_collected_files_are_known_by_their_names(tmp_path):
    (tmp_path / "192.0.2.1.conf").write_text("address_0=198.51.100.1\naddress_1=198.51.100.2\n")
    (tmp_path / "hccn.conf.192.0.2.2").write_text("address_4=198.51.100.3\n")
    (tmp_path / "node-b").mkdir()
    (tmp_path / "node-b" / "hccn.conf").write_text("IPv6address_0=2001:db8::1\n")
    (tmp_path / "node-b" / "other").write_text("")
    with pytest.raises(RankTableError, match="already"):
        load_collected(tmp_path, None, resolve)  # node-b is 192.0.2.2
    NAMES_WITHOUT = {"node-b": ["192.0.2.3"]}
    servers = load_collected(tmp_path, None, lambda name: NAMES_WITHOUT.get(name, []))
    assert [(s.server_id, [(d.device_id, d.device_ips) for d in s.devices]) for s in servers] == [
        ("192.0.2.1", [(0, ("198.51.100.1",)), (1, ("198.51.100.2",))]),
        ("192.0.2.2", [(4, ("198.51.100.3",))]),
        ("192.0.2.3", [(0, ("2001:db8::1",))]),
    ]


def test_collected_files_go_with_a_host_file(tmp_path):
    (tmp_path / "node-a.conf").write_text("address_0=198.51.100.1\naddress_1=198.51.100.2\n")
    hosts = parse_hostfile("node-a devices=1", "hosts", resolve)
    (server,) = load_collected(tmp_path, hosts, resolve)
    assert [device.device_id for device in server.devices] == [1]
    with pytest.raises(RankTableError, match=r"no address_2; expected the address of every device of node-a"):
        load_collected(tmp_path, parse_hostfile("node-a devices=2", "hosts", resolve), resolve)
    with pytest.raises(RankTableError, match=r"no file for host node-b; expected node-b\.conf, as hosts:1 names it"):
        load_collected(tmp_path, parse_hostfile("node-b slots=1", "hosts", resolve), resolve)


def test_a_folder_without_files_or_addresses_is_refused(tmp_path):
    with pytest.raises(RankTableError, match="no file in it"):
        load_collected(tmp_path, None, resolve)
    with pytest.raises(RankTableError, match="not a directory"):
        load_collected(tmp_path / "missing", None, resolve)
    (tmp_path / "192.0.2.1.conf").write_text("netmask_0=\n")
    with pytest.raises(RankTableError, match="no address_N"):
        load_collected(tmp_path, None, resolve)
    (tmp_path / "192.0.2.1.conf").write_bytes(b"\xff")
    with pytest.raises(RankTableError, match="cannot be read"):
        load_collected(tmp_path, None, resolve)


INVENTORY = """
servers:
  - server_id: 192.0.2.2
    super_pod_id: 0
    devices:
      - {device_id: 1, device_ip: 198.51.100.4, super_device_id: 3, device_port: 16666}
      - {device_id: 0, device_ip: "198.51.100.3", super_device_id: 2, device_port: 16666}
  - server_id: node-a
    host_ip: 192.0.2.1
    super_pod_id: 0
    devices:
      - {device_id: 0, device_ip: 198.51.100.1, super_device_id: 0, device_port: 16666}
"""


def test_an_inventory_becomes_a_super_pod_table(save):
    table = build_table(load_inventory(save(INVENTORY, "cluster.yaml")), "a3")
    assert format_table(table) == {
        "version": "1.2",
        "status": "completed",
        "server_count": "2",
        "server_list": [
            {
                "server_id": "192.0.2.2",
                "host_ip": "192.0.2.2",
                "pod_ip": "192.0.2.2",
                "device": [
                    {
                        "device_id": "0",
                        "device_ip": "198.51.100.3",
                        "super_device_id": "2",
                        "device_port": "16666",
                        "rank_id": "0",
                    },
                    {
                        "device_id": "1",
                        "device_ip": "198.51.100.4",
                        "super_device_id": "3",
                        "device_port": "16666",
                        "rank_id": "1",
                    },
                ],
            },
            {
                "server_id": "node-a",
                "host_ip": "192.0.2.1",
                "pod_ip": "192.0.2.1",
                "device": [
                    {
                        "device_id": "0",
                        "device_ip": "198.51.100.1",
                        "super_device_id": "0",
                        "device_port": "16666",
                        "rank_id": "2",
                    },
                ],
            },
        ],
        "super_pod_list": [{"super_pod_id": "0", "server_list": [{"server_id": "192.0.2.2"}, {"server_id": "node-a"}]}],
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("servers:", "server:", r"servers: Field required"),
        ("device_id: 1", "device_id: one", r"servers\[0\]\.devices\[0\]\.device_id"),
        ("device_id: 1", "device_id: -1", r"servers\[0\]\.devices\[0\]\.device_id"),
        ("device_id: 1", "device_id: 0", r"servers\[0\]\.devices\[1\]\.device_id: 0 is already at"),
        (
            "device_ip: 198.51.100.4",
            "device_ip: 198.51.100.1",
            r"servers\[1\].*198\.51\.100\.1 is already at servers\[0\]",
        ),
        ("device_ip: 198.51.100.4", "device_ip: 198.51.100.x", r"'198\.51\.100\.x' is no IP address"),
        ("device_ip: 198.51.100.4", "device_address: 198.51.100.4", r"device_address: Extra inputs"),
        ("server_id: 192.0.2.2", "server_id: node-a", r"servers\[1\]\.server_id: node-a is already at servers\[0\]"),
        ("server_id: 192.0.2.2", "server_id: 127.0.0.1", r"servers\[0\]\.server_id: 127\.0\.0\.1 is loopback"),
        ("    host_ip: 192.0.2.1\n", "    host_ip: 127.0.0.1\n", r"servers\[1\]\.host_ip: 127\.0\.0\.1 is loopback"),
        ("super_device_id: 3", "super_device_id: 4294967295", r"super_device_id"),
        ("servers:", "servers: [", "not YAML"),
        ("device_id: 1", "device_id: !!bool x", "not YAML"),
        ("device_id: 1", "device_id: " + "[" * 100_000, "not YAML: more than 1000 levels"),  # the C parser would crash
        ("servers:", "- " * 50_000, "not YAML: more than 1000 levels"),
        ("servers:", "- servers:", "not YAML|the document"),
    ],
)
def test_inventories_that_are_refused(old, new, message, save):
    with pytest.raises(RankTableError, match=message):
        load_inventory(save(INVENTORY.replace(old, new, 1), "cluster.yaml"))


@pytest.mark.parametrize(
    ("change", "chip", "message"),
    [
        (("super_device_id: 3, ", ""), "a3", "server 192.0.2.2: device 1 has no super_device_id"),
        (("    super_pod_id: 0\n", ""), "a3", "server 192.0.2.2 has no super_pod_id"),
        (("", ""), "910b", "910b knows none; expected chip a3"),
    ],
)
def test_super_pods_are_named_whole_or_not_at_all(change, chip, message, save):
    servers = load_inventory(save(INVENTORY.replace(*change, 1), "cluster.yaml"))  # type: ignore[call-arg]
    with pytest.raises(RankTableError, match=message):
        build_table(servers, chip)


def test_servers_stand_in_text_order_and_super_pods_together():
    def server(address, pod=None):
        return Server(address, (Device(0, super_device_id=0),), super_pod_id=pod)

    plain = build_table([server("10.0.0.9"), server("10.0.0.10")], "910b")
    assert [s.server_id for s in plain.servers] == ["10.0.0.10", "10.0.0.9"]
    mixed = [server("10.0.0.1", "b"), server("10.0.0.2", "a"), server("10.0.0.3", "b")]
    assert [s.server_id for s in build_table(mixed, "a3").servers] == ["10.0.0.1", "10.0.0.3", "10.0.0.2"]


def test_950_needs_its_layers_when_there_are_several_servers():
    servers = [build_server(f"192.0.2.{n}", {0: f"198.51.100.{n}"}) for n in (1, 2)]
    with pytest.raises(RankTableError, match=r"192\.0\.2\.1: device 0 has no level_list"):
        format_table(build_table(servers, "950"))
    document = format_table(build_table(servers[:1], "950"))
    check_written(document, "950")
    assert document["rank_list"][0]["level_list"][0]["rank_addr_list"] == [
        {"addr_type": "IPV4", "addr": "198.51.100.1", "ports": ["0/0"]}
    ]
    with pytest.raises(RankTableError, match="neither level_list nor device_ip"):
        format_table(build_table([build_server("192.0.2.1", {0: ""})], "950"))


@pytest.mark.parametrize(
    ("ids", "chip", "message"),
    [
        ((0, 1, 2), "910", "expected 1, 2, 4 or 8"),
        ((8,), "910", "expected a number 0 to 7"),
        ((0, 1, 9), "910b", "EI0010"),
    ],
)
def test_what_the_chip_refuses_is_not_written(ids, chip, message):
    server = build_server("192.0.2.1", {device: f"198.51.100.{device + 1}" for device in ids})
    with pytest.raises(RankTableError, match=f"HCCL of {chip} would refuse the table: .*{message}"):
        check_written(format_table(build_table([server], chip)), chip)


def test_the_text_has_a_device_a_line():
    document = format_table(build_table([build_server("192.0.2.1", {0: "198.51.100.1"})], "910b"))
    assert '\n        {"device_id": "0", "device_ip": "198.51.100.1", "rank_id": "0"}\n' in to_text(document)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"servers": "192.0.2.1", "inventory": "x"}, "exclude each other"),
        ({"device_ip_pattern": "198.51.100.{rank}"}, "goes with --servers or --hostfile"),
        ({"inventory": "x", "devices": "0"}, "--devices does not go with --inventory"),
        ({"servers": "192.0.2.1", "server_id": "192.0.2.1", "devices": "0"}, "--server-id names this host alone"),
        ({"servers": "192.0.2.1"}, "host 192.0.2.1 has no devices"),
        ({"servers": "192.0.2.1,", "devices": "0"}, "an empty name"),
        ({"servers": "192.0.2.1,192.0.2.1", "devices": "0"}, "are one host"),
        ({"servers": "127.0.0.1", "devices": "0"}, "loopback"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(RankTableError, match=message):
        collect_servers(Source(**options))
