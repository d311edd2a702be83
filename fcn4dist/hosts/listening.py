"""Whether somebody listens on a port of this host: read from the kernel, since a trial connection disturbs who listens."""

from __future__ import annotations

from pathlib import Path

TCP_LISTEN = "0A"  # the `st` column of /proc/net/tcp


def listens_here(port: int) -> bool:
    """Whether a TCP server of this host, or of this network namespace, listens on the port at any address."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:  # a kernel without IPv6
            continue
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state == TCP_LISTEN and int(local.rpartition(":")[2], 16) == port:
                return True
    return False
