"""Jobs on paper: of any size, on any machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bare_set import make_bare_set
from fake_ascend import make_host
from operator_table import operator_table

from fcn4dist.ascend import devices
from fcn4dist.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_bare_set(tmp_path / "data")


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code: object = 0
    try:
        main(["launch", "--dry-run", "--data", "data", *arguments])
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    assert isinstance(code, int)
    return code, captured.out, captured.err


def test_every_rank_of_every_host_has_its_environment(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--nodes", "3", "--devices", "2", "--device-target", "Ascend", "--rank-table", "none", "--json"]
    code, out, _ = dry_run(capsys, *options, "--set", "train.global_batch=12", "--set", "train.device_batch=1")
    assert code == 0
    job = json.loads(out)
    assert (job["world_size"], job["batches"]["rank_batch"], job["batches"]["accumulation"]) == (6, 2, 2)
    workers = [worker for host in job["hosts"] for worker in host["workers"]]
    assert [worker["env"]["RANK_ID"] for worker in workers] == list("012345")
    assert [worker["env"]["DEVICE_ID"] for worker in workers] == list("010101")
    assert {worker["env"]["MS_SCHED_HOST"] for worker in workers} == {"node-0"}
    assert job["positions_in_step"] == [[0, 2], [2, 4], [4, 6], [6, 8], [8, 10], [10, 12]]
    assert job["memory"]["total_bytes"] > 1e8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_hostfile_with_unequal_hosts_that_this_machine_does_not_know(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("big-node.invalid slots=4\nsmall-node.invalid slots=1\n")
    code, out, _ = dry_run(capsys, "--hostfile", "hosts", "--device-target", "CPU")
    assert code == 0
    assert "5 ranks on CPU" in out
    assert "big-node.invalid (node 0, ranks 0-3)" in out
    assert "small-node.invalid (node 1, rank 4) unresolved: no address is known here" in out
    assert "198.18." not in out  # an address that nobody gave
    assert "nothing was started or written" in out


def test_a_given_rank_table_is_held_to_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    table = str(ROOT / "rank_tables" / "2x8.json")
    options = ["--nodes", "2", "--device-target", "Ascend", "--rank-table", table]
    code, out, _ = dry_run(capsys, *options, "--devices", "8", "--run-dir", "run")
    assert code == 0
    assert "2 servers, 16 ranks as in the job; exported" in out
    assert "/run/rank_table.json" in out  # the copy that the run keeps
    code, _, err = dry_run(capsys, *options, "--devices", "4")
    assert code == 2
    assert "2x8.json: 16 ranks in it, the job has 8" in err


PODS = {"192.0.2.7": range(8), "192.0.2.8": range(8)}


@pytest.mark.parametrize("hosts", [None, ["203.0.113.1", "203.0.113.2"]], ids=["host network", "pod network"])
def test_the_operators_table_is_taken_as_it_is(capsys: pytest.CaptureFixture[str], hosts: list[str] | None) -> None:
    Path("hosts").write_text("192.0.2.7 slots=8\n192.0.2.8 slots=8\n")
    Path("hccl.json").write_text(operator_table(PODS, hosts))
    options = ["--hostfile", "hosts", "--device-target", "Ascend", "--rank-table", "hccl.json"]
    code, out, err = dry_run(capsys, *options)
    assert code == 0, err
    assert "2 servers, 16 ranks as in the job; exported" in out
    Path("hccl.json").write_text(operator_table(PODS, hosts, status="initializing"))
    code, _, err = dry_run(capsys, *options)
    assert (code, 'hccl.json: status: "initializing"' in err) == (2, True)
    Path("hccl.json").write_text(operator_table({"192.0.2.7": range(8), "192.0.2.9": range(8)}))
    code, _, err = dry_run(capsys, *options)
    assert (code, "no server 192.0.2.8, which is 192.0.2.8" in err) == (2, True)


def test_the_generated_table_is_handed_over_on_request_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for option, said in (("auto", "not handed to HCCL"), ("export", "exported")):
        options = ["--devices", "2", "--device-target", "Ascend", "--rank-table", option, "--run-dir", "run"]
        code, out, _ = dry_run(capsys, *options)
        assert code == 0
        assert re.search(f"rank table: generated at the start .*/run/rank_table.json; {said}", out)
        assert ("RANK_TABLE_FILE=" in out) == (option == "export")


def test_on_the_jobs_only_host_the_table_is_generated_and_refused_as_by_launch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = make_host(tmp_path / "host", "910B3", range(4, 8), {"ASCEND_VISIBLE_DEVICES": "4-7"})
    monkeypatch.setattr(devices, "THIS_HOST", host.paths)
    for name, value in host.environment.items():
        monkeypatch.setenv(name, value)
    options = ["--devices", "4", "--device-target", "Ascend", "--run-dir", "run"]
    code, out, _ = dry_run(capsys, *options)
    assert (code, "rank table: from the NPUs here, into" in out, "not handed to HCCL" in out) == (0, True, True)
    assert "rank 3: device 3 (davinci7)" in out
    host.answer("ip4.5", "ipaddr:198.51.100.5\n")  # as device 4
    code, _, err = dry_run(capsys, *options)
    assert (code, '"198.51.100.5" is already at' in err) == (2, True)
    Path("hccl.json").write_text(operator_table({"10.244.1.7": range(4)}))  # positions for physical ids
    code, _, err = dry_run(capsys, *options, "--rank-table", "hccl.json")
    assert (code, "rank 0 on device 0, " in err, "the job has rank 0 on device 4" in err) == (2, True, True)


def test_each_hosts_command_and_what_the_launchers_need(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--nodes", "2", "--node-rank=0", "--device-target", "CPU", "--run-dir", "the run"]
    monkeypatch.setattr(sys, "argv", ["fcn4dist", "launch", "--dry-run", "--data", "data", *options])
    code, out, _ = dry_run(capsys, *options, "--master-addr", "192.0.2.7", "--master-port", "4000")
    assert code == 0
    for rank in range(2):
        told = f"--device-target CPU --run-dir 'the run' --node-rank {rank} --master-addr 192.0.2.7"
        assert f"launcher: fcn4dist launch --data data --nodes 2 {told}" in out
    assert "launchers: meet at 192.0.2.7 port 4000; all hosts need the same secret" in out
    assert "FCN4DIST_JOB_SECRET" in out


def damaged_table(damage: Callable[[dict[str, Any]], object]) -> str:
    table = json.loads((ROOT / "rank_tables" / "2x8.json").read_text())
    damage(table)
    Path("table.json").write_text(json.dumps(table))
    return "table.json"


def swap_first_ranks(table: dict[str, Any]) -> None:
    first, second, *_ = table["server_list"][0]["device"]
    first["rank_id"], second["rank_id"] = second["rank_id"], first["rank_id"]


def shift_devices(table: dict[str, Any]) -> None:
    for device in table["server_list"][1]["device"]:
        device["device_id"] = str(int(device["device_id"]) + 8)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda table: table["server_list"][1].update(server_id="192.0.2.7"), 'server_id: "192.0.2.7" is already at'),
        (lambda table: table.update(status="ready"), 'status: "ready": .*; expected "completed"'),
        (lambda table: table["server_list"][0]["device"][0].update(device_ip="192.168.1.303"), "no.* valid IP address"),
        (swap_first_ranks, "has rank 0 on device 1, .*; the job has there rank 0 on device 0"),
        (shift_devices, "has rank 8 on device 8, .*; the job has there rank 8 on device 0"),
        (lambda table: table["server_list"][1].update(server_id="c", host_ip="192.0.2.9", pod_ip="192.0.2.9"),
         "no server 192.0.2.8, which is 192.0.2.8"),
    ],
)  # fmt: skip
def test_a_rank_table_that_launch_refuses(
    damage: Callable[[dict[str, Any]], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("hosts").write_text("192.0.2.7 slots=8\n192.0.2.8 slots=8\n")
    options = ["--hostfile", "hosts", "--device-target", "Ascend", "--rank-table"]
    assert dry_run(capsys, *options, damaged_table(lambda table: None))[0] == 0
    code, _, err = dry_run(capsys, *options, damaged_table(damage))
    assert code == 2
    assert re.search(rf"table.json: .*{message}", err)


def test_a_table_for_other_devices_fits_where_the_host_file_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    Path("hosts").write_text("192.0.2.7 slots=8\n192.0.2.8 devices=8-15\n")
    options = ["--hostfile", "hosts", "--device-target", "Ascend", "--rank-table", damaged_table(shift_devices)]
    assert dry_run(capsys, *options)[0] == 0


def test_on_cpu_a_table_that_hccl_would_refuse_is_taken_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    table = damaged_table(lambda table: table.update(status="ready"))
    code, out, _ = dry_run(capsys, "--nodes", "2", "--devices", "8", "--device-target", "CPU", "--rank-table", table)
    assert code == 0
    assert 'on Ascend it would be refused: table.json: status: "ready"' in out


def test_json_belongs_to_dry_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["launch", "--json"])
    assert ended.value.code == 2
    assert "--json: goes with --dry-run" in capsys.readouterr().err


def test_128_servers_of_8_devices_are_planned() -> None:
    command = [sys.executable, "-m", "fcn4dist", "launch", "--dry-run", "--nodes", "128", "--devices", "8"]
    done = subprocess.run(
        [*command, "--device-target", "Ascend"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.count("RANK_ID=") == 1024
