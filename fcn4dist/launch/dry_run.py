"""`fcn4dist launch --dry-run`: the whole job on paper, for any number of hosts, on any machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcn4dist.ascend.rank_table.parse import load_rank_table
from fcn4dist.config import RunConfig, override_config, plan_batches
from fcn4dist.hosts.job_table import check_job_table
from fcn4dist.hosts.place import Place
from fcn4dist.hosts.roster import Layout, Node
from fcn4dist.job.devices import HostDevices
from fcn4dist.job.plan import JobPlan, Launcher, Meeting, format_job, format_processes, plan_as_json, plan_job
from fcn4dist.job.ports import LOOPBACK, choose_port
from fcn4dist.launch.training_data import check_data, is_demo, lay_demo_under
from fcn4dist.model.memory_estimate import MemoryEstimate, estimate_memory, format_memory
from fcn4dist.run.attempts import next_attempt
from fcn4dist.run.folder import RunDir


@dataclass(frozen=True)
class DryRun:
    """What would be done."""

    layout: Layout
    plans: list[JobPlan]  # one a host
    num_clips: int | None  # to train on
    shards: list[tuple[str, int]]  # name, rows; of the training part
    memory: MemoryEstimate
    notes: list[str]


def imagine_job(
    config: RunConfig,
    run_path: Path,
    host: HostDevices,
    place: Place | None,
    *,
    master_port: int | None = None,
    rank_table: str = "auto",
) -> DryRun:
    """Plan a job as `launch` would; nothing is started or written, and the other hosts are not asked.

    `host` is what a host has; with a host file, only its target counts and the number of devices is the file's.
    Raises UserError for what `launch` would refuse as far as one host can tell.
    """
    layout = imagine_layout(config, place, run_path)
    world_size = layout.world_size
    if on_demo := is_demo(config):
        config = lay_demo_under(config, RunDir(run_path), demo_set=Path("demo-set"), num_ranks=world_size)  # named only
    batches = plan_batches(config.train, world_size)
    notes, num_clips = [], None
    if on_demo:
        notes.append("data: the embedded demo set, synthesised and prepared first where it is not there yet")
    elif config.data.records_dir is not None:
        num_clips = check_data(override_config(config, data={"verify": "size"}), batches).num_rows("train")
    else:
        notes.append(f"data: {config.data.source_dir} would be prepared into {run_path / 'data'} first")
    tags, shards = _describe_data(config)
    table, note = _describe_table(rank_table, layout, host)
    notes += [note] if note else []
    port = master_port or choose_port()
    if place is not None:
        port = place.master_port + 1
    launcher = Launcher(os.getpid(), os.environ, next_attempt(RunDir(run_path)))
    plans = []
    for rank, node in enumerate(layout.nodes):
        meeting = Meeting(layout.nodes[0].address, port, node.address, world_size, node.first_rank, rank == 0)
        own = _resize(host, node.devices)
        plans.append(plan_job(config, RunDir(run_path, rank), own, meeting, launcher, table))
    memory = estimate_memory(config.model, config.mel, config.train, batches, tags, host.target)
    return DryRun(layout, plans, num_clips, shards, memory, notes)


def imagine_layout(config: RunConfig, place: Place | None, run_path: Path) -> Layout:
    """Return the hosts of the job: named and counted by the place where it knows them, else alike and numbered."""
    devices = config.launch.devices
    if place is None:
        return Layout(nodes=[Node(name="this host", address=LOOPBACK, devices=devices, first_rank=0)], run_dir="")
    counts = place.expected or [devices] * place.num_nodes
    nodes, first_rank = [], 0
    for rank, count in enumerate(counts):
        name = place.names[rank] if place.names else f"node-{rank}"
        address = place.master_host if rank == 0 else name
        nodes.append(Node(name=name, address=address, devices=count, first_rank=first_rank))
        first_rank += count
    return Layout(nodes=nodes, run_dir=str(run_path))


def _resize(host: HostDevices, num_devices: int) -> HostDevices:
    if len(host.devices) == num_devices:
        return host
    shares = (host.shares * num_devices)[:num_devices]
    return replace(host, devices=tuple(range(num_devices)), shares=shares)


def _describe_data(config: RunConfig) -> tuple[int, list[tuple[str, int]]]:
    """Return the number of tags, and the shards of the training part where a manifest lists them."""
    from fcn4dist.data.dataset import open_dataset  # NumPy loads here

    folder = config.data.records_dir
    manifest = None if folder is None or not folder.is_dir() else open_dataset(folder).manifest
    if manifest is not None:
        return len(manifest.tags), [(s.file, s.num_rows) for s in manifest.shards if s.split == "train"]
    tags = config.data.tags
    return (tags if isinstance(tags, int) else len(tags) if isinstance(tags, list) else 50), []


def _describe_table(rank_table: str, layout: Layout, host: HostDevices) -> tuple[str | None, str]:
    """Return the path of the rank table that workers would get, and a line about it."""
    if rank_table == "none":
        return None, ""
    if rank_table == "auto":
        if host.target == "CPU" or len(layout.nodes) == 1:
            return None, ""
        generated = str(Path(layout.run_dir) / "rank_table.json")
        return generated, f"rank table: generated at the start from the NPUs of all hosts, into {generated}"
    table = load_rank_table(Path(rank_table))
    check_job_table(table, rank_table, layout, 0, host.devices, is_exported=False)
    where = "exported" if host.target == "Ascend" else "not exported, since CPU needs none"
    return str(Path(rank_table).absolute()), (
        f"rank table: {rank_table}, {len(table.servers)} servers, {table.world_size} ranks as in the job; {where}"
    )


def as_json(job: DryRun) -> dict[str, Any]:
    """Return the dry run as one document: the plan of every host, positions of every rank, memory, notes."""
    first = plan_as_json(job.plans[0], job.num_clips)
    batches = job.plans[0].batches
    return {
        **{key: first[key] for key in ("run_dir", "attempt", "target", "world_size", "scheduler", "batches")},
        "hosts": [
            {**node.model_dump(), "workers": plan_as_json(plan)["workers"]}
            for node, plan in zip(job.layout.nodes, job.plans, strict=True)
        ],
        "shards": [{"file": file, "num_rows": rows} for file, rows in job.shards],
        "positions_in_step": [
            [rank * batches.rank_batch, (rank + 1) * batches.rank_batch] for rank in range(batches.world_size)
        ],
        "memory": job.memory.to_json(),
        "notes": job.notes,
    }


def format_dry_run(job: DryRun) -> str:
    """Return the dry run for people."""
    lines = [*format_job(job.plans[0], job.num_clips), _format_shards(job), format_memory(job.memory)]
    is_one = len(job.plans) == 1
    for rank, plan in enumerate(job.plans):
        lines += [] if is_one else ["", f"{job.layout.title(rank)} at {job.layout.nodes[rank].address}"]
        lines += format_processes(plan)
    return "\n".join([*lines, "", *job.notes, "nothing was started or written (--dry-run)"])


def _format_shards(job: DryRun) -> str:
    size, last = job.plans[0].batches.rank_batch, job.plans[0].batches.world_size - 1
    read = _sum_up(job.shards) if job.shards else "all shards"
    return (
        f"shards: every rank reads {read}; of the {job.plans[0].batches.global_batch} clips of a step, in the order "
        f"that train.seed gives, rank 0 takes the first {size}" + (f", rank {last} the last {size}" if last else "")
    )


def _sum_up(shards: Sequence[tuple[str, int]]) -> str:
    rows = [count for _, count in shards]
    return f"{len(shards)} shards of {min(rows)} to {max(rows)} clips"
