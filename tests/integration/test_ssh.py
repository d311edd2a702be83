"""launch/ssh.sh against a real sshd on each of two hosts."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hosts import ROOT, fake_hosts, need, run_recipe, tool, write_command
from jobs import TINY, environment, processes_of, wait_for

from benchmarks.fake_hosts import FakeHosts

pytestmark = pytest.mark.slow  # real servers and four launches a test: `make test-slow`

PORT = 2222
RECIPE = ROOT / "launch/ssh.sh"
SHORT = [*TINY, "--set", "train.epochs=1", "--set", "evaluate.num_resamples=0", "--device-target", "CPU"]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[FakeHosts]:
    """Give two hosts with an sshd of our own keys; ssh is `ssh -F ssh_config` in tmp_path."""
    need("sshd", "ssh", "ssh-keygen")
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
    (keys / "authorized_keys").write_text((keys / "user.pub").read_text())
    run_sshd = Path("/run/sshd")  # sshd insists on this folder
    is_ours = not run_sshd.exists()
    run_sshd.mkdir(mode=0o755, exist_ok=True)
    try:
        with fake_hosts() as made:
            host_key = (keys / "host.pub").read_text().split()[:2]
            known = "".join(f"[{address}]:{PORT} {' '.join(host_key)}\n" for address in made.addresses)
            (keys / "known_hosts").write_text(known)
            (tmp_path / "ssh_config").write_text(
                f"Host *\n Port {PORT}\n User root\n IdentityFile {keys}/user\n IdentitiesOnly yes\n BatchMode yes\n"
                f" UserKnownHostsFile {keys}/known_hosts\n StrictHostKeyChecking yes\n"
            )
            for host, address in enumerate(made.addresses):
                start_sshd(made, host, address, keys)
            yield made
    finally:
        if is_ours:
            run_sshd.rmdir()


def start_sshd(made: FakeHosts, host: int, address: str, keys: Path) -> None:
    config, log = keys / f"sshd_config.{host}", keys / f"sshd.{host}.log"
    config.write_text(
        f"Port {PORT}\nListenAddress {address}\nHostKey {keys}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {keys}/authorized_keys\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    made.start(host, tool("sshd"), "-D", "-e", "-f", config, log=log)
    wait_for(lambda: "Server listening" in log.read_text(), 10, f"sshd on host {host} listens")


def recipe(hosts: FakeHosts, folder: Path, addresses: tuple[str, ...], *options: object) -> list[str]:
    """Return the command on host 0 that starts the recipe over `addresses`."""
    (folder / "hostfile").write_text("# two hosts\n" + "".join(f"{address} slots=1\n" for address in addresses))
    return hosts.inside(0, RECIPE, "hostfile", "--run-dir", folder / "run", *SHORT, *options)


def variables(folder: Path) -> dict[str, str]:
    return {"FCN4DIST": str(write_command(folder)), "SSH": f"ssh -F {folder / 'ssh_config'}"}


def test_two_hosts_train_together(hosts: FakeHosts, tiny_shards: Path, tmp_path: Path) -> None:
    command = recipe(hosts, tmp_path, hosts.addresses, "--data", tiny_shards)
    result = run_recipe(command, tmp_path, **variables(tmp_path))  # type: ignore[arg-type]
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 hosts, 2 ranks" in result.stderr
    assert "ROC-AUC" in result.stdout
    steps = [(tmp_path / f"run/metrics/rank-{rank}.jsonl").read_text().splitlines() for rank in range(2)]
    assert len(steps[0]) == len(steps[1]) == 5
    assert processes_of(tmp_path / "run") == []


def test_a_host_that_cannot_be_reached_ends_the_recipe(hosts: FakeHosts, tiny_shards: Path, tmp_path: Path) -> None:
    write_command(tmp_path)
    extra = {**variables(tmp_path), "SSH": f"ssh -F {tmp_path / 'ssh_config'} -o ConnectTimeout=2 -p 2223"}
    result = run_recipe(recipe(hosts, tmp_path, hosts.addresses, "--data", tiny_shards), tmp_path, **extra)  # type: ignore[arg-type]
    assert result.returncode == 255
    assert f"{hosts.addresses[1]}: exit code 255" in result.stderr
    assert processes_of(tmp_path / "run") == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_launchers_end_with_the_recipe(
    hosts: FakeHosts, tiny_shards: Path, tmp_path: Path, how: signal.Signals
) -> None:
    """Even SIGKILL, after which the script cannot clean up: the launchers see that their stdin is closed."""
    command = recipe(hosts, tmp_path, hosts.addresses, "--data", tiny_shards, "--set", "train.epochs=5000")
    log = tmp_path / "recipe.log"
    with log.open("wb") as file:
        started = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**environment(), **variables(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    metrics = tmp_path / "run/metrics/rank-0.jsonl"
    try:
        wait_for(lambda: metrics.is_file() and metrics.read_text(), 120, "the first step")
        os.kill(started.pid, how)
        wait_for(lambda: not processes_of(tmp_path / "run"), 30, "the launchers and ranks end")
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        code = started.wait(30)
    assert code == (143 if how == signal.SIGTERM else -signal.SIGKILL), log.read_text()
