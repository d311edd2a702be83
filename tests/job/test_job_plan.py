from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fcn4dist.ascend.devices import number_devices
from fcn4dist.config import load_config
from fcn4dist.errors import ConfigError
from fcn4dist.job.devices import HostDevices, divide_cores
from fcn4dist.job.plan import JobPlan, Launcher, Meeting, format_job, format_processes, plan_as_json, plan_job
from fcn4dist.job.worker_env import read_environment
from fcn4dist.run.folder import RunDir

RUN = RunDir(Path("/data/runs/one"))


def cpu_plan(ranks: int = 2, *overrides: str, attempt: int = 1, meeting: Meeting | None = None) -> JobPlan:
    host = HostDevices("CPU", number_devices(ranks), divide_cores((0, 1, 2, 3), ranks), avx512_guard=True)
    meeting = meeting or Meeting.on_one_host(ranks, 23456)
    return plan_job(load_config(overrides=overrides), RUN, host, meeting, Launcher(77, {}, attempt))


def test_the_scheduler_starts_first_and_every_rank_after_it() -> None:
    plan = cpu_plan(3)
    assert [spec.name for spec in plan.processes] == ["scheduler", "rank-0", "rank-1", "rank-2"]


def test_every_process_has_the_workers_command() -> None:
    for spec in cpu_plan(attempt=4).processes:
        assert spec.argv == (
            sys.executable, "-m", "fcn4dist.train.worker", "--run-dir", "/data/runs/one", "--attempt", "4",
        )  # fmt: skip
        assert spec.log == Path("/data/runs/one/logs/attempt-4") / f"{spec.name}.log"


def test_every_process_reads_who_it_is() -> None:
    plan = cpu_plan(2, "launch.collective_timeout_s=60")
    scheduler, first, second = (read_environment(spec.env) for spec in plan.processes)
    assert (scheduler.role, scheduler.rank) == ("scheduler", None)
    assert [(w.rank, w.world_size, w.device, w.share.cores) for w in (first, second)] == [
        (0, 2, 0, (0, 1)),
        (1, 2, 1, (2, 3)),
    ]
    for env in (scheduler, first, second):
        assert (env.scheduler_host, env.scheduler_port, env.worker_ip) == ("127.0.0.1", 23456, "127.0.0.1")
        assert (env.launcher_pid, env.collective_timeout_s) == (77, 60)


def test_on_ascend_each_rank_has_its_timeouts_and_a_folder_for_canns_logs() -> None:
    host = HostDevices("Ascend", number_devices(2), divide_cores((0, 1), 2, bind=False), avx512_guard=False)
    config = load_config(overrides=("launch.hccl_connect_timeout_s=1200", "launch.collective_timeout_s=90"))
    meeting = Meeting("192.0.2.1", 23456, "192.0.2.1", 4)
    for rank, process in enumerate(plan_job(config, RUN, host, meeting, Launcher(77, {}, 2)).processes[1:]):
        assert process.env["ASCEND_PROCESS_LOG_PATH"] == f"/data/runs/one/logs/attempt-2/plog/rank-{rank}"
        assert process.env["HCCL_CONNECT_TIMEOUT"] == "1200"
        assert process.env["HCCL_EXEC_TIMEOUT"] == "90"
        assert process.env["HCCL_IF_IP"] == "192.0.2.1"
    with pytest.raises(ConfigError, match=r"launch\.hccl_connect_timeout_s"):
        load_config(overrides=("launch.hccl_connect_timeout_s=60",))


def test_one_host_of_several_has_its_own_ranks_and_perhaps_no_scheduler() -> None:
    plan = cpu_plan(2, meeting=Meeting("192.0.2.1", 23456, "192.0.2.2", 4, first_rank=2, runs_scheduler=False))
    assert [spec.name for spec in plan.processes] == ["rank-2", "rank-3"]
    env = read_environment(plan.workers[1].process.env)
    assert (env.rank, env.world_size, env.device) == (3, 4, 1)
    assert (env.scheduler_host, env.worker_ip) == ("192.0.2.1", "192.0.2.2")
    assert plan.batches.world_size == 4


def test_ranks_that_do_not_divide_the_global_batch_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"train.global_batch: 16 clips cannot be divided among 3 ranks; use 15 or 18"
    ):
        cpu_plan(3, "train.global_batch=16")


def test_plan_json_holds_every_worker_and_the_arithmetic() -> None:
    plan = cpu_plan(2, "train.global_batch=32", "train.device_batch=4")
    document = json.loads(json.dumps(plan_as_json(plan, num_clips=100)))
    assert document["batches"] == {
        "global_batch": 32, "rank_batch": 16, "micro_batch": 4, "accumulation": 4,
        "num_clips": 100, "steps_per_epoch": 3,
    }  # fmt: skip
    assert (document["scheduler"]["host"], document["scheduler"]["port"]) == ("127.0.0.1", 23456)
    for rank, worker in enumerate(document["workers"]):
        assert (worker["rank"], worker["device"], worker["cores"]) == (rank, rank, [2 * rank, 2 * rank + 1])
        assert worker["env"]["RANK_ID"] == str(rank)
        assert worker["argv"][0] == sys.executable
        assert worker["log"].endswith(f"rank-{rank}.log")


def test_the_printed_plan_says_what_people_ask() -> None:
    plan = cpu_plan(2, "train.global_batch=32")
    text = "\n".join([*format_job(plan, num_clips=100), *format_processes(plan)])
    assert "2 ranks on CPU, scheduler 127.0.0.1:23456, run directory /data/runs/one" in text
    assert "32 clips a step = 2 ranks x 1 micro-batches x 16 clips" in text
    assert "100 clips = 3 steps, 48 clips a rank; 4 sit out each epoch" in text
    assert "rank 1: device 1, cores 2,3, threads 2" in text
    assert "RANK_ID=1" in text


def test_a_plan_of_a_thousand_ranks_is_quick_and_consistent() -> None:
    plan = cpu_plan(1024, "train.global_batch=4096")
    assert [worker.rank.index for worker in plan.workers] == list(range(1024))
    assert {worker.share.num_threads for worker in plan.workers} == {1}
