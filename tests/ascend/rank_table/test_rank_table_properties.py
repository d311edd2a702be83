"""Properties: what generate and merge write is accepted, and damage never crashes a reader."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_table_samples import VALID_TABLES

from fcn4dist.ascend.hostfile import build_server
from fcn4dist.ascend.rank_table.build import build_table, format_table, to_text
from fcn4dist.ascend.rank_table.check import check_all_chips, check_document
from fcn4dist.ascend.rank_table.convert import convert_document
from fcn4dist.ascend.rank_table.merge import merge_documents
from fcn4dist.ascend.rank_table.parse import parse_table
from fcn4dist.ascend.rank_table.read import Document, find_format, parse_document
from fcn4dist.ascend.rank_table.schema import Device, Format, Server
from fcn4dist.errors import RankTableError

SETS_910 = ["0", "7", "03", "26", "0145", "0246", "0347", "1256", "1357", "2367", "0123", "4567", "01234567"]
DEVICE_SETS = {
    "910": st.sampled_from([tuple(map(int, ids)) for ids in SETS_910]),
    "910b": st.sets(st.integers(0, 7), min_size=1).map(lambda ids: tuple(sorted(ids))),
    "a3": st.sets(st.integers(0, 15), min_size=1).map(lambda ids: tuple(sorted(ids))),
    "310p3": st.sets(st.integers(0, 31), min_size=1, max_size=8).map(lambda ids: tuple(sorted(ids))),
}
quick = settings(max_examples=80, deadline=None)


@st.composite
def clusters(draw):
    """Return (chip, servers): any cluster that an operator may describe for generate."""
    chip = draw(st.sampled_from(sorted(DEVICE_SETS)))
    hosts = draw(st.lists(st.integers(1, 4000), min_size=1, max_size=6, unique=True))
    sets = (
        [draw(DEVICE_SETS[chip])] * len(hosts) if chip in ("910", "310p3") else [draw(DEVICE_SETS[chip]) for _ in hosts]
    )
    with_pods = chip == "a3" and draw(st.booleans())
    is_v6 = draw(st.booleans())
    servers = []
    for index, (host, ids) in enumerate(zip(hosts, sets, strict=True)):
        prefix = f"2001:db8:{host:x}::" if is_v6 else f"10.{host // 250}.{host % 250}."
        server = build_server(
            f"{prefix}ff" if is_v6 else f"{prefix}200", {device: f"{prefix}{device + 1}" for device in ids}
        )
        if with_pods:
            devices = [Device(d.device_id, -1, d.device_ips, 64 * index + d.device_id) for d in server.devices]
            pod = draw(st.sampled_from(["0", "1", "pod x"]))
            server = Server(server.server_id, tuple(devices), server.host_ip, server.pod_ip, pod)
        servers.append(server)
    return chip, servers


def as_document(table, name="table.json"):
    return Document(name, table, find_format(table), None, ())


@quick
@given(clusters())
def test_what_generate_writes_is_accepted_by_its_chip_and_by_msrun(cluster):
    chip, servers = cluster
    document = format_table(build_table(servers, chip))
    read = parse_document(to_text(document).encode(), "table.json")
    assert read.root == document
    verdict = check_document(read, chip, msrun=True)
    assert verdict.accepted, verdict.findings
    warned = {finding.where for finding in verdict.findings}
    unequal = {f"server_list[{number}]" for number in range(len(servers))}  # A2 and A3 take it, with a warning
    assert warned <= {"super_pod_list", *unequal}
    assert [device.rank for server in parse_table(read).servers for device in server.devices] == list(
        range(sum(len(server.devices) for server in servers))
    )


@quick
@given(clusters(), st.randoms(use_true_random=False))
def test_what_merge_writes_is_accepted_and_equals_what_generate_writes(cluster, random):
    chip, servers = cluster
    documents = [
        as_document(format_table(build_table([server], chip)), f"{server.server_id}.json") for server in servers
    ]
    random.shuffle(documents)
    merged = merge_documents(documents)
    assert merged == format_table(build_table(servers, chip))
    assert check_document(as_document(merged), chip, msrun=True).accepted


def paths(node, prefix=()):
    """Yield the path of every value in a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*prefix, key)
        yield from paths(value, (*prefix, key))


DELETE = object()
NOTHING_GOOD = st.one_of(
    st.just(DELETE),
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        ["", " 1", "1abc", "-1", "4294967295", "4294967296", "\x00", "10.*.*.*", "0.0.0.0", "::", "::1%eth0", "²"]
    ),
    st.sampled_from(["completed", "initializing", "1.0", "1.1", "1.2", "2.0", "device", "IPV6", "EID"]),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3), st.dictionaries(st.text(max_size=3), st.none()))),
    st.dictionaries(
        st.sampled_from(["server_id", "rank_id", "device", "x"]), st.one_of(st.none(), st.text(max_size=3))
    ),
)


@pytest.mark.parametrize("name", VALID_TABLES)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_no_damage_to_one_field_crashes_a_reader(name, data):
    table = copy.deepcopy(VALID_TABLES[name]())
    *parents, last = data.draw(st.sampled_from(list(paths(table))))
    node = table
    for part in parents:
        node = node[part]
    value = data.draw(NOTHING_GOOD)
    if value is DELETE:
        del node[last]
    else:
        node[last] = value
    document = parse_document(json.dumps(table).encode(), "table.json")
    for verdict in check_all_chips(document, msrun=True):
        json.dumps(verdict.to_json())
        assert all(finding.where and finding.message for finding in verdict.findings)
    for operation in (
        lambda: parse_table(document),
        lambda: merge_documents([document]),
        lambda: convert_document(document, Format.CONCISE),
        lambda: convert_document(document, Format.CLOUD),
    ):
        if isinstance(document.root, dict):
            try:
                operation()
            except RankTableError as error:
                assert "table.json" in str(error) or "merged" in str(error)  # noqa: PT017


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=4)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["version", "status", "server_list", "group_list", "rank_list", "device", "x"]), inner
            ),
        ),
    )
)
def test_any_json_gets_a_verdict(root):
    for verdict in check_all_chips(parse_document(json.dumps(root).encode(), "table.json"), msrun=True):
        assert not verdict.accepted


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_get_a_verdict(data):
    for verdict in check_all_chips(parse_document(data, "table.json")):
        assert not verdict.accepted
