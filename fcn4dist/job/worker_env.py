"""The environment of a worker: the one place that writes it and reads it (DESIGN section 7).

The launcher says to each process who it is by MindSpore's dynamic-cluster variables and a few of our own. A variable
that is missing or malformed is an error, never rank 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from fcn4dist.ascend.devices import VISIBLE
from fcn4dist.errors import ConfigError
from fcn4dist.job.devices import CoreShare, Target
from fcn4dist.job.ports import LOOPBACK
from fcn4dist.job.rank import Rank

Role = Literal["scheduler", "worker"]
MS_ROLES: dict[Role, str] = {"scheduler": "MS_SCHED", "worker": "MS_WORKER"}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
LAUNCHER_PID = "FCN4DIST_LAUNCHER_PID"
DEVICE_TARGET = "FCN4DIST_DEVICE_TARGET"
CORES = "FCN4DIST_CORES"
CONNECT_S = 600
HCCL_EXEC_MOST_S = 17_340  # a 910 takes no more (EI0001), and HCCL itself makes 68 of less; other chips take any

# What says who a process is, or makes MindSpore start in another way: left over in a shell, it would reach the workers
# and contradict the plan.
STALE_PREFIXES = ("RANK_", "FCN4DIST_", "OMPI_", "MS_RETRY_INTERVAL_")
STALE_NAMES = frozenset({
    "DEVICE_ID", "DEVICE_NUM", "LOCAL_RANK", "WORLD_SIZE", "ASCEND_RT_VISIBLE_DEVICES", "HCCL_WHITELIST_FILE",
    "MINDSPORE_HCCL_CONFIG_PATH",
    "MS_ROLE", "MS_WORKER_NUM", "MS_SERVER_NUM", "MS_NODE_ID", "MS_SCHED_HOST", "MS_SCHED_PORT", "MS_WORKER_IP",
    "MS_NODE_TIMEOUT", "MS_CPU_COMM_OP_TIMEOUT", "MS_TOPO_TIMEOUT", "MS_DISABLE_HEARTBEAT", "MS_ENABLE_RECOVERY",
    "MS_RECOVERY_PATH", "MS_ENABLE_TFT", "MS_SIMULATION_LEVEL", "MS_ENABLE_GRACEFUL_EXIT",
    "MS_COMPILER_CACHE_ENABLE",  # MindSpore 2.10 takes the graph of another config for this one's (docs/lab/log.md)
})  # fmt: skip

# malloc keeps what MindSpore's AllReduce frees: one of 69.5 MB takes 0.63 of the CPU time (docs/lab/log.md).
# One arena: the heaps of others end at 64 MB, so what is larger would come from the kernel each time, whatever the threshold.
MALLOC = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in (
        ("arena_max", 1),
        ("mmap_threshold", 1 << 30),
        ("trim_threshold", 1 << 32),
        ("top_pad", 1 << 26),
    )
)


@dataclass(frozen=True)
class WorkerEnv:
    """Who a process of the job is, and how it meets the others."""

    role: Role
    rank: int | None  # global, 0 .. world_size - 1; None for the scheduler
    world_size: int
    device: int  # position among the devices that it sees, from 0
    target: Target
    scheduler_host: str
    scheduler_port: int
    worker_ip: str  # the address that this process listens on
    collective_timeout_s: int  # how late another rank may be to a collective
    share: CoreShare
    launcher_pid: int
    rank_table: str | None = None  # path, where HCCL starts from it; Ascend only
    visible_devices: str | None = None  # positions on its host, where it does not see all; Ascend only
    connect_timeout_s: int = CONNECT_S  # of HCCL: how long NPUs may take to reach each other
    plog: str | None = None  # the folder for CANN's own logs

    @property
    def name(self) -> str:
        """How logs and messages call this process: "scheduler" or "rank-3"."""
        return "scheduler" if self.rank is None else f"rank-{self.rank}"

    def as_rank(self) -> Rank:
        """Return the worker's place in the job; for workers only."""
        assert self.rank is not None, "the scheduler has no rank"
        return Rank(self.rank, self.world_size, self.device)


