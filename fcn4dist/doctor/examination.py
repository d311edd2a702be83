"""The pipeline of `fcn4dist doctor`: every check, in the order in which an operator would ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.config import RunConfig, plan_batches
from fcn4dist.doctor import ascend, folders, hccl, hosts, job, machine, software
from fcn4dist.doctor.question import Check, Surroundings
from fcn4dist.doctor.trial import DeviceTrial, try_devices
from fcn4dist.job.devices import Target


@dataclass(frozen=True)
class Examination:
    """What is to be examined."""

    config: RunConfig
    rank_table: Path | None = None
    run_dir: Path = Path("runs")
    hostfile: Path | None = None  # its hosts are asked by ssh
    tries_devices: bool = False  # start a rank a device
    num_devices: int | None = None  # to try; None: all NPUs
    demo: bool = False  # the job is one on the embedded demo set
    is_quick: bool = False  # leave out what takes seconds: MindSpore's trial, CANN's modules, the digests of shards


def examine(asked: Examination) -> Iterator[Check]:
    """Yield every check as it is done. Raises ConfigError for what `launch` would refuse in the config."""
    around = Surroundings()
    mindspore, numpy = software.installed_version("mindspore"), software.installed_version("numpy")
    num_ranks = asked.config.launch.devices  # of this host
    num_servers, world_size = ascend.find_job_size(asked.rank_table, num_ranks)
    config = folders.config_to_be_used(asked.config, asked.run_dir, world_size, demo=asked.demo)
    batches = plan_batches(config.train, world_size)
    npus = ascend.examine_npus(config.launch.device_target, num_ranks, num_servers, around)
    target = choose_target(config.launch.device_target, npus)

    yield software.check_python()
    yield software.check_mindspore(mindspore)
    yield software.check_cann(mindspore, target, around)
    yield software.check_numpy(numpy)
    yield software.check_libc()
    if target == "Ascend" and not asked.is_quick:
        yield software.check_ascend_modules(around)
    if mindspore is not None and not asked.is_quick:
        yield software.check_mindspore_runs(target, around)
    yield machine.check_cpu(mindspore, target, around)
    yield machine.check_cores(target, num_ranks, around)
    yield machine.check_memory(config, target, batches, num_ranks, around)
    yield machine.check_shm(around)
    yield machine.check_clock(num_servers, machine.read_clock())
    if asked.hostfile is not None:
        yield from hosts.examine_hosts(asked.hostfile, around)
    yield npus.check
    yield ascend.check_root_info(npus, around)
    if asked.rank_table is not None:
        yield ascend.check_rank_table(asked.rank_table, npus, num_ranks)
    if target == "Ascend":
        yield hccl.check_interface(num_servers > 1 or asked.hostfile is not None, around)
        yield hccl.check_hccl_ports(around)
        yield hccl.check_npu_processes(around)
    yield job.check_environment(target, around)
    yield job.check_ports(target, num_ranks)
    yield job.check_batch(batches)
    bytes_to_prepare = 0
    if numpy is not None:
        data = folders.examine_data(asked.config, batches, is_quick=asked.is_quick, demo=asked.demo)
        bytes_to_prepare = data.bytes_to_prepare
        yield data.check
    yield folders.check_run_folder(asked.run_dir)
    yield folders.check_disk(config, asked.run_dir, bytes_to_prepare)
    if asked.tries_devices:
        remarks = () if npus.discovery is None else npus.discovery.remarks
        yield from try_devices(DeviceTrial(asked.config, asked.num_devices, remarks), npus.device_ids)


def choose_target(wanted: str, npus: ascend.Npus) -> Target:
    """Return what the job would run on: what was asked for, or Ascend where an NPU was found."""
    if wanted in ("Ascend", "CPU"):
        return "Ascend" if wanted == "Ascend" else "CPU"
    return "Ascend" if npus.discovery is not None else "CPU"
