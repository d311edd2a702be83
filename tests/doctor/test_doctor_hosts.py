"""Clocks of other hosts: a stand-in for ssh runs the real question in a local shell, with a clock that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_machine import FakeMachine

from fcn4dist.doctor.hosts import Clock, check_host_clock, examine_hosts
from fcn4dist.errors import ConfigError, RankTableError

SSH = """#!/bin/sh
[ -z "$FCN4DIST_JOB_SECRET" ] || { echo "the secret is here" >&2; exit 255; }
case "$1" in
192.0.2.1) exec sh -c "$2" ;;
192.0.2.2) date() { echo "$(($(command date +%s) + 5000)).5"; }; eval "$2" ;;
*) echo "connect to host $1 port 22: No route to host" >&2; exit 255 ;;
esac
"""


@pytest.fixture
def ssh(machine: FakeMachine, tmp_path: Path) -> FakeMachine:
    program = tmp_path / "ssh"
    program.write_text(SSH)
    program.chmod(0o755)
    machine.environ |= {"SSH": str(program), "FCN4DIST_JOB_SECRET": "hush"}
    return machine


def test_each_host_is_asked_and_judged(ssh: FakeMachine, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("192.0.2.1 slots=8\n192.0.2.2 slots=8\n192.0.2.3\n")
    right, wrong, silent = examine_hosts(hostfile, ssh.around)
    assert (right.name, right.status) == ("host 192.0.2.1", "ok")
    assert (wrong.name, wrong.status) == ("host 192.0.2.2", "warning")
    assert "s ahead of this one's" in wrong.message
    assert 4998 < float(wrong.message.split()[3]) < 5002
    assert silent.status == "warning"
    assert "could not be read: connect to host 192.0.2.3 port 22: No route to host" in silent.message


def test_a_difference_counts_only_beyond_its_error() -> None:
    assert check_host_clock(Clock("a", -1.4, 0.5)).status == "ok"
    assert check_host_clock(Clock("a", -1.6, 0.5)).status == "warning"


def test_an_ssh_that_is_not_there_and_a_file_that_is_not(machine: FakeMachine, tmp_path: Path) -> None:
    machine.environ["SSH"] = "/nowhere/ssh"
    hostfile = tmp_path / "hosts"
    hostfile.write_text("192.0.2.1\n")
    (check,) = examine_hosts(hostfile, machine.around)
    assert "/nowhere/ssh: No such file or directory" in check.message
    with pytest.raises(ConfigError, match="No such file"):
        list(examine_hosts(tmp_path / "other", machine.around))
    hostfile.write_text("192.0.2.1 slots=0\n")
    with pytest.raises(RankTableError, match="hosts:1: slots=0"):
        list(examine_hosts(hostfile, machine.around))
