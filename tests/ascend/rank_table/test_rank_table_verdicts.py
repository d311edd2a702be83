"""Verdicts on tables that stand beside them: those of this repository, and 249 from public sources where they are at hand."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fcn4dist.ascend.rank_table.check import check_all_chips, check_document, first_error
from fcn4dist.ascend.rank_table.convert import convert_document
from fcn4dist.ascend.rank_table.merge import merge_documents
from fcn4dist.ascend.rank_table.parse import parse_table
from fcn4dist.ascend.rank_table.read import load_document, load_table
from fcn4dist.ascend.rank_table.schema import CHIPS, Chip, Format
from fcn4dist.errors import RankTableError

TABLES = Path(__file__).parent / "tables"
PUBLIC = Path(__file__).resolve().parents[4] / "shared/data/ranktables/INDEX.tsv"
COLUMNS: dict[Chip, str] = {"910": "910", "910b": "910B", "a3": "A3", "310p3": "310P3", "950": "950(2.0)"}


@dataclass(frozen=True)
class Sample:
    """A table and what HCCL's parsers say of it."""

    path: Path
    accepted: Mapping[Chip, bool]  # chip -> verdict
    code: str  # among the errors, "" = none is named


def load_own() -> list[Sample]:
    with (TABLES / "verdicts.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {row["file"] for row in rows} == {file.name for file in TABLES.glob("*.json")}
    return [Sample(TABLES / row["file"], {chip: row[chip] == "A" for chip in CHIPS}, row["code"]) for row in rows]


def load_public() -> list[Sample]:
    """Read the index of a behavioural port of HCCL's parsers; its first reason names a code where it stands for a value."""
    if not PUBLIC.is_file():
        return []
    samples = []
    with PUBLIC.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            accepted = {chip: row[column] == "A" for chip, column in COLUMNS.items()}
            code = next((word for word in row["first reason"].split() if word in ("EI0014", "EI0004")), "")
            named = row["format"] in ("v10", "v12") and not accepted["910"] and not accepted["910b"]
            samples.append(Sample(PUBLIC.parent / row["file"], accepted, code if named else ""))
    assert len(samples) == 249
    return samples


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [*load_own(), *load_public()]


@pytest.mark.parametrize("chip", CHIPS)
def test_every_verdict_equals_the_index(chip: Chip, samples: list[Sample]) -> None:
    differences = []
    for sample in samples:
        verdict = check_document(load_document(sample.path), chip)
        if verdict.accepted != sample.accepted[chip]:
            differences.append((sample.path.name, first_error(verdict)))
    assert differences == []
    assert sum(sample.accepted[chip] for sample in samples) >= 5


def test_without_a_chip_a_sample_is_accepted_where_one_chip_accepts_it(samples: list[Sample]) -> None:
    for sample in samples:
        verdicts = check_all_chips(load_document(sample.path))
        assert any(verdict.accepted for verdict in verdicts) == any(sample.accepted.values()), sample.path.name


def test_a_refusal_says_where_and_has_the_code_of_the_index(samples: list[Sample]) -> None:
    checked = 0
    for sample in samples:
        if not sample.code:
            continue
        order: tuple[Chip, ...] = ("950",) if sample.path.name.startswith("v20") else ("910b", "910", "a3", "310p3")
        chip = next(chip for chip in order if not sample.accepted[chip])
        verdict = check_document(load_document(sample.path), chip)
        errors = [finding for finding in verdict.findings if finding.severity == "error"]
        assert all(finding.where and finding.message for finding in errors), sample.path.name
        assert sample.code in {finding.code for finding in errors}, sample.path.name
        checked += 1
    assert checked > 30


def number(text: str) -> int:
    """Read a number as stoull does: what follows the digits is left."""
    digits = re.match(r"\s*\+?(\d+)", text)
    assert digits is not None
    return int(digits[1])


def plain_ranks(root: dict[str, Any]) -> dict[int, tuple[str, int, str]]:
    """Read the ranks of a 1.0, 1.2 or cloud table without any check: rank -> server id, device id, address."""
    if "server_list" in root:
        entries = [(server["server_id"], device) for server in root["server_list"] for device in server["device"]]
        return {number(d["rank_id"]): (name, number(d["device_id"]), d.get("device_ip", "")) for name, d in entries}
    instances = [instance for group in root["group_list"] for instance in group["instance_list"]]
    found = [(i["server_id"], number(d["device_id"]), d.get("device_ip", "")) for i in instances for d in i["devices"]]
    return dict(enumerate(sorted(found, key=lambda entry: (entry[0].encode(), entry[1]))))


def test_an_accepted_sample_comes_with_the_table_that_plain_json_says(samples: list[Sample]) -> None:
    checked = 0
    for sample in samples:
        document = load_document(sample.path)
        for verdict in check_all_chips(document):
            if not verdict.accepted or document.format in (Format.LAB, Format.HETEROGENEOUS, Format.LAYERED):
                continue
            assert verdict.table is not None
            found = {
                device.rank: (server.server_id, device.device_id, ",".join(device.device_ips))
                for server in verdict.table.servers
                for device in server.devices
            }
            assert found == plain_ranks(document.root), sample.path.name
            checked += 1
    assert checked > 80


def test_every_other_command_takes_or_refuses_every_sample_with_a_message(samples: list[Sample]) -> None:
    shown = converted = merged = 0
    for sample in samples:
        path = sample.path
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
    assert (shown > 40, converted > 20, merged > 30) == (True, True, True)
