"""The pipeline of `fcn4dist launch` on one of several hosts: join, agree, plan, run, tell how the job went."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fcn4dist import __version__
from fcn4dist.config import RunConfig, build_config, format_config, keep_batches, override_config, plan_batches
from fcn4dist.errors import ConfigError, Fcn4distError
from fcn4dist.files import digest_file, save_json, save_text
from fcn4dist.hosts.job_table import build_job_table, check_job_table, find_own_server, load_given_table
from fcn4dist.hosts.master import MasterSession
from fcn4dist.hosts.member import MemberSession
from fcn4dist.hosts.place import Place, resolve_master
from fcn4dist.hosts.roster import LOCAL_KEYS, Go, HostCard, Layout, Readiness, check_same_data, shared_config
from fcn4dist.hosts.session import Say, Session, Verdict
from fcn4dist.hosts.wire import load_secret
from fcn4dist.job.console import JobConsole
from fcn4dist.job.devices import HostDevices, list_ascend_devices
from fcn4dist.job.events import WallClock
from fcn4dist.job.plan import JobPlan, Launcher, Meeting, plan_as_json, plan_job
from fcn4dist.job.ports import check_port, choose_port, is_free
from fcn4dist.launch.attempt import run_attempt
from fcn4dist.launch.job_end import RestartHistory, end_of
from fcn4dist.launch.pipeline import LaunchRequest, survey
from fcn4dist.launch.report_at_end import reported
from fcn4dist.launch.resume import check_resumable
from fcn4dist.launch.training_data import check_data, is_demo, resolve_data
from fcn4dist.launch.verdict import explain_verdict, failure_of, find_own_failure, said_how_to_go_on
from fcn4dist.run.attempts import check_run_dir, dated_folder, locked, next_attempt, writing
from fcn4dist.run.environment import describe_environment
from fcn4dist.run.event_files import event_files, require_tensorboard
from fcn4dist.run.folder import RunDir
from fcn4dist.run.terminal import format_duration
from fcn4dist.run.view import live_drawing

if TYPE_CHECKING:
    from fcn4dist.launch.training_data import ShownProgress


@dataclass(frozen=True)
class HostRequest:
    """What the user asked for on this host of several."""

    place: Place
    launch: LaunchRequest
    has_config: bool = True  # False: this host resumes a run whose config only node 0 has


def launch_on_hosts(
    config: RunConfig, request: HostRequest, console: Console, progress: ShownProgress | None = None
) -> None:
    """Train together with the launchers of the other hosts; returns when all ranks of all hosts have ended well.

    Raises UserError when the input is wrong or the hosts disagree, JobError naming the host and the process that failed
    first, and Interrupted when a signal to any of the launchers ended the job.
    """

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    place = request.place
    is_tensorboard = config.launch.tensorboard and place.is_master  # where rank 0 writes its metrics
    if is_tensorboard:
        require_tensorboard()
    secret = load_secret(request.launch.job_secret_file, os.environ)
    if place.devices is not None and request.launch.devices is None:
        config = override_config(config, launch={"devices": place.devices})
    host = choose_devices(survey(config, imagined=False), place)
    run_path = request.launch.run_dir or dated_folder()
    if place.is_master:
        check_run_dir(RunDir(run_path.absolute()), resume=request.launch.resume)
    addresses = resolve_master(place)
    if place.is_master:
        check_port(place.master_port, addresses[0])
    say(f"node {place.node_rank} of {place.num_nodes} hosts, by {place.source}")
    card = introduce(config, request, host, addresses[0])
    with contextlib.closing(open_session(card, place, addresses, secret)) as session:
        session.give_up_after(config.launch.peer_timeout_s)
        layout = session.join(config.launch.join_timeout_s, str(run_path), say)
        say(f"{len(layout.nodes)} hosts, {layout.world_size} ranks; here: {layout.nodes[place.node_rank].ranks}")
        path = (request.launch.run_dir or Path(layout.run_dir)).absolute()
        with _told(session):
            run = _HostRun(config, request, host, session, RunDir(path, place.node_rank), console, say)
            check_member_run_dir(run.run_dir, resume=request.launch.resume)
        with locked_telling(run.run_dir, session):
            with _told(session):
                ready = run.prepare(progress)
            report = reported(run.run_dir, say) if request.place.is_master else contextlib.nullcontext()
            with report, event_files(run.run_dir, is_wanted=is_tensorboard):
                while not run.finish(run.agree(ready)):
                    ready = ready.model_copy(update={"attempt": next_attempt(run.run_dir)})


def open_session(card: HostCard, place: Place, addresses: Sequence[str], secret: bytes) -> Session:
    """Return this host's session; on the master it listens already. Raises ConfigError when the port cannot be had."""
    if place.is_master:
        return MasterSession(card, place.master_port, secret, place.names)
    return MemberSession(card, (addresses, place.master_port), secret)


