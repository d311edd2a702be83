from __future__ import annotations

from typing import Any

import pytest

from fcn4dist.config import load_config
from fcn4dist.errors import ConfigError, JobError
from fcn4dist.hosts.roster import (
    HostCard,
    Readiness,
    Roster,
    check_same_data,
    first_difference,
    name_all,
    parse_told,
    shared_config,
)

CONFIG = shared_config(load_config())
VERSIONS = {"fcn4dist": "1", "mindspore": "2.10.0"}


def card(node_rank: int, host: str = "", **changes: Any) -> HostCard:
    values: dict[str, Any] = {
        "node_rank": node_rank, "num_nodes": 3, "host": host or f"host-{node_rank}", "address": f"192.0.2.{node_rank + 1}",
        "devices": 2, "target": "CPU", "resume": False, "rank_table": "auto", "versions": VERSIONS, "config": CONFIG,
    }  # fmt: skip
    return HostCard(**{**values, **changes})


def test_ranks_follow_the_numbers_of_the_hosts_also_where_they_have_unequal_devices() -> None:
    roster = Roster(card(0, devices=4))
    roster.add(card(2, devices=1))
    assert roster.missing == ["node 1"]
    roster.add(card(1, devices=2))
    assert roster.missing == []
    layout = roster.layout("runs/one")
    assert [(node.name, node.first_rank, node.ranks) for node in layout.nodes] == [
        ("host-0", 0, "ranks 0-3"),
        ("host-1", 4, "ranks 4-5"),
        ("host-2", 6, "rank 6"),
    ]
    assert layout.world_size == 7
    assert layout.title(1) == "host-1 (node 1, ranks 4-5)"


def test_hosts_of_one_name_are_told_apart() -> None:
    roster = Roster(card(0, "pod"))
    roster.add(card(1, "pod"))
    roster.add(card(2, "other"))
    assert [node.name for node in roster.layout("").nodes] == ["pod/192.0.2.1", "pod/192.0.2.2", "other"]


def test_missing_hosts_have_names_where_they_are_known() -> None:
    assert Roster(card(0), ["a", "b", "c"]).missing == ["node 1 (b)", "node 2 (c)"]


def test_a_host_that_went_away_may_come_again() -> None:
    roster = Roster(card(0))
    roster.add(card(1))
    roster.remove(1)
    assert roster.missing == ["node 1", "node 2"]
    roster.add(card(1))
    assert roster.missing == ["node 2"]


@pytest.mark.parametrize(
    ("joining", "message"),
    [
        (card(1, num_nodes=4), r"host-1 \(node 1\) says 4 hosts, host-0 \(node 0\) says 3"),
        (card(3), r"host-3: node rank 3 is out of range; expected 0 to 2"),
        (card(0, "twin"), r"host-0 \(192.0.2.1\) and twin \(192.0.2.1\) are both node 0"),
        (card(1, target="Ascend"), r"host-1 \(node 1\) has device target Ascend, host-0 \(node 0\) CPU"),
        (card(1, resume=True), r"host-1 \(node 1\) has resume True"),
        (card(1, rank_table="none"), r"has --rank-table none, host-0 \(node 0\) auto"),
        (card(1, versions={**VERSIONS, "mindspore": "2.9.0"}), r"has mindspore 2.9.0, host-0 \(node 0\) 2.10.0"),
        (card(1, config=shared_config(load_config(overrides=["train.lr=1"]))), r"train.lr: 1.0 on host-1"),
    ],
)
def test_a_host_that_means_another_job_is_refused(joining: HostCard, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Roster(card(0)).add(joining)


def test_devices_that_contradict_the_host_file_are_refused() -> None:
    roster = Roster(card(0, expected=[2, 4, 2]))
    with pytest.raises(ConfigError, match=r"host-1 \(node 1\) brings 2 devices, the host file says 4"):
        roster.add(card(1))
    with pytest.raises(ConfigError, match=r"has devices a host \[2, 2, 2\], host-0 \(node 0\) \[2, 4, 2\]"):
        roster.add(card(1, expected=[2, 2, 2]))


def test_a_host_without_a_config_of_its_own_takes_the_masters() -> None:
    roster = Roster(card(0))
    roster.add(card(1, config=None))
    assert roster.missing == ["node 2"]


def test_paths_and_devices_may_differ_between_hosts() -> None:
    one = load_config(overrides=["data.records_dir=/a", "launch.devices=2"])
    other = load_config(overrides=["data.records_dir=/b", "launch.devices=4"])
    assert shared_config(one) == shared_config(other)
    assert first_difference(shared_config(one), shared_config(load_config(overrides=["train.seed=9"]))) == (
        "train",
        "seed",
    )


def test_another_data_set_is_refused_by_name() -> None:
    roster = Roster(card(0, num_nodes=2))
    roster.add(card(1, num_nodes=2))
    layout = roster.layout("")
    same = Readiness(attempt=1, data={"tags": ["a"]}, data_dir="/x")
    check_same_data(layout, [same, same])
    with pytest.raises(ConfigError, match=r"/y on host-1 .* is not the data set /x of host-0 .*: tags differs"):
        check_same_data(layout, [same, Readiness(attempt=1, data={"tags": ["b"]}, data_dir="/y")])


@pytest.mark.parametrize("told", [None, {}, [], {"node_rank": "x"}])
def test_a_message_that_makes_no_sense_is_an_error_with_its_sender(told: object) -> None:
    with pytest.raises(JobError, match=r"192.0.2.9: its message makes no sense"):
        parse_told(HostCard, told, "192.0.2.9")


def test_many_names_are_cut() -> None:
    assert name_all(["a", "b"]) == "a, b"
    assert name_all(map(str, range(12)), most=3) == "0, 1, 2 and 9 more"
