"""Jobs on paper: of any size, on any machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bare_set import make_bare_set

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
    assert "small-node.invalid (node 1, rank 4)" in out
    assert "nothing was started or written" in out


def test_a_given_rank_table_is_held_to_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    table = str(ROOT / "rank_tables" / "2x8.json")
    options = ["--nodes", "2", "--device-target", "Ascend", "--rank-table", table]
    code, out, _ = dry_run(capsys, *options, "--devices", "8")
    assert code == 0
    assert "2 servers, 16 ranks as in the job; exported" in out
    assert f"RANK_TABLE_FILE={table}" in out
    code, _, err = dry_run(capsys, *options, "--devices", "4")
    assert code == 2
    assert "2x8.json: 16 ranks in it, the job has 8" in err


def test_json_belongs_to_dry_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["launch", "--json"])
    assert ended.value.code == 2
    assert "--json: goes with --dry-run" in capsys.readouterr().err


def test_128_servers_of_8_devices_take_under_3_seconds() -> None:
    command = [sys.executable, "-m", "fcn4dist", "launch", "--dry-run", "--nodes", "128", "--devices", "8"]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--device-target", "Ascend"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    seconds = time.perf_counter() - start
    assert done.stdout.count("RANK_ID=") == 1024
    assert seconds < 3 * 3  # the bar is 3 s on a quiet machine: docs/hosts.md has the measurement
