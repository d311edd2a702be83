"""`fcn4dist launch --dry-run`: the whole job on paper, for any number of hosts, on any machine."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from fcn4dist.ascend.addresses import is_routable
from fcn4dist.ascend.devices import VisibleDevices, find_devices, number_devices
from fcn4dist.ascend.rank_table.rules.fields import is_address
from fcn4dist.ascend.rank_table.schema import RankTable
from fcn4dist.config import RunConfig, override_config, plan_batches
from fcn4dist.data.source import check_source
from fcn4dist.errors import RankTableError
from fcn4dist.hosts.job_table import (
    check_job_table,
    find_own_server,
    find_server,
    generate_job_table,
    load_given_table,
)
from fcn4dist.hosts.place import Place, resolve_for_job
from fcn4dist.hosts.roster import Layout, Node
from fcn4dist.hosts.wire import MIN_SECRET, SECRET
from fcn4dist.job.devices import HostDevices
from fcn4dist.job.plan import JobPlan, Launcher, Meeting, format_job, format_processes, plan_as_json, plan_job
from fcn4dist.job.ports import LOOPBACK, choose_port
from fcn4dist.launch.host_job import GENERATED, LaunchRequest, check_own_precision, survey
from fcn4dist.launch.training_data import adopt_data, check_data, lay_demo_under
from fcn4dist.model.memory_estimate import MemoryEstimate, count_tags, estimate_memory, format_memory
from fcn4dist.run.attempts import check_run_dir, dated_folder, next_attempt
from fcn4dist.run.folder import RunDir

MAX_LOOKUPS = 32  # names at once: one that nobody knows may take seconds


@dataclass(frozen=True)
class DryRun:
    """What would be done."""

    layout: Layout  # the address of a host that this machine cannot resolve is its name
    addresses: list[list[str]]  # what is known of every host
    commands: list[str]  # what starts the launcher of every host; none for one host
    plans: list[JobPlan]  # one a host
    num_clips: int | None  # to train on
    shards: list[tuple[str, int]]  # name, rows; of the training part
    memory: MemoryEstimate
    notes: list[str]


def show_dry_run(config: RunConfig, request: LaunchRequest, console: Console, *, as_json: bool = False) -> None:
    """Print what `launch` would do with these options, on one host or several; nothing is started or written.

    Raises UserError for what launch would refuse.
    """
    place = request.place
    check_source(config, demo=request.demo, num_hosts=1 if place is None else place.num_nodes)
    if place is not None and place.devices is not None and request.devices is None:
        config = override_config(config, launch={"devices": place.devices})
    run_dir = RunDir((request.run_dir or dated_folder()).absolute())
    check_run_dir(run_dir, resume=request.resume)
    host = survey(config, imagined=True)
    check_own_precision(config.train, host.target)
    job = imagine_job(config, run_dir.path, host, request)
    text = json.dumps(as_document(job), indent=1) if as_json else format_dry_run(job)
    console.file.write(text + "\n")  # rich would take seconds over a thousand ranks


def imagine_job(
    config: RunConfig,
    run_path: Path,
    host: HostDevices,
    request: LaunchRequest,
) -> DryRun:
    """Plan a job as `launch` would; nothing is started or written, and the other hosts are not asked.

    `host` is what a host has; with a host file, only its target counts and the number of devices is the file's.
    Raises UserError for what `launch` would refuse as far as one host can tell.
    """
    place, rank_table = request.place, request.rank_table
    addresses = [[LOOPBACK]] if place is None else look_up_hosts(place)
    layout = imagine_layout(config, place, addresses, run_path)
    hosts = [_imagine_host(rank, node, host, place) for rank, node in enumerate(layout.nodes)]
    world_size = layout.world_size
    source = check_source(config, demo=request.demo, num_hosts=len(layout.nodes))
    if source == "demo":
        config = lay_demo_under(config, RunDir(run_path), demo_set=Path("demo-set"), num_ranks=world_size)  # named only
    config = adopt_data(config)
    batches = plan_batches(config.train, world_size)
    notes, num_clips = [], None
    if source == "demo":
        notes.append("data: the embedded demo set, synthesised and prepared first where it is not there yet")
    elif source == "shards":
        num_clips = check_data(override_config(config, data={"verify": "size"}), batches).num_rows("train")
    else:
        notes.append(f"data: {config.data.source_dir} would be prepared into {run_path / 'data'} first")
    tags, shards = _describe_data(config)
    in_run = RunDir(run_path).rank_table
    if rank_table in GENERATED:
        is_exported, more = _imagine_table(rank_table, layout, hosts, in_run)
    else:
        is_exported, more = _describe_given_table(rank_table, layout, addresses, in_run, hosts)
    notes += more
    port = request.master_port or choose_port()
    if place is not None:
        port = place.master_port + 1
        secret = f"the same secret, {MIN_SECRET} characters or more: {SECRET}, or --job-secret-file FILE"
        notes.append(f"launchers: meet at {layout.nodes[0].address} port {place.master_port}; all hosts need {secret}")
    launcher = Launcher(os.getpid(), os.environ, next_attempt(RunDir(run_path)))
    plans = []
    for rank, node in enumerate(layout.nodes):
        meeting = Meeting(layout.nodes[0].address, port, node.address, world_size, node.first_rank, rank == 0)
        run_dir = RunDir(run_path, rank)
        table = str(run_dir.rank_table) if is_exported else None
        plans.append(plan_job(config, run_dir, hosts[rank], meeting, launcher, table))
    memory = estimate_memory(config.model, config.mel, config.train, batches, tags, host.target)
    commands = [] if place is None else [_launcher_command(place, rank) for rank in range(place.num_nodes)]
    return DryRun(layout, addresses, commands, plans, num_clips, shards, memory, notes)


def look_up_hosts(place: Place) -> list[list[str]]:
    """Return the addresses of every host as far as this machine knows them; an empty list where it knows none."""
    names = place.names or [place.master_host, *[""] * (place.num_nodes - 1)]
    with ThreadPoolExecutor(MAX_LOOKUPS) as pool:
        return list(pool.map(_look_up, names))


def _look_up(name: str) -> list[str]:
    if not name or is_address(name):
        return [name] if name else []
    return [address for address in resolve_for_job(name) if is_routable(address)]


def imagine_layout(
    config: RunConfig, place: Place | None, addresses: Sequence[Sequence[str]], run_path: Path
) -> Layout:
    """Return the hosts of the job: named and counted by the place where it knows them, else alike and numbered."""
    devices = config.launch.devices
    if place is None:
        return Layout(nodes=[Node(name="this host", address=LOOPBACK, devices=devices, first_rank=0)], run_dir="")
    counts = place.expected or [devices] * place.num_nodes
    nodes, first_rank = [], 0
    for rank, count in enumerate(counts):
        name = place.names[rank] if place.names else f"node-{rank}"
        unresolved = place.master_host if rank == 0 and not place.names else name
        address = addresses[rank][0] if addresses[rank] else unresolved
        nodes.append(Node(name=name, address=address, devices=count, first_rank=first_rank))
        first_rank += count
    return Layout(nodes=nodes, run_dir=str(run_path))


def _imagine_host(rank: int, node: Node, host: HostDevices, place: Place | None) -> HostDevices:
    """Return what a host has: the devices of a host file, those that this host really has, else 0 .. n-1."""
    shares = (host.shares * node.devices)[: node.devices]
    found = VisibleDevices((), ())
    if host.target == "Ascend":
        listed = place.device_lists[rank] if place is not None and place.device_lists else None
        if rank == (0 if place is None else place.node_rank):
            found = find_devices(os.environ)
        if listed is not None:
            is_here = set(listed) <= set(found.physical_ids)
            found = found.choose(listed, "--hostfile") if is_here else VisibleDevices(listed, listed)
    numbers = found.numbers[: node.devices]
    if len(numbers) < node.devices:
        return replace(host, devices=number_devices(node.devices), shares=shares)
    return replace(host, devices=numbers, shares=shares, visible=found.variable)


def _physical_ids(host: HostDevices) -> list[int]:
    return [device.physical_id for device in host.devices]


def _launcher_command(place: Place, rank: int) -> str:
    """Return this command as it is given on host `rank`; a host file and a scheduler tell each host its number."""
    words = [word for word in sys.argv[1:] if word not in ("--dry-run", "--json")]
    if place.source == "--nodes":
        for option, value in (("--node-rank", str(rank)), ("--master-addr", place.master_host)):
            words = [*_without(words, option), option, value]
    return shlex.join(["fcn4dist", *words])


def _without(words: Sequence[str], option: str) -> list[str]:
    """Return a command line without an option and its value, spelt as two words or as one."""
    return [
        word
        for before, word in zip(["", *words], words, strict=False)
        if option not in (before, word) and not word.startswith(f"{option}=")
    ]


def _describe_data(config: RunConfig) -> tuple[int, list[tuple[str, int]]]:
    """Return the number of tags, and the shards of the training part where a manifest lists them."""
    from fcn4dist.data.dataset import open_dataset  # NumPy loads here

    folder = config.data.records_dir
    manifest = None if folder is None or not folder.is_dir() else open_dataset(folder).manifest
    if manifest is not None:
        return len(manifest.tags), [(s.file, s.num_rows) for s in manifest.shards if s.split == "train"]
    return count_tags(config), []


def _imagine_table(
    rank_table: str, layout: Layout, hosts: Sequence[HostDevices], in_run: Path
) -> tuple[bool, list[str]]:
    """Return whether workers would get the table that launch generates, and lines about it.

    For a job on this host alone, with its NPUs here, it is generated. Raises RankTableError where launch would.
    """
    if hosts[0].target == "CPU":
        return False, []
    is_exported = rank_table == "export"
    handed = "exported" if is_exported else "not handed to HCCL (--rank-table export does)"
    ids = _physical_ids(hosts[0])
    if len(hosts) > 1 or not set(ids) <= set(find_devices(os.environ).physical_ids):
        return is_exported, [f"rank table: generated at the start from the NPUs of all hosts, into {in_run}; {handed}"]
    found = find_own_server(ids, layout.nodes[0].address, os.environ, is_alone=True)
    table, gap = generate_job_table(layout, [found], read_as=in_run if is_exported else None)
    if table is None:
        return False, [f"no rank table: {gap}; HCCL finds the addresses by itself"]
    return is_exported, [f"rank table: from the NPUs here, into {in_run}; {handed}"]


def _describe_given_table(
    rank_table: str,
    layout: Layout,
    addresses: Sequence[Sequence[str]],
    in_run: Path,
    hosts: Sequence[HostDevices],
) -> tuple[bool, list[str]]:
    """Return whether workers would get the table that is given, and lines about it, after launch's own checks."""
    if rank_table == "none":
        return False, []
    path, target = Path(rank_table), hosts[0].target
    is_exported = target == "Ascend"
    given = load_given_table(path, target, os.environ, in_run, [address for known in addresses for address in known])
    known = _address_as_table(layout, addresses, given.table)
    for rank, host in enumerate(hosts):
        check_job_table(given.table, rank_table, known, rank, _physical_ids(host), is_exported=is_exported)
    notes = []
    if not is_exported:
        try:
            load_given_table(path, "Ascend", {}, in_run, [address for known in addresses for address in known])
        except RankTableError as error:
            notes.append(f"rank table: on Ascend it would be refused: {error}")
    where = "exported" if is_exported else "not exported, since CPU needs none"
    said = f"{len(given.table.servers)} servers, {given.table.world_size} ranks as in the job; {where}"
    return is_exported, [f"rank table: {rank_table}, {said}", *notes]