@contextlib.contextmanager
def _told(session: Session) -> Iterator[None]:
    """Tell the other hosts of an error here, so that all say it at once."""
    try:
        yield
    except Fcn4distError as error:
        session.give_up(error)
        raise


@contextlib.contextmanager
def locked_telling(run_dir: RunDir, session: Session) -> Iterator[None]:
    """Hold the run directory; the other hosts are told when it cannot be had."""
    with contextlib.ExitStack() as stack:
        with _told(session):
            stack.enter_context(locked(run_dir))
        yield


def choose_devices(host: HostDevices, place: Place) -> HostDevices:
    """Return the devices that a host file lists for this host, where it lists any; CPU has none to choose.

    Raises ConfigError when --devices says another number, or a listed NPU is not there.
    """
    listed = place.device_ids
    if listed is None:
        return host
    if len(listed) != len(host.devices):
        raise ConfigError(f"--devices {len(host.devices)}: {place.source} gives this host {len(listed)}")
    if host.target == "CPU":
        return host
    present = list_ascend_devices(os.environ)
    if absent := [device for device in listed if device not in present]:
        raise ConfigError(f"{place.source}: device {absent[0]} is not among this host's {list(present)}")
    return replace(host, devices=listed)


def check_member_run_dir(run_dir: RunDir, *, resume: bool) -> None:
    """Refuse a run directory in which this host has run another job; one without a run of its own may be resumed."""
    if run_dir.node > 0 and not resume:
        check_run_dir(run_dir, resume=False)


def introduce(config: RunConfig, request: HostRequest, host: HostDevices, address: str) -> HostCard:
    """Return what this host says of itself."""
    place, table = request.place, request.launch.rank_table
    return HostCard(
        node_rank=place.node_rank,
        num_nodes=place.num_nodes,
        host=socket.gethostname(),
        address=address,
        devices=len(host.devices),
        target=host.target,
        resume=request.launch.resume,
        rank_table=table if table in ("auto", "none") else "file",
        versions={"fcn4dist": __version__, "mindspore": importlib.metadata.version("mindspore")},
        config=shared_config(config) if request.has_config else None,
        expected=None if place.expected is None else list(place.expected),
    )


