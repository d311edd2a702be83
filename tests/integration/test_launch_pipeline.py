"""The launch pipeline from config to summary, with workers that keep the contract but do not import MindSpore."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import socket
from pathlib import Path

import pytest
from bare_set import make_bare_set
from rich.console import Console

import fcn4dist.launch.host_job
from fcn4dist.config import RunConfig, load_config, override_config
from fcn4dist.errors import ConfigError, DataError, JobError, RankTableError
from fcn4dist.job import plan
from fcn4dist.launch.dry_run import show_dry_run
from fcn4dist.launch.host_job import LaunchRequest
from fcn4dist.launch.pipeline import launch as launch_job

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """Two ranks on ModelZoo's kind of data folder, and workers that stand in for the real ones."""
    monkeypatch.setattr(plan, "WORKER_MODULE", "stand_in_worker")
    monkeypatch.setattr("fcn4dist.launch.endings.leave_report", lambda _: "")  # a process more for each job
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{Path(__file__).parent}")
    monkeypatch.setenv("RANK_ID", "5")  # left over in the user's shell
    data = make_bare_set(tmp_path / "data")
    return load_config(overrides=[f"data.records_dir={data}", "launch.devices=2", "launch.device_target=CPU"])


def launch(config: RunConfig, run_dir: Path, **options: object) -> str:
    output = io.StringIO()
    request = LaunchRequest(run_dir, **options)  # type: ignore[arg-type]
    last_line = launch_job(config, request, Console(file=output, width=200))
    return f"{output.getvalue()}{last_line}\n"