def _address_as_table(layout: Layout, addresses: Sequence[Sequence[str]], table: RankTable) -> Layout:
    """Return the hosts with that one of their addresses which the table has; none for a host that is unresolved."""
    nodes = []
    for node, known in zip(layout.nodes, addresses, strict=True):
        listed = (address for address in known if find_server(table, address) is not None)
        nodes.append(node.model_copy(update={"address": next(listed, known[0] if known else "")}))
    return Layout(nodes=nodes, run_dir=layout.run_dir)


def as_document(job: DryRun) -> dict[str, Any]:
    """Return the dry run as one document: the plan of every host, positions of every rank, memory, notes."""
    first = plan_as_json(job.plans[0], job.num_clips)
    batches = job.plans[0].batches
    return {
        **{key: first[key] for key in ("run_dir", "attempt", "target", "world_size", "scheduler", "batches")},
        "hosts": [
            {**node.model_dump(), "is_resolved": bool(known), "workers": plan_as_json(plan)["workers"]}
            | ({"command": job.commands[rank]} if job.commands else {})
            for rank, (node, known, plan) in enumerate(zip(job.layout.nodes, job.addresses, job.plans, strict=True))
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
        where = (
            f"at {job.layout.nodes[rank].address}" if job.addresses[rank] else "unresolved: no address is known here"
        )
        lines += [] if is_one else ["", f"{job.layout.title(rank)} {where}", f"launcher: {job.commands[rank]}"]
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
