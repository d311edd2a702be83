"""One job over two hosts for real: two network namespaces with addresses and host names of their own.

What launchers say to each other, and what each does then, is tested without processes in tests/hosts and tests/launch.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from jobs import TINY, environment, load_weights, processes_of, run_here, wait_for

MISSING = [tool for tool in ("ip", "unshare", "hostname") if shutil.which(tool) is None]
if os.geteuid() != 0 or MISSING:
    pytest.skip(
        f"network namespaces need root and {', '.join(MISSING) or 'ip, unshare, hostname'}", allow_module_level=True
    )

SECRET = "a secret for tests only"
LONG = ["--set", "train.epochs=100000", "--set", "evaluate.every_epochs=100000"]
ADDRESSES = ("198.51.100.1", "198.51.100.2")  # RFC 5737
NAMES = ("host-a", "host-b")


@dataclass
class TwoHosts:
    """Two network namespaces joined by a pair of virtual interfaces."""

    spaces: tuple[str, str]
    folder: Path
    launchers: list[subprocess.Popen[str]] = field(default_factory=list)

    def run_dir(self, node: int) -> Path:
        return self.folder / f"run-{NAMES[node]}"

    def inside(self, node: int, *command: object) -> list[str]:
        own_name = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', NAMES[node]]
        return ["ip", "netns", "exec", self.spaces[node], *own_name, *map(str, command)]

    def launch(self, node: int, *arguments: object) -> subprocess.Popen[str]:
        place = ["--nodes", 2, "--node-rank", node, "--master-addr", ADDRESSES[0]]
        place += [] if "--resume" in arguments else ["--run-dir", self.run_dir(node)]
        launcher = subprocess.Popen(
            self.inside(node, sys.executable, "-m", "fcn4dist", "launch", *place, "--device-target", "CPU", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment(), "FCN4DIST_JOB_SECRET": SECRET},
            start_new_session=True,
        )
        self.launchers.append(launcher)
        return launcher

    def worker(self, node: int, rank: int) -> psutil.Process:
        return next(p for p in processes_of(self.run_dir(node)) if p.environ().get("RANK_ID") == str(rank))

    def num_steps(self, node: int, rank: int) -> int:
        metrics = self.run_dir(node) / "metrics" / f"rank-{rank}.jsonl"
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0


@pytest.fixture
def two_hosts(tmp_path: Path) -> Iterator[TwoHosts]:
    tag = f"{os.getpid()}-{time.monotonic_ns() % 10**6}"
    spaces = (f"fcn-a-{tag}", f"fcn-b-{tag}")
    hosts = TwoHosts(spaces, tmp_path)
    try:
        for space in spaces:
            made = subprocess.run(["ip", "netns", "add", space], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        _ip("link", "add", "veth", "netns", spaces[0], "type", "veth", "peer", "name", "veth", "netns", spaces[1])
        for space, address in zip(spaces, ADDRESSES, strict=True):
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", "veth")
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "link", "set", "veth", "up")
        yield hosts
    finally:
        for launcher in hosts.launchers:
            if launcher.poll() is None:
                launcher.kill()
            launcher.communicate()
        for node in range(2):
            wait_for(lambda node=node: not processes_of(hosts.run_dir(node)), 10, "the end of all processes")  # type: ignore[misc]
        for space in spaces:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def job(two_hosts: TwoHosts, tiny_shards: Path) -> TwoHosts:
    """A job of two ranks a host that would train for long, after its first step."""
    return launch_both(two_hosts, tiny_shards)


def launch_both(two_hosts: TwoHosts, shards: Path, *options: object, devices: int = 2) -> TwoHosts:
    for node in range(2):
        two_hosts.launch(node, "--devices", devices, "--data", shards, *TINY, *LONG, *options)

    def trains() -> bool:
        ended = [launcher for launcher in two_hosts.launchers if launcher.poll() is not None]
        assert not ended, ended[0].communicate()
        return all(two_hosts.num_steps(rank // devices, rank) for rank in range(2 * devices))

    wait_for(trains, 150, "the first step")
    return two_hosts


def ends(job: TwoHosts, limit_s: float) -> tuple[list[str], list[int]]:
    """Wait for the launchers; return their messages and their exit codes."""
    wait_for(lambda: any(launcher.poll() is not None for launcher in job.launchers), limit_s, "the end of a launcher")
    messages = [launcher.communicate(timeout=min(limit_s, 40))[1] for launcher in job.launchers]
    return messages, [launcher.returncode for launcher in job.launchers]


@contextlib.contextmanager
def on_cores(*positions: int) -> Iterator[None]:
    """Keep what is started meanwhile to some of this process's cores: oneDNN sums on two threads in another order."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[position % len(cores)] for position in positions})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def test_two_hosts_train_to_the_weights_of_one(two_hosts: TwoHosts, tiny_shards: Path, tmp_path: Path) -> None:
    """Two ranks on one host and one on each of two: the same arithmetic in the same order; one is killed meanwhile."""
    common = ["--data", tiny_shards, *TINY, "--set", "train.epochs=30", "--set", "evaluate.num_resamples=0"]
    common += ["--set", "checkpoint.every_steps=5", "--set", "evaluate.every_epochs=30", "--max-restarts", 1]
    for node in range(2):
        with on_cores(node):
            two_hosts.launch(node, "--devices", 1, *common)
    wait_for(lambda: two_hosts.num_steps(0, 0) > 5, 150, "a checkpoint")
    two_hosts.worker(1, 1).kill()
    outputs = [launcher.communicate(timeout=150) for launcher in two_hosts.launchers]
    assert [launcher.returncode for launcher in two_hosts.launchers] == [0, 0], outputs
    for node in range(2):
        assert "rank 1 on host-b failed first: killed by SIGKILL" in outputs[node][1]
        assert "restart 1 of 1 in 1 s, from " in outputs[node][1]
        for attempt in (1, 2):  # only the other host's ranks need to be told that the scheduler listens
            logs = two_hosts.run_dir(node) / "logs" / f"attempt-{attempt}"
            assert (logs / "scheduler.listens").exists() == (node == 1)
    with on_cores(0, 1):
        alone = run_here("launch", "--devices", 2, "--run-dir", tmp_path / "alone", "--device-target", "CPU", *common)
    assert alone.returncode == 0, alone.stderr
    there, here = load_weights(two_hosts.run_dir(0)), load_weights(tmp_path / "alone")
    for name, values in here.items():
        np.testing.assert_allclose(there[name], values, rtol=1e-6, atol=1e-6 * np.abs(values).max(), err_msg=name)
    assert not (two_hosts.run_dir(1) / "checkpoints").exists()  # the chief's host has them
    plan = json.loads((two_hosts.run_dir(1) / "plan-node1.json").read_text())
    assert [worker["rank"] for worker in plan["workers"]] == [1]


