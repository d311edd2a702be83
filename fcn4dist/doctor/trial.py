"""`doctor --npu`: one rank a device, started as `launch` starts them, does once what a training step needs."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.config import RunConfig, override_config
from fcn4dist.doctor.question import Check
from fcn4dist.errors import DeviceError, Interrupted
from fcn4dist.files import save_json
from fcn4dist.job.devices import HostDevices
from fcn4dist.job.events import Event, StartWaits
from fcn4dist.job.failure import FailedProcess, explain_failure
from fcn4dist.job.plan import JobPlan, Launcher, Meeting, plan_as_json, plan_job
from fcn4dist.job.ports import choose_port
from fcn4dist.job.process import signal_name
from fcn4dist.job.state import Outcome
from fcn4dist.launch.attempt import run_attempt
from fcn4dist.launch.endings import explain_on_ascend
from fcn4dist.launch.host_job import survey
from fcn4dist.run.folder import RunDir
from fcn4dist.train.trial import TRIAL_MODULE, Laps, laps_file, load_laps

log = logging.getLogger(__name__)
CONNECT_S = 120  # HCCL's least; ranks that start together do not need more
COLLECTIVE_S = 120
PHASE_S = 300.0  # without a move of a rank, compiling included, before the trial counts as hanging
GRACE_S = 5.0
CPU_DEVICES = 2  # where neither --devices nor a config says how many


@dataclass(frozen=True)
class DeviceTrial:
    """What is to be tried."""

    config: RunConfig
    num_devices: int | None  # None: all NPUs that are here
    remarks: Sequence[str] = ()  # what is known of the NPUs' links and addresses


class _Waits:
    """Shows who waits for whom, and nothing else."""

    def on_event(self, event: Event) -> None:
        if isinstance(event, StartWaits):
            log.warning("%s", event.line)


def try_devices(asked: DeviceTrial, npus: Sequence[int] = ()) -> Iterator[Check]:
    """Yield a check for each device, after a trial of all of them; `npus`: those that were found here.

    Raises Interrupted when a signal ends it; no process is left then, as after any end.
    """
    wanted = asked.config.launch.device_target
    if wanted == "auto" and not npus:
        remedy = "see the checks above; --device-target CPU tries as many ranks on CPU"
        yield Check("trial", "error", "no NPU to try", remedy)
        return
    target = "CPU" if wanted == "CPU" else "Ascend"
    devices = asked.num_devices or (len(npus) if target == "Ascend" else CPU_DEVICES) or 1
    changes = {"device_target": target, "devices": devices}
    limits = {"hccl_connect_timeout_s": CONNECT_S, "collective_timeout_s": COLLECTIVE_S}
    bind_cores = asked.config.launch.bind_cores
    config = override_config(
        RunConfig(), launch={**changes, **limits, "bind_cores": bind_cores}
    )  # any number of ranks divides
    try:
        host = survey(config, imagined=False)
    except DeviceError as error:
        yield Check("trial", "error", str(error), "see the checks above")
        return
    yield from run_trial(config, host, asked.remarks)


def run_trial(config: RunConfig, host: HostDevices, remarks: Sequence[str] = ()) -> Iterator[Check]:
    """Start the ranks in a folder of their own, and yield a check for each; the folder stays where one fails."""
    folder = Path(tempfile.mkdtemp(prefix="fcn4dist-npu-"))
    run, is_kept = RunDir(folder), False
    try:
        meeting = Meeting.on_one_host(len(host.devices), choose_port())
        plan = plan_job(config, run, host, meeting, Launcher(os.getpid(), os.environ, module=TRIAL_MODULE))
        save_json(run.plan, plan_as_json(plan))
        outcome = run_attempt(plan, _Waits(), grace_s=GRACE_S, phase_timeout_s=PHASE_S)
        if outcome.kind == "signal" and outcome.signal is not None:
            raise Interrupted(outcome.signal, f"ended by {signal_name(outcome.signal)}; no process is left")
        is_kept = outcome.kind == "failure"
        yield from _judge(plan, outcome, remarks)
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)


def _judge(plan: JobPlan, outcome: Outcome, remarks: Sequence[str]) -> Iterator[Check]:
    """Yield how each rank went; of a trial that failed the culprit with its cause, the others with how far they were."""
    culprit: FailedProcess | None = None
    if outcome.kind == "failure":
        culprit = explain_failure(outcome, plan.run_dir, plan.attempt, socket.gethostname()).culprit
    for worker in plan.workers:
        rank = worker.rank
        name = f"device {rank.device if worker.physical_id is None else worker.physical_id}"  # as npu-smi and remarks say it
        laps = load_laps(laps_file(plan.run_dir, plan.attempt, worker.process.name))
        times, who = _format_times(laps), f"rank {rank.index} on {plan.target}"
        if culprit is None:
            yield Check(name, "ok", f"{who}: {times}")
        elif culprit.rank == rank.index:
            known = [remark for remark in remarks if remark.startswith(f"{name}:") or remark.startswith(f"{name} ")]
            found = f"{who} failed in {laps.doing or 'its end'}: {_one_line(culprit.reason)}"
            yield Check(name, "error", "; ".join([found, *known]), _advise(plan, culprit))
        else:
            waited = f"was in {laps.doing} when {culprit.title} failed" if laps.doing else "was done"
            yield Check(name, "warning", f"{who} {waited}" + (f"; before: {times}" if times else ""), "see the error")
    if culprit is not None and culprit.rank is None:
        yield Check("trial", "error", f"{culprit.title}: {_one_line(culprit.reason)}", _advise(plan, culprit))


def _format_times(laps: Laps) -> str:
    return ", ".join(f"{name} {time_s:.3g} s" for name, time_s in laps.times_s.items())


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no message"


def _advise(plan: JobPlan, culprit: FailedProcess) -> str:
    """Return what to do, and where to read on."""
    meaning = explain_on_ascend(culprit) if plan.target == "Ascend" else None
    logs = culprit.log or str(plan.run_dir.logs(plan.attempt))
    logs += f", CANN's: {culprit.plog}" if culprit.plog else ""
    return f"{meaning}; its log: {logs}" if meaning is not None else f"see its log: {logs}"
