"""The plan of a job: every process that will run on this host, decided before anything starts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fcn4dist.ascend.devices import DeviceNumber
from fcn4dist.config import BatchPlan, RunConfig, plan_batches
from fcn4dist.job.devices import CoreShare, HostDevices, Target
from fcn4dist.job.ports import LOOPBACK
from fcn4dist.job.process import ProcessSpec
from fcn4dist.job.rank import Rank
from fcn4dist.job.worker_env import WorkerEnv, format_environment
from fcn4dist.run.folder import RunDir

WORKER_MODULE = "fcn4dist.train.worker"


@dataclass(frozen=True)
class Meeting:
    """How this host's processes meet the rest of the job."""

    scheduler_host: str
    scheduler_port: int
    own_ip: str  # what this host's processes listen on
    world_size: int
    first_rank: int = 0  # of this host
    runs_scheduler: bool = True

    @classmethod
    def on_one_host(cls, num_ranks: int, port: int) -> Meeting:
        """All ranks here, everything on loopback."""
        return cls(LOOPBACK, port, LOOPBACK, num_ranks)


@dataclass(frozen=True)
class Launcher:
    """Who starts the processes."""

    pid: int
    environ: Mapping[str, str]  # the user's, as the launcher found it
    attempt: int = 1
    module: str | None = None  # what the processes run; None: the worker


@dataclass(frozen=True)
class WorkerSpec:
    """One rank."""

    rank: Rank
    share: CoreShare
    process: ProcessSpec
    physical_id: int | None = None  # of its device, on Ascend


@dataclass(frozen=True)
class JobPlan:
    """Everything that this host starts."""

    run_dir: RunDir
    attempt: int
    target: Target
    meeting: Meeting
    batches: BatchPlan
    scheduler: ProcessSpec | None  # None where another host runs it
    workers: tuple[WorkerSpec, ...]

    @property
    def processes(self) -> list[ProcessSpec]:
        """All processes, in the order of their start: the scheduler listens before workers ask."""
        first = [] if self.scheduler is None else [self.scheduler]
        return first + [worker.process for worker in self.workers]


def plan_job(
    config: RunConfig,
    run_dir: RunDir,
    host: HostDevices,
    meeting: Meeting,
    launcher: Launcher,
    rank_table: str | None = None,
) -> JobPlan:
    """Decide what runs on this host; nothing is started or written.

    Raises ConfigError when the ranks do not divide the global batch.
    """
    batches = plan_batches(config.train, meeting.world_size)

    def process(worker: WorkerEnv) -> ProcessSpec:
        return ProcessSpec(
            name=worker.name,
            argv=worker_argv(run_dir, launcher),
            env=format_environment(worker, avx512_guard=host.avx512_guard, user=launcher.environ),
            log=run_dir.log(launcher.attempt, worker.name),
        )

    def environment(rank: int | None, position: int, share: CoreShare) -> WorkerEnv:
        return WorkerEnv(
            role="scheduler" if rank is None else "worker",
            rank=rank,
            world_size=meeting.world_size,
            device=position,
            target=host.target,
            scheduler_host=meeting.scheduler_host,
            scheduler_port=meeting.scheduler_port,
            worker_ip=meeting.own_ip,
            collective_timeout_s=config.launch.collective_timeout_s,
            share=share,
            launcher_pid=launcher.pid,
            rank_table=rank_table,
            visible_devices=host.visible,
            connect_timeout_s=config.launch.hccl_connect_timeout_s,
            plog=None if rank is None or host.target == "CPU" else str(run_dir.plog(launcher.attempt, f"rank-{rank}")),
        )

    def worker(index: int, device: DeviceNumber, share: CoreShare) -> WorkerSpec:
        rank = Rank(index, meeting.world_size, device.position)
        spec = process(environment(index, device.position, share))
        return WorkerSpec(rank, share, spec, device.physical_id if host.target == "Ascend" else None)

    here = enumerate(zip(host.devices, host.shares, strict=True), start=meeting.first_rank)
    workers = tuple(worker(index, device, share) for index, (device, share) in here)
    scheduler = process(environment(None, 0, CoreShare((), 1))) if meeting.runs_scheduler else None
    return JobPlan(run_dir, launcher.attempt, host.target, meeting, batches, scheduler, workers)


