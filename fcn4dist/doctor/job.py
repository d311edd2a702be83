"""What a job needs beside hardware: ports, a clean environment, a batch that its ranks can share."""

from __future__ import annotations

from pathlib import Path

from fcn4dist.config import BatchPlan
from fcn4dist.doctor.question import Check, Surroundings
from fcn4dist.errors import JobError
from fcn4dist.job.devices import Target
from fcn4dist.job.ports import CHOICES, MINDSPORE_PORTS, choose_port, is_free
from fcn4dist.job.worker_env import strip_stale

PORTS_A_RANK = 256  # MindSpore's CPU worker r looks for its port from 8118 + 256 r on
PORT_TRIES = 10  # and takes one of the first ten
TABLE_VARIABLES = ("MINDSPORE_HCCL_CONFIG_PATH", "RANK_TABLE_FILE")  # in MindSpore's order of precedence
MEANT = ("ASCEND_RT_VISIBLE_DEVICES", "FCN4DIST_JOB_SECRET")  # of those that are not passed on, the user's own wishes


def check_batch(batches: BatchPlan) -> Check:
    """Tell how the global batch is divided; the ranks divide it, or the config had been refused."""
    ranks = f"{batches.world_size} rank{'s' if batches.world_size > 1 else ''}"
    found = f"{batches.global_batch} clips a step = {ranks} x {batches.accumulation} micro-batch"
    found += f"{'es' if batches.accumulation > 1 else ''} x "
    return Check("batch", "ok", f"{found}{batches.micro_batch} clips")


def check_ports(target: Target, num_ranks: int) -> Check:
    """Check that the scheduler, and on CPU every rank's ring, can find a port."""
    try:
        choose_port()
    except JobError as error:
        return Check("ports", "error", str(error), "end what holds them: ss -ltnp")
    found = f"a free one for the scheduler between {CHOICES.start} and {CHOICES.stop - 1}"
    if target != "CPU":
        return Check("ports", "ok", found)
    starts = [MINDSPORE_PORTS.start + PORTS_A_RANK * rank % len(MINDSPORE_PORTS) for rank in range(num_ranks)]
    for start in starts:
        if not any(is_free(port) for port in range(start, start + PORT_TRIES)):
            taken = f"{start} to {start + PORT_TRIES - 1} are all in use, where rank {starts.index(start)} would listen"
            return Check("ports", "warning", taken, "end what holds them: ss -ltnp")
    return Check("ports", "ok", f"{found}, and for the ranks' ring from {MINDSPORE_PORTS.start} on")


def check_environment(target: Target, around: Surroundings) -> Check:
    """Look for variables that an earlier job, another launcher or a scheduler left behind."""
    environ = around.environ
    kept = strip_stale(environ)
    dropped = [name for name in environ if name not in kept and name not in MEANT]
    obeyed = [name for name in TABLE_VARIABLES if name in kept]
    left = sorted({*dropped, *obeyed})
    if not left:
        return Check("environment", "ok", "no variables of another job")
    shown = ", ".join(f"{name}={environ[name]}" for name in left[:6]) + (", ..." if len(left) > 6 else "")
    for name in TABLE_VARIABLES:
        if name in environ and not Path(environ[name]).is_file():
            shown += f" ({name} names no file)"
    remedy = f"unset {' '.join(left)}"
    if obeyed:
        found = f"{shown}: MindSpore reads {obeyed[0]} before any other rank table"
        return Check("environment", "error" if target == "Ascend" else "warning", found, remedy)
    return Check("environment", "warning", f"{shown}: `launch` drops them, plain scripts obey them", remedy)
