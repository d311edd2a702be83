"""launch/slurm.sbatch under a real slurmctld and a slurmd on each of two hosts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_hosts import ROOT, fake_hosts, need, run_recipe, tool, write_command
from jobs import TINY, processes_of, wait_for

from benchmarks.fake_hosts import FakeHosts

pytestmark = pytest.mark.slow  # real servers and four launches a test: `make test-slow`

RECIPE = ROOT / "launch/slurm.sbatch"
SHORT = [*TINY, "--set", "train.epochs=1", "--set", "evaluate.num_resamples=0", "--device-target", "CPU"]
CONFIG = """\
ClusterName=fcn4dist
SlurmctldHost={first}({address})
SlurmctldPort=27817
SlurmdPort=27818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=5
SelectType=select/cons_tres
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=10 State=UP OverSubscribe=EXCLUSIVE
"""


@dataclass
class Cluster:
    """Two hosts under Slurm."""

    hosts: FakeHosts
    folder: Path

    def run(self, *command: object, timeout_s: float = 170) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm on host 0."""
        extra = {"SLURM_CONF": self.folder / "slurm.conf", "FCN4DIST": write_command(self.folder)}
        return run_recipe(self.hosts.inside(0, *command), self.folder, timeout_s, **extra)

    def log(self) -> str:
        """Return what the servers and the job said."""
        return "".join(f"\n--- {file.name}\n{file.read_text()[-3000:]}" for file in sorted(self.folder.glob("*.log")))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Start munged, slurmctld and two slurmd with files, keys and ports of their own."""
    need("slurmctld", "slurmd", "munged", "sbatch", "srun", "sinfo")
    folder = tmp_path / "slurm"
    folder.mkdir()
    (folder / "munge.key").write_bytes(bytes(range(128)) * 8)
    (folder / "munge.key").chmod(0o600)
    (folder / "state").mkdir()
    with fake_hosts() as hosts:
        nodes = "\n".join(
            f"NodeName={name} NodeAddr={address} CPUs=1 State=UNKNOWN"
            for name, address in zip(hosts.names, hosts.addresses, strict=True)
        )
        text = CONFIG.format(first=hosts.names[0], address=hosts.addresses[0], folder=folder, nodes=nodes)
        (folder / "slurm.conf").write_text(text)
        (folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={folder}/cgroup\n")  # unused
        made = Cluster(hosts, folder)
        munge = [f"--{name}={folder}/munge.{end}" for name, end in (("key-file", "key"), ("socket", "socket"))]
        munge += [
            f"--pid-file={folder}/munge.pid",
            f"--seed-file={folder}/munge.seed",
            f"--log-file={folder}/munged.log",
        ]
        hosts.start(0, tool("munged"), "--foreground", "--force", *munge, log=folder / "munged-out.log")
        wait_for(lambda: (folder / "munge.socket").exists(), 15, "munged listens")
        config = folder / "slurm.conf"
        hosts.start(0, tool("slurmctld"), "-D", "-f", config, log=folder / "slurmctld.log")
        for host, name in enumerate(hosts.names):
            hosts.start(host, tool("slurmd"), "-D", "-f", config, log=folder / f"slurmd-{name}.log")
        wait_for(lambda: made.run("sinfo", "-h", "-o", "%D %t").stdout.strip() == "2 idle", 15, "two idle hosts")
        yield made


def test_the_recipe_trains_on_two_hosts(cluster: Cluster, tiny_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--devices", 1, "--data", tiny_shards, "--run-dir", run, *SHORT]
    result = cluster.run("sbatch", "--wait", "--output=job.log", RECIPE, *options)
    said = (cluster.folder / "job.log").read_text()
    assert result.returncode == 0, result.stderr + cluster.log()
    assert "2 hosts, 2 ranks" in said
    assert "ROC-AUC" in said
    steps = [(run / f"metrics/rank-{rank}.jsonl").read_text().splitlines() for rank in range(2)]
    assert len(steps[0]) == len(steps[1]) == 5
    assert processes_of(run) == []


def test_the_recipe_trains_on_one_host(cluster: Cluster, tiny_shards: Path, tmp_path: Path) -> None:
    options = ["--devices", 1, "--data", tiny_shards, "--run-dir", tmp_path / "run", *SHORT]
    result = cluster.run("sbatch", "--wait", "--nodes=1", "--output=job.log", RECIPE, *options)
    assert result.returncode == 0, result.stderr + cluster.log()
    assert "ROC-AUC" in (cluster.folder / "job.log").read_text()


def test_a_mistake_ends_the_job_with_its_exit_code(cluster: Cluster) -> None:
    result = cluster.run("sbatch", "--wait", "--output=job.log", RECIPE, "--data", "nowhere", "--devices", 1)
    assert result.returncode == 2, cluster.log()
    assert "nowhere: no such folder" in (cluster.folder / "job.log").read_text()


def test_a_job_near_its_limit_goes_back_into_the_queue_and_its_next_start_goes_on(
    cluster: Cluster, tiny_shards: Path, tmp_path: Path
) -> None:
    """SIGUSR1 to the script, as Slurm sends it before the limit: a checkpoint, a second start, and every step once."""
    run = tmp_path / "run"
    longer = ["--set", "train.epochs=12", "--set", "evaluate.every_epochs=12"]
    options = [*("--devices", 1, "--data", tiny_shards), f"--run-dir={run}", *SHORT, *longer]
    submitted = cluster.run("sbatch", "--parsable", "--output=job.log", RECIPE, *options)
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    metrics, log = run / "metrics/rank-0.jsonl", cluster.folder / "job.log"
    wait_for(lambda: metrics.is_file() and metrics.read_text(), 400, "the first step")
    assert cluster.run("scancel", "--batch", "--signal=USR1", job).returncode == 0
    wait_for(lambda: "back into the queue (start 2)" in log.read_text(), 60, "the checkpoint, and the requeue")
    wait_for(
        lambda: "Restarts=1" in cluster.run("scontrol", "show", "job", job).stdout, 30, "Slurm has it in the queue"
    )
    assert processes_of(run) == []
    stopped_after = len(metrics.read_text().splitlines())
    assert 0 < stopped_after < 60
    # Slurm would wait two minutes; in the second of the requeue slurmd still refuses the job ("credential revoked")
    hastened = cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now+5seconds")
    assert hastened.returncode == 0, hastened.stderr
    wait_for(
        lambda: "done: 60 steps" in log.read_text().partition("(start 2)")[2], 400, "the second start ends the run"
    )
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, 61))
    assert (run / "logs/attempt-2").is_dir()
    wait_for(lambda: "JobState=COMPLETED" in cluster.run("scontrol", "show", "job", job).stdout, 30, "it is over")


def test_scancel_ends_every_rank(cluster: Cluster, tiny_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--devices", 1, "--data", tiny_shards, "--run-dir", run, *SHORT, "--set", "train.epochs=5000"]
    submitted = cluster.run("sbatch", "--parsable", "--output=job.log", RECIPE, *options)
    assert submitted.returncode == 0, submitted.stderr
    metrics = run / "metrics/rank-0.jsonl"
    wait_for(lambda: metrics.is_file() and metrics.read_text(), 120, "the first step")
    assert cluster.run("scancel", submitted.stdout.strip()).returncode == 0
    wait_for(lambda: not processes_of(run), 30, "the launchers and ranks end")
