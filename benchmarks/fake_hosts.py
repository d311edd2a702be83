"""Two hosts on one machine: network namespaces with an address and a name each, joined by a cable (veth)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil

STOP_S = 20.0
CABLE = "eth0"


@dataclass
class FakeHosts:
    """The namespaces `names`, which are the host names too, with their addresses; RFC 2544's network is nobody's.

    Making them needs root, and `ip` and `unshare`.
    """

    names: tuple[str, str]
    addresses: tuple[str, str] = ("198.18.77.1", "198.18.77.2")
    _servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def inside(self, host: int, *command: object) -> list[str]:
        """Return the command that runs `command` on a host, under the host's name; it keeps its process id."""
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
        """Make the namespaces and the cable, and let the hosts know each other's names. Raises OSError."""
        first, second = self.names
        text = "127.0.0.1 localhost\n" + "".join(
            f"{address} {name}\n" for address, name in zip(self.addresses, self.names, strict=True)
        )
        for name in self.names:
            _ip("netns", "add", name)
            etc = Path("/etc/netns") / name  # `ip netns exec` puts its files over those in /etc
            etc.mkdir(parents=True)
            (etc / "hosts").write_text(text)
        _ip("link", "add", CABLE, "netns", first, "type", "veth", "peer", "name", CABLE, "netns", second)
        for host, (name, address) in enumerate(zip(self.names, self.addresses, strict=True)):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", CABLE)
            _ip("-n", name, "link", "set", "lo", "up")
            self.plug(host)

    def add_addresses(self, host: int, count: int) -> list[str]:
        """Give a host more addresses and return them."""
        found = [f"198.18.77.{10 + number}" for number in range(count)]
        for address in found:
            _ip("-n", self.names[host], "addr", "add", f"{address}/24", "dev", CABLE)
        return found

    def plug(self, host: int) -> None:
        """Put the cable into a host."""
        _ip("-n", self.names[host], "link", "set", CABLE, "up")

    def unplug(self, host: int) -> None:
        """Pull the cable out of a host: nothing arrives, and no connection is closed."""
        _ip("-n", self.names[host], "link", "set", CABLE, "down")

    def pids(self, host: int) -> list[int]:
        """Return the processes that live on a host."""
        done = subprocess.run(["ip", "netns", "pids", self.names[host]], capture_output=True, text=True, check=False)
        return [int(pid) for pid in done.stdout.split()]

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
        left = []
        for pid in self.pids(0) + self.pids(1):  # all of them are ours: nobody else knows these namespaces
            with contextlib.suppress(psutil.NoSuchProcess):
                left.append(psutil.Process(pid))
                left[-1].kill()
        _, alive = psutil.wait_procs(left, STOP_S)
        assert not alive, f"processes on the fake hosts do not end: {alive}"
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            Path("/etc/netns").rmdir()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
