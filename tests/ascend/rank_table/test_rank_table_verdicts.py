"""The verdicts of 249 tables from public sources equal those of a behavioural port of HCCL's parsers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from fcn4dist.ascend.rank_table.check import check_all_chips, check_document, first_error
from fcn4dist.ascend.rank_table.convert import convert_document
from fcn4dist.ascend.rank_table.merge import merge_documents
from fcn4dist.ascend.rank_table.parse import parse_table
from fcn4dist.ascend.rank_table.read import load_document, load_table
from fcn4dist.ascend.rank_table.schema import CHIPS, Format
from fcn4dist.errors import RankTableError

COLUMNS = {"910": "910", "910b": "910B", "a3": "A3", "310p3": "310P3", "950": "950(2.0)"}


@pytest.fixture(scope="module")
def samples(shared_data: Path) -> list[dict[str, str]]:
    with (shared_data / "ranktables" / "INDEX.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 249
    return rows


@pytest.mark.parametrize("chip", CHIPS)
def test_every_verdict_equals_the_index(chip, samples, shared_data):
    differences = []
    for row in samples:
        verdict = check_document(load_document(shared_data / "ranktables" / row["file"]), chip)
        if verdict.accepted != (row[COLUMNS[chip]] == "A"):
            differences.append((row["file"], row["first reason"], first_error(verdict)))
    assert differences == []


def test_without_a_chip_a_sample_is_accepted_where_one_chip_accepts_it(samples, shared_data):
    for row in samples:
        verdicts = check_all_chips(load_document(shared_data / "ranktables" / row["file"]))
        expected = any(row[column] == "A" for column in COLUMNS.values())
        assert any(verdict.accepted for verdict in verdicts) == expected, row["file"]


def test_a_refusal_says_where_and_an_ei_code_is_the_one_of_the_index(samples, shared_data):
    """The first reason of the index names EI0014 or EI0017 for a value: ours has the same code among its errors."""
    checked = 0
    for row in samples:
        code = next((word for word in row["first reason"].split() if word in ("EI0014", "EI0004")), None)
        if code is None or row["910b"[:3]] != "R" or row["910B"] != "R":
            continue
        verdict = check_document(load_document(shared_data / "ranktables" / row["file"]), "910b")
        errors = [finding for finding in verdict.findings if finding.severity == "error"]
        assert all(finding.where and finding.message for finding in errors), row["file"]
        if row["format"] in ("v10", "v12"):
            assert code in {finding.code for finding in errors}, row["file"]
            checked += 1
    assert checked > 20


def plain_ranks(root: dict[str, Any]) -> dict[int, tuple[str, int, str]]:
    """Read the ranks of a 1.0, 1.2 or cloud table without any check: rank -> server id, device id, address."""
    if "server_list" in root:
        entries = [(server["server_id"], device) for server in root["server_list"] for device in server["device"]]
        return {int(d["rank_id"]): (name, int(d["device_id"]), d.get("device_ip", "")) for name, d in entries}
    instances = [instance for group in root["group_list"] for instance in group["instance_list"]]
    found = [(i["server_id"], int(d["device_id"]), d.get("device_ip", "")) for i in instances for d in i["devices"]]
    return dict(enumerate(sorted(found, key=lambda entry: (entry[0].encode(), entry[1]))))


def test_an_accepted_sample_comes_with_the_table_that_plain_json_says(samples, shared_data):
    checked = 0
    for row in samples:
        document = load_document(shared_data / "ranktables" / row["file"])
        for verdict in check_all_chips(document):
            if not verdict.accepted or document.format in (Format.LAB, Format.HETEROGENEOUS, Format.LAYERED):
                continue
            assert verdict.table is not None
            found = {
                device.rank: (server.server_id, device.device_id, ",".join(device.device_ips))
                for server in verdict.table.servers
                for device in server.devices
            }
            assert found == plain_ranks(document.root), row["file"]
            checked += 1
    assert checked > 150


def test_every_other_command_takes_or_refuses_every_sample_with_a_message(samples, shared_data):
    shown = converted = merged = 0
    for row in samples:
        path = shared_data / "ranktables" / row["file"]
        for operation in ("show", "convert", "merge"):
            try:
                document = load_table(path)
                if operation == "show":
                    shown += parse_table(document).world_size > 0
                elif operation == "convert":
                    converted += bool(convert_document(document, Format.CONCISE))
                else:
                    merged += bool(merge_documents([document]))
            except RankTableError as error:
                assert str(path) in str(error) or "merged table" in str(error)  # noqa: PT017
    assert (shown > 150, converted > 60, merged > 100) == (True, True, True)