def worker_argv(run_dir: RunDir, launcher: Launcher) -> tuple[str, ...]:
    """Return the command of every process of the job; who it is stands in its environment."""
    options = ("--run-dir", str(run_dir.path), "--attempt", str(launcher.attempt))
    command = (sys.executable, "-m", launcher.module or WORKER_MODULE, *options)
    return command if run_dir.node == 0 else (*command, "--node", str(run_dir.node))


def plan_as_json(plan: JobPlan, num_clips: int | None = None) -> dict[str, Any]:
    """Return what RUN/plan.json holds."""
    meeting, batches = plan.meeting, plan.batches
    return {
        "run_dir": str(plan.run_dir.path),
        "attempt": plan.attempt,
        "target": plan.target,
        "world_size": meeting.world_size,
        "scheduler": {"host": meeting.scheduler_host, "port": meeting.scheduler_port, **_as_json(plan.scheduler)},
        "batches": {
            "global_batch": batches.global_batch,
            "rank_batch": batches.rank_batch,
            "micro_batch": batches.micro_batch,
            "accumulation": batches.accumulation,
            "num_clips": num_clips,
            "steps_per_epoch": None if num_clips is None else batches.steps_per_epoch(num_clips),
        },
        "workers": [
            {
                "rank": worker.rank.index,
                "device": worker.rank.device,
                **({} if worker.physical_id is None else {"physical_id": worker.physical_id}),
                "cores": list(worker.share.cores),
                "threads": worker.share.num_threads,
                **_as_json(worker.process),
            }
            for worker in plan.workers
        ],
    }


def _as_json(spec: ProcessSpec | None) -> dict[str, Any]:
    if spec is None:
        return {}
    return {"process": spec.name, "argv": list(spec.argv), "env": dict(spec.env), "log": str(spec.log)}


def format_job(plan: JobPlan, num_clips: int | None = None) -> list[str]:
    """Return lines about the whole job: its size and the batch arithmetic."""
    meeting, batches = plan.meeting, plan.batches
    lines = [
        f"{meeting.world_size} ranks on {plan.target}, scheduler {meeting.scheduler_host}:{meeting.scheduler_port}, "
        f"run directory {plan.run_dir.path}",
        f"batch: {batches.global_batch} clips a step = {meeting.world_size} ranks x {batches.accumulation} "
        f"micro-batches x {batches.micro_batch} clips",
    ]
    if num_clips is not None:
        steps = batches.steps_per_epoch(num_clips)
        used = steps * batches.global_batch
        lines.append(
            f"epoch: {num_clips} clips = {steps} steps, {steps * batches.rank_batch} clips a rank"
            + (f"; {num_clips - used} sit out each epoch" if used != num_clips else "")
        )
    return lines


def format_processes(plan: JobPlan) -> list[str]:
    """Return lines about each process of this host: what it runs on, its command, environment and log."""
    lines = []
    if plan.scheduler is not None:
        lines += ["", "scheduler", *_process_lines(plan.scheduler)]
    for worker in plan.workers:
        cores = f", cores {','.join(map(str, worker.share.cores))}" if worker.share.cores else ""
        node = "" if worker.physical_id is None else f" (davinci{worker.physical_id})"
        place = f"device {worker.rank.device}{node}{cores}, threads {worker.share.num_threads}"
        lines += ["", f"rank {worker.rank.index}: {place}", *_process_lines(worker.process)]
    return lines


def _process_lines(spec: ProcessSpec) -> list[str]:
    environment = " ".join(f"{name}={value}" for name, value in sorted(spec.env.items()))
    return [f"  command: {' '.join(spec.argv)}", f"  environment: {environment}", f"  log: {spec.log}"]
