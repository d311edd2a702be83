from __future__ import annotations

from dataclasses import replace

import pytest

from fcn4dist.errors import ConfigError
from fcn4dist.job.devices import CoreShare
from fcn4dist.job.worker_env import WorkerEnv, format_environment, read_environment, strip_stale

RANK_3 = WorkerEnv(
    role="worker",
    rank=3,
    world_size=8,
    device=5,
    target="CPU",
    scheduler_host="127.0.0.1",
    scheduler_port=23456,
    worker_ip="127.0.0.1",
    collective_timeout_s=1800,
    share=CoreShare((2, 3), 2),
    launcher_pid=4242,
)
SCHEDULER = replace(RANK_3, role="scheduler", rank=None, device=0, share=CoreShare((), 1))


def written(worker: WorkerEnv = RANK_3, *, guard: bool = False, user: dict[str, str] | None = None) -> dict[str, str]:
    return format_environment(worker, avx512_guard=guard, user=user or {})


@pytest.mark.parametrize(
    "worker",
    [
        RANK_3,
        SCHEDULER,
        replace(RANK_3, target="Ascend", rank_table="/r/rank_table.json", share=CoreShare((), 4)),
        replace(RANK_3, target="Ascend", device=1, visible_devices="4,5", share=CoreShare((), 4)),
        replace(RANK_3, target="Ascend", connect_timeout_s=900, plog="/r/logs/attempt-1/plog/rank-3"),
    ],
)
def test_what_is_written_is_read_back(worker: WorkerEnv) -> None:
    assert read_environment(written(worker)) == worker


def test_the_contract_of_a_worker() -> None:
    assert written(guard=True) == {
        "MS_ROLE": "MS_WORKER",
        "MS_WORKER_NUM": "8",
        "MS_NODE_ID": "3",
        "MS_SCHED_HOST": "127.0.0.1",
        "MS_SCHED_PORT": "23456",
        "MS_WORKER_IP": "127.0.0.1",
        "MS_NODE_TIMEOUT": "1800",
        "MS_CPU_COMM_OP_TIMEOUT": "1800",
        "MS_RETRY_INTERVAL_LOWER": "1",
        "MS_RETRY_INTERVAL_UPPER": "1",
        "RANK_ID": "3",
        "RANK_SIZE": "8",
        "DEVICE_ID": "5",
        "GLOG_v": "3",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=1073741824:"
        "glibc.malloc.trim_threshold=4294967296:glibc.malloc.top_pad=67108864",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "NUMEXPR_NUM_THREADS": "2",
        "FCN4DIST_LAUNCHER_PID": "4242",
        "FCN4DIST_DEVICE_TARGET": "CPU",
        "FCN4DIST_CORES": "2,3",
    }


def test_the_scheduler_has_no_rank() -> None:
    environment = written(SCHEDULER)
    assert environment["MS_ROLE"] == "MS_SCHED"
    assert not {"RANK_ID", "MS_NODE_ID", "DEVICE_ID", "RANK_SIZE"} & environment.keys()
    assert read_environment(environment).name == "scheduler"


def test_the_rank_table_goes_to_ascend_only() -> None:
    assert "RANK_TABLE_FILE" not in written(replace(RANK_3, rank_table="/r/t.json"))
    assert written(replace(RANK_3, target="Ascend", rank_table="/r/t.json"))["RANK_TABLE_FILE"] == "/r/t.json"


def test_what_a_worker_may_see_goes_to_ascend_only() -> None:
    assert "ASCEND_RT_VISIBLE_DEVICES" not in written(replace(RANK_3, visible_devices="4,5"))
    on_ascend = written(replace(RANK_3, target="Ascend", visible_devices="4,5"))
    assert on_ascend["ASCEND_RT_VISIBLE_DEVICES"] == "4,5"


FOR_HCCL = {"HCCL_CONNECT_TIMEOUT", "HCCL_EXEC_TIMEOUT", "HCCL_IF_IP", "ASCEND_PROCESS_LOG_PATH"}
ON_NPU = replace(RANK_3, target="Ascend", worker_ip="192.0.2.7", scheduler_host="192.0.2.1", plog="/r/plog/rank-3")


def hccl(worker: WorkerEnv = ON_NPU, **user: str) -> dict[str, str]:
    """Return what of HCCL's and CANN's variables is set for a worker."""
    found = written(worker, user=user)
    return {name: found[name] for name in FOR_HCCL & found.keys()}


