"""The commands as a user meets them: output, exit codes, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rank_table_samples import VALID_TABLES, concise_table

from fcn4dist.cli.main import main

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(capsys):
    """Return a function that runs `rank-table` in this process and returns (exit code, stdout, stderr)."""

    def run_command(*arguments):
        code = 0
        try:
            main(["rank-table", *map(str, arguments)])
        except SystemExit as done:
            code = int(done.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def test_validate_says_accepted_or_refused_and_exits_so(run, save):
    good, bad = save(concise_table()), save({**concise_table(), "server_count": "9"}, "bad.json")
    assert run("validate", good) == (0, f"{good}: accepted (910, 910b, a3, 310p3)\n", "")
    code, out, err = run("validate", good, bad, "--chip", "910B")
    assert (code, err) == (1, "")
    assert f"{bad}: refused (910b), 1 error\n" in out
    assert '  error: server_count: "9", but server_list has 2; expected the same number [EI0014]\n' in out


def test_validate_json_has_one_object_a_file_and_chip(run, save):
    good, bad = save(concise_table()), save("{", "bad.json")
    code, out, _ = run("validate", good, bad, "--chip", "a3", "--json")
    verdicts = json.loads(out)
    assert code == 1
    assert [(v["file"], v["chip"], v["accepted"]) for v in verdicts] == [
        (str(good), "a3", True),
        (str(bad), "a3", False),
    ]
    assert [set(finding) for finding in verdicts[1]["findings"]] == [{"severity", "code", "where", "message"}]
    assert verdicts[1]["findings"][0]["code"] == "EI0004"
    _, out, _ = run("validate", good, "--json")
    assert [v["chip"] for v in json.loads(out)] == ["910", "910b", "a3", "310p3"]


def test_without_a_chip_one_accepting_chip_is_enough(run, save):
    file = save(concise_table(1, 16))
    assert run("validate", file)[0] == 0
    assert run("validate", file, "--chip", "910")[0] == 1


def test_validate_msrun_asks_for_more(run, save):
    table = concise_table()
    del table["server_list"][1]["pod_ip"]
    file = save(table)
    assert run("validate", file)[0] == 0
    code, out, _ = run("validate", file, "--msrun")
    assert code == 1
    assert "error: server_list[1].pod_ip: the key is missing" in out


def test_what_cannot_be_read_exits_2_with_one_message_and_without_a_traceback(run, save, tmp_path):
    good = save(concise_table())
    code, out, err = run("validate", tmp_path, good, tmp_path / "missing.json", "--json")
    assert code == 2
    assert [verdict["file"] for verdict in json.loads(out)] == [str(good)] * 4
    assert "is a directory" in err
    assert "missing.json: no such file" in err
    assert "Traceback" not in err
    assert run("validate", good, "--chip", "v100")[0] == 2
    assert run("validate")[0] == 2


def test_many_findings_are_shortened_on_the_terminal_only(run, save):
    table = concise_table(1, 40)
    for device in table["server_list"][0]["device"]:
        device["device_ip"] = "x"
    file = save(table)
    _, out, _ = run("validate", file, "--chip", "310p3")
    assert "error: and " in out
    _, out, _ = run("validate", file, "--chip", "310p3", "--json")
    assert len(json.loads(out)[0]["findings"]) >= 40


def test_generate_writes_a_table_that_validates(run, tmp_path):
    output = tmp_path / "out.json"
    arguments = ("--servers", "192.0.2.2,192.0.2.1", "--devices", "0-7", "--device-ip-pattern", "198.51.100.{rank+1}")
    assert run("generate", "--chip", "910", *arguments, "--output", output) == (
        *(0, "", f"rank-table: wrote {output}: 16 ranks on 2 servers\n"),
    )
    assert run("validate", output, "--msrun") == (0, f"{output}: accepted (910, 910b, a3, 310p3)\n", "")
    code, out, _ = run("generate", "--chip", "910", *arguments)
    assert (code, out) == (0, output.read_text())


def test_generate_from_a_host_file_and_collected_files(run, save, tmp_path):
    hosts = save("192.0.2.1 slots=2\n192.0.2.2 devices=4,5\n", "hosts")
    save("address_0=198.51.100.1\naddress_1=198.51.100.2\n", "conf/192.0.2.1.conf")
    save("address_4=198.51.100.3\naddress_5=198.51.100.4\n", "conf/192.0.2.2.conf")
    code, out, _ = run("generate", "--chip", "910b", "--hostfile", hosts, "--hccn-conf", tmp_path / "conf")
    assert code == 0
    devices = [d for server in json.loads(out)["server_list"] for d in server["device"]]
    assert [(d["device_id"], d["device_ip"], d["rank_id"]) for d in devices] == [
        ("0", "198.51.100.1", "0"),
        ("1", "198.51.100.2", "1"),
        ("4", "198.51.100.3", "2"),
        ("5", "198.51.100.4", "3"),
    ]


def test_generate_on_a_host_with_fake_tools(tmp_path, monkeypatch, run):
    for name, text in (
        (
            "hccn_tool",
            '#!/bin/sh\ncase "$*" in *link*) echo "link status: UP";; *) echo "ipaddr:198.51.100.$2";; esac\n',
        ),
        ("npu-smi", '#!/bin/sh\n[ "$*" = "info -l" ] && echo "NPU ID : 4" && echo "NPU ID : 5"\n'),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    code, out, _ = run("generate", "--chip", "910b", "--server-id", "192.0.2.7")
    assert code == 0
    (server,) = json.loads(out)["server_list"]
    assert server["server_id"] == "192.0.2.7"
    assert [(d["device_id"], d["device_ip"]) for d in server["device"]] == [
        ("4", "198.51.100.4"),
        ("5", "198.51.100.5"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--servers", "192.0.2.1", "--devices", "0-2", "--chip", "910"), "HCCL of 910 would refuse the table"),
        (("--servers", "192.0.2.1,192.0.2.2", "--devices", "0", "--chip", "910b"), "give --device-ip-pattern RULE"),
        (("--servers", "no-such-host.invalid", "--devices", "0"), "unknown host 'no-such-host.invalid'"),
        (("--hostfile", "no-such-file"), "no-such-file: cannot be read"),
        (("--servers", "192.0.2.1", "--devices", "0", "--output", "table.txt"), 'expected ".json" at its end'),
        (("--servers", "192.0.2.1", "--devices", "0", "--output", "a.json.d/t.json"), 'expected ".json" at its end'),
        (("--servers", "192.0.2.1", "--devices", "0", "--output", "no/such/dir/t.json"), "No such file or directory"),
    ],
)
def test_generate_refuses_with_exit_code_2(arguments, message, run):
    code, out, err = run("generate", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_merge_show_and_convert(run, save, tmp_path):
    first = save(concise_table(1))
    other = concise_table(1)
    entry = other["server_list"][0]
    entry.update(server_id="192.0.2.9", host_ip="192.0.2.9", pod_ip="192.0.2.9")
    for device in entry["device"]:
        device["device_ip"] = f"203.0.113.1{device['device_id']}"
    merged = tmp_path / "merged.json"
    assert run("merge", save(other, "other.json"), first, "--output", merged)[0] == 0
    code, out, _ = run("show", merged)
    assert code == 0
    assert "2 servers, 4 ranks" in out
    assert out.splitlines()[-1].split() == ["3", "192.0.2.9", "1", "203.0.113.11"]
    code, out, _ = run("show", merged, "--rank", "2", "--json")
    (rank,) = json.loads(out)["ranks"]
    assert (rank["rank"], rank["server_id"], rank["device_id"]) == (2, "192.0.2.9", 0)
    assert run("show", merged, "--rank", "4") == (2, "", "fcn4dist: rank 4 is not in the table; expected 0 to 3\n")
    code, out, err = run("convert", merged, "--to", "template-two")
    assert code == 0
    assert "host_ip and pod_ip are left out" in err
    again = save(out, "two.json")
    code, out, _ = run("convert", again, "--to", "1.0")
    assert [server["server_id"] for server in json.loads(out)["server_list"]] == ["192.0.2.1", "192.0.2.9"]


def test_quiet_leaves_the_remarks_out(save):
    command = [sys.executable, "-m", "fcn4dist", "rank-table", "convert", "--to", "1.2", str(save(concise_table()))]
    loud = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    quiet = subprocess.run([*command, "-q"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "AI-server mode" in loud.stderr
    assert (quiet.stdout, quiet.stderr) == (loud.stdout, "")


@pytest.mark.parametrize("name", VALID_TABLES)
def test_show_reads_every_format(name, run, save):
    code, out, _ = run("show", save(VALID_TABLES[name]()))
    assert code == 0
    assert "ranks" in out.splitlines()[0]
    assert "198.51.100.1" in out


def test_a_large_table_is_shown_a_line_a_server(run, save):
    table = concise_table(150, 2)
    for number, device in enumerate(device for server in table["server_list"] for device in server["device"]):
        device["device_ip"] = f"10.0.{number // 200}.{number % 200 + 1}"
    code, out, _ = run("show", save(table))
    assert code == 0
    assert len(out.splitlines()) == 152
    assert out.splitlines()[2].split() == ["0-1", "192.0.2.1", "0-1", "10.0.0.1", "…", "10.0.0.2"]


def test_validate_starts_without_the_heavy_libraries(save):
    """`rank-table validate` runs in CI and before every job: no rich, yaml, pydantic, numpy or mindspore for it."""
    code = (
        "import sys; from fcn4dist.cli.main import main\n"
        "try: main(['rank-table', 'validate', sys.argv[1]])\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "heavy = {'rich', 'yaml', 'pydantic', 'numpy', 'mindspore', 'librosa', 'psutil'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, str(save(concise_table(1, 8)))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
