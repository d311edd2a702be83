"""rank_tables/: every example is accepted by its chip, uses documentation addresses, and is what its command writes."""

from __future__ import annotations

import ipaddress
import re
import shlex
from pathlib import Path

import pytest

from fcn4dist.ascend.rank_table.check import check_document
from fcn4dist.ascend.rank_table.read import load_document
from fcn4dist.cli.main import main

FOLDER = Path(__file__).resolve().parents[3] / "rank_tables"
DOCUMENTATION = [
    ipaddress.ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
]  # RFC 5737
CHIPS = {
    "1x1.json": ["910", "910b", "a3", "310p3"],
    "1x8.json": ["910", "910b", "a3", "310p3"],
    "2x8.json": ["910", "910b", "a3", "310p3"],
    "910b-1x16.json": ["910b", "a3", "310p3"],
    "a3-super-pods.json": ["a3"],
    "950-2x2.json": ["950"],
}


def test_every_example_is_listed_here():
    assert sorted(file.name for file in FOLDER.glob("*.json")) == sorted(CHIPS)


@pytest.mark.parametrize("name", CHIPS)
def test_an_example_is_accepted_without_a_warning(name):
    for chip in CHIPS[name]:
        verdict = check_document(load_document(FOLDER / name), chip, msrun=chip != "950")  # type: ignore[arg-type]
        assert verdict.findings == ()


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*[!d]")), ids=lambda file: file.name)
def test_addresses_are_from_rfc_5737(file):
    found = re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", file.read_text())
    assert found
    assert [a for a in found if not any(ipaddress.ip_address(a) in network for network in DOCUMENTATION)] == []


@pytest.mark.parametrize("name", CHIPS)
def test_the_readme_says_the_command_that_wrote_the_file(name, monkeypatch, capsys):
    row = next(line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith(f"| `{name}`"))
    command = row.split("|")[-2].strip().strip("`")
    monkeypatch.chdir(FOLDER)
    main(["rank-table", *shlex.split(command)])
    assert capsys.readouterr().out == (FOLDER / name).read_text()


def test_the_readme_explains_every_field():
    text = (FOLDER / "README.md").read_text()
    keys = {key for name in CHIPS for key in re.findall(r'"(\w+)":', (FOLDER / name).read_text())}
    explained = set(re.findall(r"`(\w+)`", text))
    assert keys - explained == set()