@pytest.mark.slow
def test_a_killed_rank_ends_both_hosts_and_both_name_it(job: TwoHosts) -> None:
    job.worker(1, 3).kill()
    messages, codes = ends(job, 30)
    assert codes == [1, 1], messages
    for message in messages:
        assert "rank 3 on host-b (node 1, ranks 2-3) failed first: killed by SIGKILL" in message
        assert "Traceback" not in message
    for node in range(2):
        name = "failure.json" if node == 0 else "failure-node1.json"
        culprit = json.loads((job.run_dir(node) / name).read_text())["culprit"]
        assert (culprit["host"], culprit["rank"], culprit["signal"]) == ("host-b", 3, "SIGKILL")


@pytest.mark.slow
@pytest.mark.parametrize("node", [0, 1])
def test_a_killed_launcher_ends_the_other_host_and_is_named(two_hosts: TwoHosts, tiny_shards: Path, node: int) -> None:
    job = launch_both(two_hosts, tiny_shards, devices=1)
    job.launchers[node].kill()
    messages, codes = ends(job, 30)
    assert (codes[node], codes[1 - node]) == (-signal.SIGKILL, 1)
    assert f"the launcher of {NAMES[node]} (node {node}, rank {node}) is gone" in messages[1 - node]
    assert f"next: fcn4dist launch --resume {job.run_dir(1 - node)} on every host" in messages[1 - node]
    for own in range(2):
        wait_for(lambda own=own: not processes_of(job.run_dir(own)), 5, "the end of all processes")  # type: ignore[misc]


