"""Two hosts on one machine: network namespaces with an address and a name each, joined by a cable (veth)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from jobs import environment, wait_for

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 20.0


@dataclass
class FakeHosts:
    """The namespaces `names`, which are the host names too, with their addresses; RFC 2544's network is nobody's."""

    names: tuple[str, str]
    addresses: tuple[str, str] = ("198.18.77.1", "198.18.77.2")
    _servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def inside(self, host: int, *command: object) -> list[str]:
        """Return the command that runs `command` on a host, under the host's name."""
        named = ["sh", "-c", 'hostname "$0"; exec "$@"', self.names[host], *map(str, command)]
        return ["ip", "netns", "exec", self.names[host], "unshare", "--uts", *named]

    def start(self, host: int, *command: object, log: Path) -> subprocess.Popen[bytes]:
        """Start a server on a host; it is stopped when the hosts go away."""
        with log.open("ab") as file:
            server = subprocess.Popen(
                self.inside(host, *command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._servers.append(server)
        return server

    def build(self) -> None:
        """Make the namespaces and the cable, and let the hosts know each other's names."""
        first, second = self.names
        text = "127.0.0.1 localhost\n" + "".join(
            f"{address} {name}\n" for address, name in zip(self.addresses, self.names, strict=True)
        )
        for name in self.names:
            _ip("netns", "add", name)
            etc = Path("/etc/netns") / name  # `ip netns exec` puts its files over those in /etc
            etc.mkdir(parents=True)
            (etc / "hosts").write_text(text)
        _ip("link", "add", "eth0", "netns", first, "type", "veth", "peer", "name", "eth0", "netns", second)
        for name, address in zip(self.names, self.addresses, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/30", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")

    def pids(self) -> list[int]:
        """Return the processes that live on the hosts."""
        found = []
        for name in self.names:
            done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            found += [int(pid) for pid in done.stdout.split()]
        return found

    def remove(self) -> None:
        """Stop what was started here and whatever it left, then take the hosts away."""
        for server in reversed(self._servers):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
        for server in self._servers:
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
        for pid in self.pids():  # all of them are ours: nobody else knows these namespaces
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self.pids(), STOP_S, "the processes on the fake hosts end")
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            Path("/etc/netns").rmdir()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def need(*programs: str) -> None:
    """Skip the test where a program is missing or we are not root."""
    if missing := [program for program in ("ip", "unshare", *programs) if tool(program) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")


def tool(program: str) -> str | None:
    """Return the path of a program; servers are in sbin."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


@contextlib.contextmanager
def fake_hosts() -> Iterator[FakeHosts]:
    """Give two hosts; skip where the kernel refuses them."""
    hosts = FakeHosts((f"f4d{os.getpid()}a", f"f4d{os.getpid()}b"))
    try:
        hosts.build()
    except OSError as error:
        hosts.remove()
        pytest.skip(f"no network namespaces here: {error}")
    try:
        yield hosts
    finally:
        hosts.remove()


def write_command(folder: Path) -> Path:
    """Write a `fcn4dist` that runs this working tree, for shells that start in an environment of their own."""
    file = folder / "fcn4dist"
    file.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m fcn4dist "$@"\n')
    file.chmod(0o755)
    return file


def run_recipe(
    command: Sequence[object], folder: Path, timeout_s: float = 170, **extra: object
) -> subprocess.CompletedProcess[str]:
    """Run a recipe in `folder` and return what it printed."""
    variables = {**environment(), **{name: str(value) for name, value in extra.items()}}
    return subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        check=False,
    )
