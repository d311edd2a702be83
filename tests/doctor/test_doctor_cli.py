"""`fcn4dist doctor` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fcn4dist.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    code: object = 0
    try:
        main(["doctor", "--quick", *map(str, arguments)])
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_line_a_check_and_a_verdict(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["ok", "python", "Python"]
    assert lines[-1].startswith("ready")
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_document_with_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--json", "--data", "nowhere")
    checks = json.loads(out)
    assert code == 1
    assert all(set(check) == {"name", "status", "message", "remedy"} for check in checks)
    names = [check["name"] for check in checks]
    assert len(names) == len(set(names))
    assert {"python", "mindspore", "cann", "numpy", "cpu", "memory", "shm", "disk", "ports", "npus", "clock"} <= set(
        names
    )
    assert next(check for check in checks if check["name"] == "data")["status"] == "error"


def test_an_error_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "-q", "--data", "nowhere")
    assert code == 1
    assert [line for line in out.splitlines() if line.startswith("ok ")] == []
    assert "nowhere: no such folder" in out
    assert "-> name another folder" in out
    assert out.splitlines()[-1].startswith("a job would fail here")


def test_a_wrong_config_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--devices", 3, "--set", "train.global_batch=16")
    assert (code, "cannot be divided among 3 ranks" in err) == (2, True)
    assert run(capsys, "--devices", 0)[0] == 2
    assert run(capsys, "--config", "nowhere.yaml")[0] == 2


def test_a_rank_table_is_checked_on_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    code, out, _ = run(capsys, "--rank-table", "t.json")
    assert (code, "t.json: refused" in out) == (1, True)


def test_a_table_of_several_hosts_makes_the_job_as_large(capsys: pytest.CaptureFixture[str]) -> None:
    table = Path(__file__).resolve().parents[2] / "rank_tables/2x8.json"
    code, out, _ = run(capsys, "--json", "--rank-table", table, "--devices", 8, "--set", "train.global_batch=64")
    found = {check["name"]: check["message"] for check in json.loads(out)}
    assert code == 0
    assert found["batch"] == "64 clips a step = 16 ranks x 1 micro-batch x 4 clips"
    assert "needed by 8 x 4 clips" in found["memory"]