def format_environment(worker: WorkerEnv, *, avx512_guard: bool, user: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set for `worker`, on top of `strip_stale(user)`.

    `user` is the launcher's own environment: GLOG_v, ONEDNN_MAX_CPU_ISA, GLIBC_TUNABLES and what HCCL and CANN read are left
    alone where the user set them.
    """
    environment = {
        "MS_ROLE": MS_ROLES[worker.role],
        "MS_WORKER_NUM": str(worker.world_size),
        "MS_SCHED_HOST": worker.scheduler_host,
        "MS_SCHED_PORT": str(worker.scheduler_port),
        "MS_WORKER_IP": worker.worker_ip,
        "MS_NODE_TIMEOUT": str(worker.collective_timeout_s),  # up to 2.9 also the limit of a CPU collective
        "MS_CPU_COMM_OP_TIMEOUT": str(worker.collective_timeout_s),
        "MS_RETRY_INTERVAL_LOWER": "1",  # seconds between heartbeats: bring-up and exit wait for one
        "MS_RETRY_INTERVAL_UPPER": "1",
        DEVICE_TARGET: worker.target,
        LAUNCHER_PID: str(worker.launcher_pid),
        **dict.fromkeys(THREAD_VARIABLES, str(worker.share.num_threads)),
    }
    if worker.rank is not None:
        environment |= {
            "MS_NODE_ID": str(worker.rank),
            "RANK_ID": str(worker.rank),
            "RANK_SIZE": str(worker.world_size),
            "DEVICE_ID": str(worker.device),
            CORES: ",".join(map(str, worker.share.cores)),
        }
    if worker.rank_table is not None and worker.target == "Ascend":
        environment["RANK_TABLE_FILE"] = worker.rank_table
    if worker.visible_devices is not None and worker.target == "Ascend":
        environment[VISIBLE] = worker.visible_devices
    if worker.target == "Ascend" and worker.rank is not None:
        environment |= {name: value for name, value in _for_hccl(worker, user).items() if not user.get(name)}
    if "GLOG_v" not in user:
        environment["GLOG_v"] = "3"  # errors only
    if avx512_guard and worker.target == "CPU" and "ONEDNN_MAX_CPU_ISA" not in user:
        environment["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    if worker.target == "CPU" and "GLIBC_TUNABLES" not in user:
        environment["GLIBC_TUNABLES"] = MALLOC
    return environment


def _for_hccl(worker: WorkerEnv, user: Mapping[str, str]) -> dict[str, str]:
    """Return what HCCL and CANN read; over hosts HCCL takes the alphabetically first interface unless it is told an address."""
    values = {
        "HCCL_CONNECT_TIMEOUT": str(worker.connect_timeout_s),
        "HCCL_EXEC_TIMEOUT": str(min(worker.collective_timeout_s, HCCL_EXEC_MOST_S)),
    }
    if worker.plog is not None:
        values["ASCEND_PROCESS_LOG_PATH"] = worker.plog
    if worker.worker_ip != LOOPBACK and not user.get("HCCL_SOCKET_IFNAME"):
        values["HCCL_IF_IP"] = worker.worker_ip
    return values


def strip_stale(user: Mapping[str, str]) -> dict[str, str]:
    """Return the user's environment without what another launcher or an earlier job may have left in it."""
    return {
        name: value for name, value in user.items() if name not in STALE_NAMES and not name.startswith(STALE_PREFIXES)
    }


def read_environment(environ: Mapping[str, str]) -> WorkerEnv:
    """Return who this process is.

    Raises ConfigError naming the variable that is missing, malformed or contradicts another.
    """
    read = _Reader(environ)
    roles = {value: role for role, value in MS_ROLES.items()}
    role = roles[read.choice("MS_ROLE", tuple(roles))]
    world_size = read.number("MS_WORKER_NUM", at_least=1)
    rank: int | None = None
    device = 0
    cores: tuple[int, ...] = ()
    if role == "worker":
        rank = read.number("RANK_ID", at_least=0)
        device = read.number("DEVICE_ID", at_least=0)
        cores = read.cores(CORES)
        read.same("MS_NODE_ID", "RANK_ID")
        read.same("RANK_SIZE", "MS_WORKER_NUM")
        if rank >= world_size:
            raise ConfigError(f"RANK_ID={rank}: expected 0 to {world_size - 1}, since MS_WORKER_NUM={world_size}")
    target: Target = "Ascend" if read.choice(DEVICE_TARGET, ("Ascend", "CPU")) == "Ascend" else "CPU"
    is_on_npu = target == "Ascend" and role == "worker"
    return WorkerEnv(
        role=role,
        rank=rank,
        world_size=world_size,
        device=device,
        target=target,
        scheduler_host=read.text("MS_SCHED_HOST"),
        scheduler_port=read.number("MS_SCHED_PORT", at_least=1, at_most=65535),
        worker_ip=read.text("MS_WORKER_IP"),
        collective_timeout_s=read.number("MS_NODE_TIMEOUT", at_least=1),
        share=CoreShare(cores, read.number("OMP_NUM_THREADS", at_least=1)),
        launcher_pid=read.number(LAUNCHER_PID, at_least=1),
        rank_table=environ.get("RANK_TABLE_FILE") or None,
        visible_devices=environ.get(VISIBLE) or None,
        connect_timeout_s=read.number("HCCL_CONNECT_TIMEOUT", at_least=1) if is_on_npu else CONNECT_S,
        plog=environ.get("ASCEND_PROCESS_LOG_PATH") or None,
    )


T = TypeVar("T")


class _Reader:
    """Reads variables; each failure names the variable, what was found and what was expected."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        value = self._environ.get(name, "").strip()
        if not value:
            raise ConfigError(
                f"{name} is not set; workers are started by `fcn4dist launch`, and `fcn4dist train` needs no variables"
            )
        return value

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in allowed:
            raise ConfigError(f"{name}={value}: expected {' or '.join(allowed)}")
        return value

    def number(self, name: str, *, at_least: int, at_most: int | None = None) -> int:
        value = self._parse(name, self.text(name), int, "a whole number")
        if value < at_least or (at_most is not None and value > at_most):
            bounds = f"at least {at_least}" if at_most is None else f"{at_least} to {at_most}"
            raise ConfigError(f"{name}={value}: expected {bounds}")
        return value

    def cores(self, name: str) -> tuple[int, ...]:
        if name not in self._environ:
            raise ConfigError(f"{name} is not set; expected core numbers such as 0,1 or nothing after the =")
        text = self._environ[name]
        return self._parse(name, text, lambda t: tuple(int(c) for c in t.split(",") if c), "core numbers such as 0,1")

    def same(self, name: str, other: str) -> None:
        if self.text(name) != self.text(other):
            raise ConfigError(f"{name}={self.text(name)} contradicts {other}={self.text(other)}")

    def _parse(self, name: str, text: str, parse: Callable[[str], T], expected: str) -> T:
        try:
            return parse(text)
        except ValueError:
            raise ConfigError(f"{name}={text}: expected {expected}") from None
