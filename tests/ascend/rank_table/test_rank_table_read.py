"""Files that are no tables: each is refused by one message, never by an exception of Python's."""

from __future__ import annotations

import json
import os

import pytest
from rank_table_samples import concise_table, layered_table

from fcn4dist.ascend.rank_table import read
from fcn4dist.ascend.rank_table.check import check_all_chips
from fcn4dist.ascend.rank_table.read import load_document, load_table, parse_document
from fcn4dist.ascend.rank_table.schema import Format
from fcn4dist.errors import RankTableError

TABLE = json.dumps(concise_table())

NOT_JSON = [
    (b"", "empty"),
    (b" \n\t", "empty"),
    (b"{", "line 1 column 2"),
    (b"\xff\xfe{}", "not UTF-8"),
    (TABLE.replace("pod_ip", "p\x07d_ip").encode(), "control character"),
    (b'{"status": "completed", // a comment\n"version": "1.0"}', "comment"),
    (b'{"version": NaN}', "NaN"),
    (b'{"version": 1e999}', "out of range"),
    (b'{"version": "\\ud800"}', "UTF-16"),
    (b"[" * 100_000, "nested too deep"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deep"),
    (b'{"a":' * 33 + b"1" + b"}" * 33, "more than 32 levels"),
    (b"[" + b"9" * 5000 + b"]", "not JSON"),
]


@pytest.mark.parametrize(("data", "message"), NOT_JSON, ids=range(len(NOT_JSON)))
def test_what_is_not_json_is_refused_for_every_chip(data, message):
    document = parse_document(data, "table.json")
    verdicts = check_all_chips(document)
    assert len(verdicts) == 5
    for verdict in verdicts:
        assert [finding.code for finding in verdict.findings] == ["EI0004"]
        assert message in verdict.findings[0].message


@pytest.mark.parametrize("text", ["[]", "7", '"text"', "null", "true", "{}", '{"version": null}', '{"version": []}'])
def test_json_that_is_no_table_is_refused(text):
    for verdict in check_all_chips(parse_document(text.encode(), "table.json")):
        assert not verdict.accepted


def test_a_byte_order_mark_and_text_behind_are_passed_over_as_hccl_does():
    document = parse_document(b"\xef\xbb\xbf" + TABLE.encode() + b"\n{}", "table.json")
    verdict = check_all_chips(document)[1]
    assert verdict.accepted
    assert [(f.severity, f.where) for f in verdict.findings] == [("warning", "$")]


def test_of_a_repeated_key_the_last_counts_and_it_is_said():
    document = parse_document(b'{"status": "initializing", ' + TABLE[1:].encode(), "table.json")
    assert document.root["status"] == "completed"
    assert [finding.severity for finding in document.findings] == ["warning"]
    assert '"status" is given twice' in document.findings[0].message


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"version": "1.0", "status": "completed", "server_group_list": []}, "global-ranktable"),
        ({"prefill_device_list": [], "decode_device_list": []}, "prefill/decode"),
        ({"status": "initializing"}, "initial ConfigMap"),
        ({"kind": "ConfigMap", "data": {"hccl.json": "{}"}}, "Kubernetes ConfigMap"),
        ({"status": "completed", "server_list": []}, "the key is missing beside server_list"),
        ({"status": "completed", "rank_list": []}, "the key is missing beside rank_list"),
    ],
)
def test_files_that_are_taken_for_tables_are_recognised(table, says):
    verdict = check_all_chips(parse_document(json.dumps(table).encode(), "table.json"))[0]
    assert not verdict.accepted
    assert says in verdict.findings[0].message


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ({"version": "1.0"}, Format.CONCISE),
        ({"version": "1.1"}, Format.HETEROGENEOUS),
        ({"version": "1.2"}, Format.SUPER_POD),
        ({"version": "2.0"}, Format.LAYERED),
        ({"group_list": []}, Format.CLOUD),
        ({"deploy_mode": "lab"}, Format.LAB),
        ({"deploy_mode": "lab", "version": "1.0"}, Format.CONCISE),
        ({"version": "1"}, Format.UNKNOWN),
    ],
)
def test_the_format_follows_from_the_keys_that_hccl_looks_at(root, expected):
    assert parse_document(json.dumps(root).encode(), "x.json").format is expected


def test_40_mb_are_the_limit_of_1_x_and_of_template_two(tmp_path):
    file = tmp_path / "large.json"
    padded = TABLE + " " * (read.MAX_BYTES - len(TABLE))
    file.write_text(padded)
    assert check_all_chips(load_document(file))[1].accepted
    file.write_text(padded + " ")
    for verdict in check_all_chips(load_document(file)):
        assert [finding.code for finding in verdict.findings] == ["HCCL_E_PARA"]
        assert str(read.MAX_BYTES) in verdict.findings[0].message
    file.write_text(json.dumps(layered_table()) + " " * read.MAX_BYTES)
    assert check_all_chips(load_document(file))[0].accepted


def test_a_1_x_table_that_mentions_2_0_is_still_held_to_40_mb(tmp_path):
    file = tmp_path / "large.json"
    table = {**concise_table(), "comment": {"version": "2.0"}}
    file.write_text(json.dumps(table) + " " * read.MAX_BYTES)
    assert not any(verdict.accepted for verdict in check_all_chips(load_document(file)))


def test_what_cannot_be_read_is_an_error_of_the_user(tmp_path):
    with pytest.raises(RankTableError, match="is a directory"):
        load_document(tmp_path)
    with pytest.raises(RankTableError, match="no such file"):
        load_document(tmp_path / "missing.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(RankTableError, match="not a regular file"):
        load_document(tmp_path / "pipe.json")
    with pytest.raises(RankTableError, match="too long"):
        load_document(tmp_path / ("x" * 300 + ".json"))


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(save, monkeypatch):
    file = save(concise_table())
    whole, real_stat, calls = file.stat(), os.stat, []

    def stat(path, *args, **kwargs):
        if str(path) == str(file):
            calls.append(path)
            if len(calls) == 2:  # between the first reading and its check another table is renamed over it
                replacement = save(concise_table(1), "new.json")
                replacement.replace(file)
        return real_stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)
    assert len(load_document(file).root["server_list"]) == 1
    assert file.stat().st_ino != whole.st_ino


def test_a_file_that_never_rests_is_refused(save, monkeypatch):
    file = save(concise_table())
    real_stat, ticks = os.stat, iter(range(1, 100))

    def stat(path, *args, **kwargs):
        if str(path) == str(file):
            os.utime(file, ns=(0, next(ticks)))
        return real_stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(RankTableError, match="changed while it was read"):
        load_document(file)


def test_commands_that_need_a_table_say_why_a_file_is_none(save):
    with pytest.raises(RankTableError, match=r"a\.json: \$: the file is empty"):
        load_table(save("", "a.json"))
    with pytest.raises(RankTableError, match=r"b\.json: a MindCluster global-ranktable"):
        load_table(save({"server_group_list": []}, "b.json"))