def test_a_job_from_config_to_summary(config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    output = launch(config, run)
    assert "evaluation: 8 val clips, ROC-AUC 0.8750, PR-AUC 0.7500" in output
    assert output.splitlines()[-1].startswith("done: 3 steps, ")
    assert ", last loss 0.5000, ROC-AUC 0.8750, PR-AUC 0.7500 (caution: only 8 clips" in output.splitlines()[-1]
    assert output.splitlines()[-1].endswith(f"; {run}")
    document = json.loads((run / "plan.json").read_text())
    assert [worker["rank"] for worker in document["workers"]] == [0, 1]
    assert load_config(run / "config.yaml").train.global_batch == 64  # written out: 32 a rank


def test_a_failed_job_leaves_failure_json_and_resume_is_the_next_attempt(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setenv("FAIL", "rank-1")
    with pytest.raises(JobError, match=r"rank 1 on .* failed first: exit code 7"):
        launch(config, run)
    document = json.loads((run / "failure.json").read_text())
    assert document["culprit"]["rank"] == 1
    assert document["next_steps"] == [
        f"fcn4dist launch --resume {run} goes on from the start, no checkpoint was written yet; "
        "--max-restarts N does so by itself"
    ]
    monkeypatch.delenv("FAIL")
    launch(load_config(run / "config.yaml", ["launch.devices=1"]), run, resume=True)
    assert not (run / "failure.json").exists()
    assert sorted(p.name for p in (run / "logs").iterdir()) == ["attempt-1", "attempt-2"]
    assert (run / "logs/attempt-1/rank-1.log").exists()
    assert load_config(run / "config.yaml").train.global_batch == 64  # one rank now takes all of it
    assert {json.loads(line)["attempt"] for line in (run / "events.jsonl").read_text().splitlines()} == {1, 2}


@pytest.mark.parametrize(
    ("phases", "limit", "expected"),
    [
        (
            ("step", "data"),
            "stall_timeout_s",
            r"^rank 1 on \S+ failed first: the job hung: no step was finished for \d s: rank-0 in step 7; "
            "rank-1 waiting for the data of step 7\n",
        ),
        (
            ("saving", "step"),
            "phase_timeout_s",
            r"^rank 0 on \S+ failed first: the job hung: nothing moved for \d s: rank-0 saving; rank-1 in step 7\n",
        ),
    ],
)
def test_a_job_that_hangs_is_ended_and_what_holds_it_up_is_named(
    config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    phases: tuple[str, str],
    limit: str,
    expected: str,
) -> None:
    for rank, phase in enumerate(phases):
        monkeypatch.setenv(f"HANG_RANK_{rank}", phase)
    with pytest.raises(JobError, match=expected) as raised:
        launch(override_config(config, launch={limit: 2.0}), tmp_path / "run")
    assert f"raise launch.{limit}" in str(raised.value)


def test_a_folder_that_cannot_be_read_for_longer_than_the_limit_ends_no_job(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """NFS answers ESTALE to every look for 5 s; the ranks step all the time."""
    monkeypatch.setenv("STEPS_S", "5")
    monkeypatch.setattr("fcn4dist.job.stall.FRESH_S", 0.3)
    real, stepping = Path.read_bytes, set[Path]()

    def read(path: Path) -> bytes:
        if path.suffix == ".pulse" and len(stepping) == 2:  # both ranks have been seen in a step
            raise OSError(errno.ESTALE, "Stale file handle")
        content = real(path)
        if content.startswith(b"step 2 "):
            stepping.add(path)
        return content

    monkeypatch.setattr(Path, "read_bytes", read)
    output = launch(override_config(config, launch={"stall_timeout_s": 1.0}), tmp_path / "run")
    assert output.splitlines()[-1].startswith("done: ")
    assert "Stale file handle; trying again" in caplog.text


def restarting(config: RunConfig, max_restarts: int) -> RunConfig:
    return override_config(config, launch={"max_restarts": max_restarts})


def test_a_failed_job_starts_again_as_often_as_asked(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setenv("FAIL_ONCE", "rank-1")
    output = launch(restarting(config, 3), run)
    assert "rank 1 on " in output
    assert "restart 1 of 3 in 1 s, from the start" in output
    assert output.splitlines()[-1].startswith("done: 3 steps, ")
    assert ", 1 restart, " in output.splitlines()[-1]
    assert not (run / "failure.json").exists()  # the job did not fail
    assert json.loads((run / "logs/attempt-1/failure.json").read_text())["culprit"]["exit_code"] == 7
    assert (run / "logs/attempt-2/rank-1.log").exists()
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    (restart,) = [event for event in events if event["event"] == "restart"]
    assert (restart["number"], restart["after"], restart["from"]) == (1, "rank 1: 7", "the start")


def test_a_job_that_dies_twice_in_the_same_way_before_its_first_step_is_given_up(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_EARLY", "rank-1")
    with pytest.raises(JobError, match=r"(?s)exit code 6.*died twice in the same way before its first step"):
        launch(restarting(config, 9), tmp_path / "run")
    assert len(list((tmp_path / "run/logs").iterdir())) == 2


def test_a_port_lost_to_another_program_is_replaced(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = fcn4dist.launch.host_job.choose_port  # type: ignore[attr-defined]
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        lost = stranger.getsockname()[1]
        monkeypatch.setattr(
            fcn4dist.launch.host_job, "choose_port", lambda avoid: choose(avoid=avoid) if avoid else lost
        )  # chosen a moment before the stranger took it
        output = launch(config, tmp_path / "run")
    assert "done: " in output
    ends = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    first = next(e for e in ends if e["event"] == "exited" and e["process"] == "scheduler")
    assert (first["attempt"], first["exit_code"]) == (1, 1)
    assert json.loads((tmp_path / "run/plan.json").read_text())["scheduler"]["port"] != lost


def test_a_port_that_was_asked_for_and_is_taken_is_refused(config: RunConfig, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger, pytest.raises(ConfigError, match="already in use"):
        launch(config, tmp_path / "run", master_port=stranger.getsockname()[1])
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_not_overwritten(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("train: {seed: 5}\n")
    with pytest.raises(ConfigError, match=r"already holds a run; continue it with --resume"):
        launch(config, tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").read_text() == "train: {seed: 5}\n"


def test_a_run_that_is_still_running_is_left_alone(config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("{}\n")
    with (run / "launch.lock").open("w") as lock:
        lock.write("4321")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"in use by another launcher, process 4321"):
            launch(config, run, resume=True)
    assert (run / "launch.lock").read_text() == "4321"


def test_wrong_data_leaves_no_run_directory(config: RunConfig, tmp_path: Path) -> None:
    wrong = load_config(overrides=[f"data.records_dir={tmp_path / 'none'}", "launch.device_target=CPU"])
    with pytest.raises(DataError, match="no such folder"):
        launch(wrong, tmp_path / "runs" / "one")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("place", ["data/train.mindrecord0/run", "/proc/run", "/dev/full/run"])
def test_a_run_directory_that_cannot_be_written_is_refused(config: RunConfig, tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match="cannot write the run directory"):
        launch(config, tmp_path / place)


def test_a_dry_run_writes_nothing(config: RunConfig, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    output = io.StringIO()
    show_dry_run(config, LaunchRequest(tmp_path / "runs" / "one"), Console(file=output, width=200))
    assert "2 ranks on CPU" in output.getvalue()
    assert "nothing was started or written" in output.getvalue()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_given_rank_table_is_held_to_the_job_and_on_cpu_not_exported(config: RunConfig, tmp_path: Path) -> None:
    table = ROOT / "rank_tables" / "1x8.json"
    with pytest.raises(RankTableError, match=r"1x8.json: 8 ranks on 1 servers in it, the job has 2 on this one"):
        launch(config, tmp_path / "two", rank_table=str(table))
    assert not (tmp_path / "two").exists()
    eight = override_config(config, launch={"devices": 8})
    output = launch(eight, tmp_path / "eight", rank_table=str(table))
    assert "1x8.json: 8 ranks as in the job; not exported, since CPU needs none" in output
    plan = json.loads((tmp_path / "eight/plan.json").read_text())
    assert not any("RANK_TABLE_FILE" in worker["env"] for worker in plan["workers"])
