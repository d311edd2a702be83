"""The scheduler's port: chosen free, or checked when the user named it."""

from __future__ import annotations

import random
import socket

from fcn4dist.errors import ConfigError, JobError

MINDSPORE_PORTS = range(8118, 12214)  # where CPU workers open the ports of their ring
CHOICES = range(20_000, 30_000)  # outside those, and below Linux's ephemeral ports (32768 and up)
LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on host:port now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose_port(host: str = LOOPBACK, *, avoid: frozenset[int] = frozenset()) -> int:
    """Return a free port at random, so that jobs started together seldom choose the same; raises JobError."""
    candidates = random.SystemRandom().sample(CHOICES, 200)
    for port in candidates:
        if port not in avoid and is_free(port, host):
            return port
    raise JobError(f"{host}: no free port found between {CHOICES.start} and {CHOICES.stop - 1}")


def check_port(port: int, host: str = LOOPBACK) -> None:
    """Raise ConfigError unless `port`, named by the user, can be the scheduler's."""
    if not 1024 <= port <= 65535:
        raise ConfigError(f"--master-port {port}: expected 1024 to 65535")
    if port in MINDSPORE_PORTS:
        raise ConfigError(
            f"--master-port {port}: MindSpore's workers use {MINDSPORE_PORTS.start} to {MINDSPORE_PORTS.stop - 1}; "
            "choose one outside"
        )
    if not is_free(port, host):
        raise ConfigError(f"--master-port {port}: already in use on {host}; choose another or leave the option out")
