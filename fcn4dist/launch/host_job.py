"""This host's part of a job: the devices, data and rank table that it brings, what it decides as the chief, what it writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fcn4dist.ascend.cann import find_cann_version
from fcn4dist.ascend.devices import find_devices
from fcn4dist.ascend.tools import Tools, parse_chip
from fcn4dist.config import (
    RunConfig,
    TrainConfig,
    build_config,
    check_precision,
    format_config,
    keep_batches,
    plan_batches,
)
from fcn4dist.data.source import check_source
from fcn4dist.errors import ConfigError
from fcn4dist.files import digest_file, save_json, save_text
from fcn4dist.hosts.place import Place
from fcn4dist.hosts.roster import LOCAL_KEYS, Go, Readiness, check_same_data, shared_config
from fcn4dist.hosts.session import Say, Session, Verdict
from fcn4dist.job.console import JobConsole
from fcn4dist.job.devices import HostDevices, require_mindspore, resolve_target, survey_host
from fcn4dist.job.events import WallClock
from fcn4dist.job.plan import JobPlan, Launcher, Meeting, plan_as_json, plan_job
from fcn4dist.job.ports import check_port, choose_port, is_free
from fcn4dist.job.state import Outcome
from fcn4dist.launch import endings
from fcn4dist.launch.resume import check_resumable
from fcn4dist.launch.training_data import check_data, resolve_data
from fcn4dist.run.attempts import next_attempt, writing
from fcn4dist.run.environment import describe_environment
from fcn4dist.run.folder import RunDir
from fcn4dist.run.view import live_drawing

if TYPE_CHECKING:
    from fcn4dist.data.dataset import DataSet
    from fcn4dist.launch.training_data import ShownProgress


GENERATED = ("auto", "export")  # the words of --rank-table with which the job's table is made from what the hosts find


@dataclass(frozen=True)
class LaunchRequest:
    """What the user asked for beside the config."""

    run_dir: Path | None = None  # None: runs/<date and time>, on a member the master's
    resume: bool = False  # run_dir is a run to continue
    master_port: int | None = None  # of one host's scheduler; None: a free one
    devices: int | None = None  # of --devices; what a host file or an operator says comes after it
    rank_table: str = "auto"  # auto, none, export, or a file
    job_secret_file: Path | None = None
    shows_ranks: bool = False  # a line a rank on the live console
    place: Place | None = None  # among several hosts; None: this one is alone
    demo: bool = False  # train on the embedded demo set: --demo, or nothing was given that speaks of data
    has_config: bool = True  # False: this host resumes a run whose config only node 0 has

    @property
    def is_chief(self) -> bool:
        """Whether rank 0 runs here."""
        return self.place is None or self.place.is_master

    @property
    def given_table(self) -> Path | None:
        """The rank table that the user named."""
        return None if self.rank_table in (*GENERATED, "none") else Path(self.rank_table)


def say_on(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def survey(config: RunConfig, *, imagined: bool) -> HostDevices:
    """Return the devices of this host that the job uses; `imagined`: of a host that has all that is asked for."""
    wanted = config.launch.device_target
    if not imagined:
        require_mindspore()
    target = "Ascend" if imagined and wanted == "Ascend" else resolve_target(wanted)
    return survey_host(target, config.launch.devices, bind_cores=config.launch.bind_cores, imagined=imagined)


def choose_devices(host: HostDevices, place: Place | None) -> HostDevices:
    """Return the devices that a host file lists for this host, where it lists any; CPU has none to choose.

    Raises ConfigError when --devices says another number, DeviceError when a listed NPU is not there.
    """
    listed = None if place is None else place.device_ids
    if place is None or listed is None:
        return host
    if len(listed) != len(host.devices):
        raise ConfigError(f"--devices {len(host.devices)}: {place.source} gives this host {len(listed)}")
    if host.target == "CPU":
        return host
    chosen = find_devices(os.environ).choose(listed, place.source)
    return replace(host, devices=chosen.numbers[: len(listed)], visible=chosen.variable)


def check_own_precision(train: TrainConfig, target: str) -> None:
    """Raise ConfigError where this host's chip cannot compute in train.amp_dtype; npu-smi is asked only for bfloat16."""
    is_open = target == "Ascend" and train.amp_dtype == "bfloat16"
    check_precision(train, target, parse_chip(Tools(os.environ).ask_npu_smi()) if is_open else None)