def test_hccl_is_told_its_address_and_its_patience_and_cann_where_to_log() -> None:
    assert hccl() == {
        "HCCL_CONNECT_TIMEOUT": "600",
        "HCCL_EXEC_TIMEOUT": "1800",
        "HCCL_IF_IP": "192.0.2.7",
        "ASCEND_PROCESS_LOG_PATH": "/r/plog/rank-3",
    }
    assert "HCCL_IF_IP" not in hccl(replace(ON_NPU, worker_ip="127.0.0.1"))  # one host
    assert hccl(replace(ON_NPU, target="CPU")) == {}
    assert hccl(replace(SCHEDULER, target="Ascend")) == {}


@pytest.mark.parametrize(("asked", "given"), [(30, "30"), (1800, "1800"), (17_340, "17340"), (86_400, "17340")])
def test_a_910_takes_no_longer_patience_than_17340_s(asked: int, given: str) -> None:
    assert hccl(replace(ON_NPU, collective_timeout_s=asked))["HCCL_EXEC_TIMEOUT"] == given


@pytest.mark.parametrize("name", sorted(FOR_HCCL))
def test_what_the_user_set_for_hccl_stays(name: str) -> None:
    assert hccl(**{name: "192.0.2.99"}).keys() == FOR_HCCL - {name}  # type: ignore[arg-type]
    assert hccl(**{name: ""}).keys() == FOR_HCCL  # type: ignore[arg-type]  # set to nothing: not set


def test_an_interface_that_the_user_named_counts_before_the_address() -> None:
    assert hccl(HCCL_SOCKET_IFNAME="=bond0").keys() == FOR_HCCL - {"HCCL_IF_IP"}


def test_what_the_user_set_stays() -> None:
    user = {"GLOG_v": "1", "ONEDNN_MAX_CPU_ISA": "SSE41", "GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}
    assert not user.keys() & written(guard=True, user=user).keys()


def test_the_guard_is_for_cpu_with_avx512() -> None:
    assert "ONEDNN_MAX_CPU_ISA" not in written(guard=False)
    on_ascend = written(replace(RANK_3, target="Ascend"), guard=True)
    assert not {"ONEDNN_MAX_CPU_ISA", "GLIBC_TUNABLES"} & on_ascend.keys()


@pytest.mark.parametrize("worker", [RANK_3, SCHEDULER])
def test_a_missing_variable_is_an_error_never_rank_0(worker: WorkerEnv) -> None:
    environment = written(worker)
    unread = {
        "MS_CPU_COMM_OP_TIMEOUT",
        "MS_RETRY_INTERVAL_LOWER",
        "MS_RETRY_INTERVAL_UPPER",
        "GLOG_v",
        "GLIBC_TUNABLES",
    }
    unread |= {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"}  # as OMP_NUM_THREADS
    for name in environment.keys() - unread:
        rest = {k: v for k, v in environment.items() if k != name}
        with pytest.raises(ConfigError, match=f"{name} is not set"):
            read_environment(rest)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MS_ROLE", "MS_PSERVER", "MS_ROLE=MS_PSERVER: expected MS_SCHED or MS_WORKER"),
        ("RANK_ID", "three", "RANK_ID=three: expected a whole number"),
        ("RANK_ID", "-1", "RANK_ID=-1: expected at least 0"),
        ("RANK_ID", "2", "MS_NODE_ID=3 contradicts RANK_ID=2"),
        ("RANK_SIZE", "4", "RANK_SIZE=4 contradicts MS_WORKER_NUM=8"),
        ("MS_SCHED_PORT", "70000", "MS_SCHED_PORT=70000: expected 1 to 65535"),
        ("FCN4DIST_CORES", "0;1", "FCN4DIST_CORES=0;1: expected core numbers"),
        ("FCN4DIST_DEVICE_TARGET", "GPU", "expected Ascend or CPU"),
        ("MS_SCHED_HOST", "  ", "MS_SCHED_HOST is not set"),
    ],
)
def test_a_malformed_variable_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_environment({**written(), name: value})


def test_a_rank_outside_the_job_is_refused() -> None:
    with pytest.raises(ConfigError, match="RANK_ID=8: expected 0 to 7"):
        read_environment({**written(), "RANK_ID": "8", "MS_NODE_ID": "8"})


def test_stale_variables_do_not_reach_workers_and_others_do() -> None:
    stale = ["RANK_ID", "RANK_TABLE_FILE", "DEVICE_ID", "MS_ROLE", "MS_SCHED_PORT", "MS_ENABLE_RECOVERY"]
    stale += ["ASCEND_RT_VISIBLE_DEVICES", "FCN4DIST_LAUNCHER_PID", "OMPI_COMM_WORLD_RANK", "MS_COMPILER_CACHE_ENABLE"]
    kept = {"PATH": "/bin", "HCCL_CONNECT_TIMEOUT": "600", "MS_DEV_GRAPH_KERNEL_FLAGS": "--a", "GLOG_v": "1"}
    assert strip_stale({**dict.fromkeys(stale, "0"), **kept}) == kept
