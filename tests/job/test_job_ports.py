from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fcn4dist.errors import ConfigError, JobError
from fcn4dist.job.ports import check_port, choose_port, is_free
from fcn4dist.train.bring_up import wait_until_listening


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_chosen_port_is_free_and_not_one_of_mindspores() -> None:
    ports = {choose_port() for _ in range(50)}
    assert len(ports) > 30  # jobs that start together seldom meet
    assert all(port > 12213 for port in ports)
    assert all(is_free(port) for port in ports)


def test_a_port_in_use_is_refused_with_the_remedy(taken: int) -> None:
    assert not is_free(taken)
    with pytest.raises(ConfigError, match=f"--master-port {taken}: already in use on 127.0.0.1; choose another"):
        check_port(taken)


@pytest.mark.parametrize(("port", "message"), [(80, "expected 1024"), (70000, "to 65535"), (8118, "8118 to 12213")])
def test_ports_that_cannot_work_are_refused(port: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_port(port)


def test_waiting_ends_when_somebody_listens(taken: int) -> None:
    for host in ("127.0.0.1", "localhost"):
        wait_until_listening(host, taken, limit_s=0.0)  # raises where nobody listens: the next test


def test_waiting_has_a_limit_and_says_where_to_look() -> None:
    port = choose_port()
    with pytest.raises(JobError, match=f"127.0.0.1:{port}: the scheduler does not listen after 0.05 s"):
        wait_until_listening("127.0.0.1", port, limit_s=0.05)


def test_an_accepted_connection_is_not_a_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
    with client, accepted, pytest.raises(JobError):  # the port is known to the kernel, but not as LISTEN
        wait_until_listening("127.0.0.1", port, limit_s=0.05)


def test_a_host_without_an_address_is_named() -> None:
    with pytest.raises(JobError, match=r"no-such-host.invalid: the scheduler's host cannot be resolved"):
        wait_until_listening("no-such-host.invalid", 23456, limit_s=1)


def test_an_address_of_ipv6_is_tried_as_one() -> None:
    port = choose_port("::1")
    assert is_free(port, "::1")
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as server:
        server.bind(("::1", port))
        server.listen(1)
        assert not is_free(port, "::1")