class HostJob:
    """This host's part of the job, once all hosts are there."""

    def __init__(
        self,
        config: RunConfig,
        request: LaunchRequest,
        host: HostDevices,
        session: Session,
        run_dir: RunDir,
        console: Console,
    ) -> None:
        self.config, self.request, self.host, self.session, self.run_dir = config, request, host, session, run_dir
        self.console = console
        self.node = session.layout.nodes[session.card.node_rank]
        self._num_clips: int | None = None
        self._given_table: dict[str, Any] | None = None  # as the run keeps it
        self._history: list[endings.FailedAttempt] = []
        self._lost_ports: frozenset[int] = frozenset()

    def say(self, text: str) -> None:
        """Print a line for the user."""
        say_on(self.console, text)

    def prepare(self, progress: ShownProgress | None) -> Readiness:
        """Resolve and check the rank table and the data here."""
        request, layout = self.request, self.session.layout
        source = check_source(self.config, demo=request.demo, num_hosts=len(layout.nodes))
        table = self._check_given_table()
        if source == "demo":
            self.session.wait_for_master_data()
        self.config, found = prepare_data(
            *(self.config, self.run_dir, layout.world_size, self.say, progress),
            resume=request.resume,
            demo=request.demo,
            is_chief=request.is_chief,
        )
        self._num_clips = found.num_rows("train")
        self.session.tell_prepared()
        return Readiness(
            attempt=next_attempt(self.run_dir),
            data=found.identity() if len(layout.nodes) > 1 else {},
            data_dir=str(found.path),
            rank_table_sha256=table,
            server=self._own_server(),
        )

    def _check_given_table(self) -> str | None:
        path, layout = self.request.given_table, self.session.layout
        if path is None:
            return None
        from fcn4dist.hosts.job_table import check_job_table, load_given_table

        is_exported, addresses = self.host.target == "Ascend", [node.address for node in layout.nodes]
        given = load_given_table(path, self.host.target, os.environ, self.run_dir.rank_table, addresses)
        check_job_table(
            *(given.table, str(path), layout, self.session.card.node_rank, self._physical_ids), is_exported=is_exported
        )
        if is_exported:
            self._given_table = given.document
        else:
            self.say(f"{path}: {given.table.world_size} ranks as in the job; not exported, since CPU needs none")
        return digest_file(path)

    @property
    def _physical_ids(self) -> list[int]:
        return [device.physical_id for device in self.host.devices]

    def _own_server(self) -> dict[str, Any] | None:
        if self.host.target == "CPU" or self.request.rank_table not in GENERATED:
            return None
        from fcn4dist.hosts.job_table import find_own_server

        is_alone = len(self.session.layout.nodes) == 1
        return find_own_server(self._physical_ids, self.node.address, os.environ, is_alone=is_alone)

    def _generate_table(self, readies: Sequence[Readiness]) -> dict[str, Any] | None:
        """Return the job's table on the chief, or say in one line why there is none."""
        found = [ready.server for ready in readies if ready.server is not None]
        if not found:
            return None
        from fcn4dist.hosts.job_table import generate_job_table

        read_as = self.run_dir.rank_table if self.request.rank_table == "export" else None
        table, gap = generate_job_table(self.session.layout, found, read_as=read_as)
        if table is None:
            self.say(f"no rank table: {gap}; HCCL finds the addresses by itself")
        return table

    def decide(self, readies: Sequence[Readiness]) -> Go:
        """Decide on the chief what all hosts begin with."""
        layout, place = self.session.layout, self.request.place
        check_same_data(layout, readies)
        wanted = self.request.master_port if place is None else place.master_port + 1
        return Go(
            scheduler_host=self.node.address,
            scheduler_port=choose_scheduler_port(self.node.address, wanted, place, self._lost_ports),
            attempt=max(ready.attempt for ready in readies),
            config=shared_config(self.config),
            rank_table=self._generate_table(readies),
        )

    def accept(self, go: Go) -> JobPlan:
        """Take the chief's word: write the run directory, and return what runs on this host."""
        run_dir, layout = self.run_dir, self.session.layout
        self.config = merge_config(go.config, self.config)
        meeting = Meeting(
            scheduler_host=go.scheduler_host,
            scheduler_port=go.scheduler_port,
            own_ip=self.node.address,
            world_size=layout.world_size,
            first_rank=self.node.first_rank,
            runs_scheduler=self.session.is_chief,
        )
        launcher = Launcher(os.getpid(), os.environ, go.attempt)
        with writing(run_dir):
            table = self._keep_table(go)
            plan = plan_job(self.config, run_dir, self.host, meeting, launcher, table)
            self.session.give_up_after(self.config.launch.peer_timeout_s)
            self.session.watch_scheduler(go.scheduler_port, run_dir.listening(go.attempt))
            save_text(run_dir.config, format_config(self.config))
            save_json(run_dir.environment, describe_environment(find_cann_version(os.environ)))
            run_dir.failure.unlink(missing_ok=True)
            save_json(run_dir.plan, plan_as_json(plan, self._num_clips))
        return plan

    def _keep_table(self, go: Go) -> str | None:
        """Write the job's rank table into the run, or take an older one away; return its path where HCCL gets it."""
        file, document = self.run_dir.rank_table, self._given_table or go.rank_table
        if document is None:
            file.unlink(missing_ok=True)
            return None
        from fcn4dist.ascend.rank_table.build import to_text

        save_text(file, to_text(document))
        return None if self.request.rank_table == "auto" else str(file)

    def console_of(self, plan: JobPlan, started_s: float, num_restarts: int) -> JobConsole:
        """Return what shows an attempt."""
        return JobConsole(
            *(self.console, WallClock()),
            world_size=len(plan.workers),
            started_s=started_s,
            num_restarts=num_restarts,
            draw=live_drawing(self.run_dir, with_ranks=self.request.shows_ranks),
        )

    def decide_restart(
        self, verdict: Verdict, outcome: Outcome, plan: JobPlan, *, has_progress: bool
    ) -> endings.Decision:
        """Decide on the chief what follows from a verdict; a launcher that is gone does not come back by itself."""
        if verdict.kind != "failure":
            return endings.Decision()
        failure = endings.failure_of(verdict, self.session.layout, plan.attempt)
        port = plan.meeting.scheduler_port
        is_given = self.request.place is None and self.request.master_port is not None
        is_lost = endings.scheduler_failed(outcome) and not (
            has_progress or is_given or is_free(port, self.node.address)
        )
        if is_lost:
            self._lost_ports |= {port}
        self._history.append(endings.FailedAttempt(failure.kind, failure.is_user_error, has_progress, is_lost))
        return endings.decide_restart(self._history, self.config.launch.max_restarts)


