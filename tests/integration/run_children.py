"""A launcher for tests: runs given Python programs as a job, through the launcher's own attempt and report.

    python run_children.py RUN_DIR GRACE_S '{"rank-0": "print(1)", ...}'

Each program finds `RUN` (the run directory) and has been tied to this process. Prints what a user would see.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path

from fcn4dist.config import BatchPlan
from fcn4dist.errors import Fcn4distError
from fcn4dist.hosts.local import LocalSession
from fcn4dist.hosts.roster import HostCard
from fcn4dist.job.console import JobConsole
from fcn4dist.job.devices import CoreShare
from fcn4dist.job.events import STOP_SIGNALS, WallClock
from fcn4dist.job.plan import JobPlan, Meeting, WorkerSpec
from fcn4dist.job.process import ProcessSpec
from fcn4dist.job.rank import Rank
from fcn4dist.launch import endings
from fcn4dist.launch.attempt import run_attempt
from fcn4dist.run.folder import RunDir
from fcn4dist.run.terminal import build_console

SCHEDULER = "import time; time.sleep(600)"
PREAMBLE = """
import os, sys, time, signal, subprocess
from pathlib import Path
from fcn4dist.train.bring_up import leave_if_orphaned
leave_if_orphaned({launcher})
RUN = Path({run!r})
(RUN / "{name}.pid").write_text(str(os.getpid()))
"""


def main(run: Path, grace_s: float, programs: dict[str, str]) -> None:
    run_dir = RunDir(run)

    def spec(name: str, program: str) -> ProcessSpec:
        code = PREAMBLE.format(launcher=os.getpid(), run=str(run), name=name) + program
        return ProcessSpec(name, (sys.executable, "-c", code), {}, run_dir.log(1, name))

    ranks = [name for name in programs if name != "scheduler"]
    workers = []
    for index, name in enumerate(ranks):
        rank = Rank(index, len(ranks), device=index)
        workers.append(WorkerSpec(rank, CoreShare((), 1), spec(name, programs[name])))
    scheduler = spec("scheduler", programs.get("scheduler", SCHEDULER))
    meeting = Meeting.on_one_host(len(ranks), 23456)
    plan = JobPlan(run_dir, 1, "CPU", meeting, BatchPlan(len(ranks), len(ranks)), scheduler, tuple(workers))
    console = build_console(sys.stdout, width=200)
    card = HostCard(
        node_rank=0, num_nodes=1, host=socket.gethostname(), address="127.0.0.1", devices=len(ranks), target="CPU",
        resume=False, rank_table="auto", versions={}, config=None,
    )  # fmt: skip
    session = LocalSession(card)
    layout = session.join(10, str(run), print)
    with JobConsole(console, WallClock(), world_size=len(ranks)) as shown:
        outcome = run_attempt(plan, shown, grace_s=grace_s, session=session)
    failure = endings.find_own_failure(outcome, run_dir, 1, card.host)
    kind = "success" if endings.is_finished(outcome, plan) else outcome.kind
    endings.tell(session.conclude(kind, None if failure is None else asdict(failure)), layout, plan)
    sys.stdout.write(shown.summary(run_dir) + "\n")


if __name__ == "__main__":
    for number in STOP_SIGNALS:  # a test run in the background may have left SIGINT ignored
        signal.signal(number, signal.SIG_DFL)
    try:
        main(Path(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3]))
    except Fcn4distError as error:
        sys.stderr.write(f"fcn4dist: {error}\n")
        sys.exit(error.exit_code)