@pytest.mark.slow
def test_a_hang_of_one_rank_is_named_on_both_hosts(two_hosts: TwoHosts, tiny_shards: Path) -> None:
    job = launch_both(two_hosts, tiny_shards, "--set", "launch.stall_timeout_s=5")
    job.worker(1, 3).send_signal(signal.SIGSTOP)
    messages, codes = ends(job, 60)
    assert codes == [1, 1], messages
    for message in messages:
        assert "rank 3 on host-b (node 1, ranks 2-3) failed first: the job hung: no step was finished for " in message
        assert "rank-3 suspended (SIGSTOP), " in message
    for node in range(2):
        stacks = [job.run_dir(node) / f"logs/attempt-1/rank-{2 * node + own}.stack" for own in range(2)]
        assert all("(most recent call first)" in stack.read_text() for stack in stacks)
        name = "failure.json" if node == 0 else "failure-node1.json"
        culprit = json.loads((job.run_dir(node) / name).read_text())["culprit"]
        assert (culprit["host"], culprit["rank"]) == ("host-b", 3)


STRANGER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as stranger:
    stranger.sendall(b'{"type":"stopping","kind":"failure"}\\n' * 100)
    while stranger.recv(4096):
        pass
"""


def test_strangers_change_nothing_a_signal_on_one_host_ends_all_and_both_go_on(
    two_hosts: TwoHosts, tiny_shards: Path
) -> None:
    """A stranger without the secret, while the hosts still join; who listens where; SIGTERM on host-b; then a new host-b."""
    arguments = ["--devices", 1, "--data", tiny_shards, *TINY, *LONG, "--set", "evaluate.num_resamples=0"]
    two_hosts.launch(0, *arguments)

    def stranger_is_dropped() -> bool:
        knock = [sys.executable, "-c", STRANGER, ADDRESSES[0], "29400"]
        done = subprocess.run(two_hosts.inside(1, *knock), capture_output=True, text=True, timeout=20, check=False)
        return "refused" not in done.stderr.lower()

    wait_for(stranger_is_dropped, 30, "the master's port")
    two_hosts.launch(1, *arguments)
    wait_for(lambda: all(two_hosts.num_steps(rank, rank) for rank in range(2)), 150, "the first step")
    before = two_hosts.num_steps(0, 0)
    wait_for(lambda: two_hosts.num_steps(0, 0) > before + 3, 60, "more steps")
    for node in range(2):
        listening = subprocess.run(
            ["ip", "netns", "exec", two_hosts.spaces[node], "ss", "-Hltn"], capture_output=True, text=True, check=True
        ).stdout
        bound = {line.split()[3].rpartition(":")[0] for line in listening.splitlines()}
        assert bound == {ADDRESSES[node]}, listening
    two_hosts.launchers[1].send_signal(signal.SIGTERM)
    messages, codes = ends(two_hosts, 40)
    assert codes == [128 + signal.SIGTERM] * 2, messages
    step = two_hosts.num_steps(0, 0)
    expected = f"stopped by SIGTERM on host-b (node 1, rank 1) after step {step} of "
    assert all(expected in message for message in messages), messages
    assert (two_hosts.run_dir(0) / "checkpoints" / "latest").read_text().strip() == f"step-{step:08d}"
    assert f"connection from {ADDRESSES[1]}" in messages[0]
    assert "did not prove the job's secret" in messages[0]

    shutil.rmtree(two_hosts.run_dir(1))  # the checkpoint and the config are on the chief's host
    two_hosts.launchers = []
    two_hosts.launch(0, "--devices", 1, "--resume", two_hosts.run_dir(0), "--set", f"train.max_steps={step + 4}")
    two_hosts.launch(1, "--devices", 1, "--resume", two_hosts.run_dir(1), "--data", tiny_shards)
    messages, codes = ends(two_hosts, 150)
    assert codes == [0, 0], messages
    steps = [json.loads(x)["step"] for x in (two_hosts.run_dir(1) / "metrics/rank-1.jsonl").read_text().splitlines()]
    assert steps == [step + 1, step + 2, step + 3, step + 4]


def test_hosts_that_disagree_are_told_at_once_on_both(two_hosts: TwoHosts, tiny_shards: Path) -> None:
    two_hosts.launch(0, "--data", tiny_shards)
    two_hosts.launch(1, "--data", tiny_shards, "--set", "train.lr=0.5")
    messages, codes = ends(two_hosts, 40)
    assert codes == [2, 2], messages
    expected = "train.lr: 0.5 on host-b (node 1), 0.0005 on host-a (node 0); expected one config"
    assert all(expected in message for message in messages)
    assert not two_hosts.run_dir(0).exists()
    assert not two_hosts.run_dir(1).exists()