def prepare_data(
    config: RunConfig,
    run_dir: RunDir,
    world_size: int,
    say: Say,
    progress: ShownProgress | None,
    *,
    resume: bool,
    demo: bool = False,
    is_chief: bool = True,
) -> tuple[RunConfig, DataSet]:
    """Return the config with all that its data decides, and the data, checked; of a run to resume, against its checkpoint.

    Raises UserError for what contradicts. Of several hosts only the chief has the checkpoints and the config that counts.
    """
    plan_batches(config.train, world_size)  # refused before any work
    config = resolve_data(config, run_dir, say, progress, demo=demo, num_ranks=world_size)
    batches = plan_batches(config.train, world_size)
    data = check_data(config, batches if is_chief else None)
    if is_chief and (note := data.length_note) is not None:
        say(f"note: {note}")
    if is_chief and config.evaluate.split not in data.parts:
        say(f"note: {data.path} has no {config.evaluate.split} clips: nothing is evaluated")
    if is_chief and resume:
        check_resumable(run_dir, config, data)
    return keep_batches(config, batches), data


def choose_scheduler_port(
    address: str, wanted: int | None, place: Place | None, lost: frozenset[int] = frozenset()
) -> int:
    """Return the port of MindSpore's scheduler: a free one, on several hosts the one behind the launchers' where it can be had.

    So that a firewall can be told. One that the user named for one host is taken as it is.
    """
    if place is None:
        return wanted or choose_port(avoid=lost)
    assert wanted is not None
    avoid = lost | {place.master_port}
    with contextlib.suppress(ConfigError):
        check_port(wanted, address)
        if wanted not in avoid and is_free(wanted, address):
            return wanted
    return choose_port(address, avoid=avoid)


def merge_config(decided: dict[str, Any], own: RunConfig) -> RunConfig:
    """Return the job's config with this host's own paths and devices in it."""
    local = own.model_dump(mode="json")
    values = {section: dict(keys) for section, keys in decided.items()}
    for section, keys in LOCAL_KEYS.items():
        values[section].update({key: local[section][key] for key in keys})
    return build_config(values, where="the config of node 0")