class _HostRun:
    """This host's part of the job, once all hosts are there."""

    def __init__(
        self,
        config: RunConfig,
        request: HostRequest,
        host: HostDevices,
        session: Session,
        run_dir: RunDir,
        console: Console,
        say: Say,
    ) -> None:
        self.config, self.request, self.host, self.session, self.run_dir = config, request, host, session, run_dir
        self.console, self.say = console, say
        self.layout: Layout = session.layout
        self.node = self.layout.nodes[request.place.node_rank]
        self.num_clips: int | None = None
        self.history = RestartHistory(config.launch.max_restarts, console)
        self.started_s = WallClock()()

    @property
    def _given_table(self) -> Path | None:
        table = self.request.launch.rank_table
        return None if table in ("auto", "none") else Path(table)

    def prepare(self, progress: ShownProgress | None) -> Readiness:
        """Resolve and check the data and the rank table here."""
        world_size, source = self.layout.world_size, self.config.data
        if source.records_dir is None and source.source_dir is not None:
            raise ConfigError(
                "data.records_dir: not set; over several hosts run `fcn4dist prepare` once, and name its folder on all"
            )
        plan_batches(self.config.train, world_size)
        if is_demo(self.config):
            self.session.wait_for_master_data()
        config = resolve_data(self.config, self.run_dir, self.say, progress, num_ranks=world_size)
        batches = plan_batches(config.train, world_size)
        data = check_data(config, batches if self.request.place.is_master else None)
        self.num_clips = data.num_rows("train")
        if self.request.launch.resume and self.request.place.is_master:  # only node 0 needs to have the checkpoints
            check_resumable(self.run_dir, config, data)
        self.config = keep_batches(config, batches)
        self.session.tell_prepared()
        return Readiness(
            attempt=next_attempt(self.run_dir),
            data=data.identity(),
            data_dir=str(data.path),
            rank_table_sha256=self._check_given_table(),
            server=self._own_server(),
        )

    def _check_given_table(self) -> str | None:
        path = self._given_table
        if path is None:
            return None
        is_exported = self.host.target == "Ascend"
        table = load_given_table(path, self.host.target, os.environ, self.run_dir.rank_table)
        node_rank = self.request.place.node_rank
        check_job_table(table, str(path), self.layout, node_rank, self.host.devices, is_exported=is_exported)
        if not is_exported:
            self.say(f"{path}: {table.world_size} ranks as in the job; not exported, since CPU needs no rank table")
        return digest_file(path)

    def _own_server(self) -> dict[str, Any] | None:
        if self.host.target == "CPU" or self.request.launch.rank_table != "auto":
            return None
        return find_own_server(self.host.devices, self.node.address, os.environ, self.run_dir.rank_table)

    def decide(self, readies: list[Readiness]) -> Go:
        """Decide on the master what all hosts begin with."""
        check_same_data(self.layout, readies)
        servers = [ready.server for ready in readies if ready.server is not None]
        table = build_job_table(self.layout, servers) if servers else None
        return Go(
            scheduler_host=self.node.address,
            scheduler_port=choose_scheduler_port(self.node.address, self.request.place.master_port),
            attempt=max(ready.attempt for ready in readies),
            config=shared_config(self.config),
            rank_table=table,
        )

    def agree(self, ready: Readiness) -> Go:
        """Return what all hosts begin with."""
        with said_how_to_go_on(self.run_dir, has_run=self.history.num_restarts > 0):
            return self.session.agree(ready, self.decide, self.say)

    def finish(self, go: Go) -> bool:
        """Run this host's ranks to their end, and tell how the job went; False: all hosts are about to start again."""
        with _told(self.session), writing(self.run_dir):
            plan = self._plan(go)
            self.session.give_up_after(self.config.launch.peer_timeout_s)
            self.session.watch_scheduler(go.scheduler_port, self.run_dir.listening(go.attempt))
            save_text(self.run_dir.config, format_config(self.config))
            save_json(self.run_dir.environment, describe_environment())
            self.run_dir.failure.unlink(missing_ok=True)
            save_json(self.run_dir.plan, plan_as_json(plan, self.num_clips))
        shown = JobConsole(
            *(self.console, WallClock()),
            world_size=len(plan.workers),
            started_s=self.started_s,
            num_restarts=self.history.num_restarts,
            draw=live_drawing(self.run_dir, with_ranks=self.request.launch.shows_ranks),
        )
        with _told(self.session), shown:
            launch = self.config.launch
            outcome = run_attempt(
                *(plan, shown),
                grace_s=launch.grace_s,
                stall_timeout_s=launch.stall_timeout_s,
                phase_timeout_s=launch.phase_timeout_s,
                session=self.session,
            )
        failure = find_own_failure(outcome, self.run_dir, plan.attempt, self.node.name)

        def restarts(verdict: Verdict) -> float | None:
            if verdict.kind != "failure":  # a launcher that is gone does not come back by itself
                return None
            return self.history.decide(failure_of(verdict, self.layout, plan.attempt), has_progress=shown.has_progress)

        verdict = self.session.conclude(outcome.kind, None if failure is None else asdict(failure), restarts)
        if verdict.restart_in_s is not None:
            culprit = failure_of(verdict, self.layout, plan.attempt)
            with _told(self.session):
                self.history.wait_for_restart(culprit, plan, verdict.restart_in_s)
            return False
        if verdict.kind == "success":
            elapsed = format_duration(WallClock()() - self.started_s)
            is_chief_here = self.request.place.is_master
            self.say(
                shown.summary(self.run_dir)
                if is_chief_here
                else f"done: {self.node.ranks}, {elapsed}; {self.run_dir.path}"
            )
            return True
        end, refusal = end_of(plan), self.history.refusal
        raise explain_verdict(verdict, self.layout, self.run_dir, plan.attempt, end=end, refusal=refusal)

    def _plan(self, go: Go) -> JobPlan:
        self.config = merge_config(go.config, self.config)
        table = None
        if go.rank_table is not None:
            save_json(self.run_dir.rank_table, go.rank_table)
            table = str(self.run_dir.rank_table)
        elif self._given_table is not None and self.host.target == "Ascend":
            save_text(self.run_dir.rank_table, self._given_table.read_text(encoding="utf-8"))
            table = str(self.run_dir.rank_table)
        meeting = Meeting(
            scheduler_host=go.scheduler_host,
            scheduler_port=go.scheduler_port,
            own_ip=self.node.address,
            world_size=self.layout.world_size,
            first_rank=self.node.first_rank,
            runs_scheduler=self.request.place.is_master,
        )
        launcher = Launcher(os.getpid(), os.environ, go.attempt)
        return plan_job(self.config, self.run_dir, self.host, meeting, launcher, table)


def choose_scheduler_port(address: str, master_port: int) -> int:
    """Return the port behind the launchers' where it is free, so that a firewall can be told; else any free one."""
    wanted = master_port + 1
    try:
        check_port(wanted, address)
    except ConfigError:
        return choose_port(address, avoid=frozenset({master_port}))
    return wanted if is_free(wanted, address) else choose_port(address, avoid=frozenset({master_port}))


def merge_config(decided: dict[str, Any], own: RunConfig) -> RunConfig:
    """Return the job's config with this host's own paths and devices in it."""
    local = own.model_dump(mode="json")
    values = {section: dict(keys) for section, keys in decided.items()}
    for section, keys in LOCAL_KEYS.items():
        values[section].update({key: local[section][key] for key in keys})
    return build_config(values, where="the config of node 0")
