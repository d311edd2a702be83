"""The hosts of a host file, asked by ssh: do they answer, and how far are their clocks from this one's?"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.ascend.hostfile import parse_hostfile
from fcn4dist.ascend.tools import without_own
from fcn4dist.doctor.question import Check, Surroundings
from fcn4dist.errors import ConfigError

CLOCK_LIMIT_S = 1.0  # between two hosts; above it times in their logs contradict each other
LIMIT_S = 15.0  # for one host to answer
MAX_AT_ONCE = 32
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=5"  # the variable SSH says otherwise, as for launch/ssh.sh


@dataclass(frozen=True)
class Clock:
    """What a host's clock says against this one's."""

    host: str
    ahead_s: float = 0.0  # its clock minus ours
    error_s: float = 0.0  # half of the way there and back: the difference is known no better
    problem: str = ""  # why it could not be asked


def examine_hosts(hostfile: Path, around: Surroundings) -> Iterator[Check]:
    """Yield a check for each host in the file, in its order.

    Raises ConfigError when the file cannot be read, and RankTableError naming the line that is wrong.
    """
    try:
        text = hostfile.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--hostfile {hostfile}: {getattr(error, 'strerror', None) or error}") from None
    names = [host.name for host in parse_hostfile(text, str(hostfile))]
    ssh, environ = shlex.split(around.environ.get("SSH", SSH)), without_own(around.environ)
    with ThreadPoolExecutor(min(len(names), MAX_AT_ONCE)) as pool:
        for clock in pool.map(lambda name: ask_clock(ssh, name, environ), names):
            yield check_host_clock(clock)


def ask_clock(ssh: Sequence[str], host: str, environ: Mapping[str, str]) -> Clock:
    """Read a host's clock; it is compared with the middle of question and answer, once ssh has connected.

    The remote shell prints a line when it starts, and its time when it hears the line that this side sends then.
    """
    command = [*ssh, host, "echo; read -r _; date +%s.%N"]
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
        ) as asked:
            timer = _kill_after(asked)
            try:
                assert asked.stdin is not None
                assert asked.stdout is not None
                asked.stdout.readline()  # the connection stands
                sent_at = time.time()
                with contextlib.suppress(BrokenPipeError):  # it has ended; then it said why
                    asked.stdin.write("\n")
                    asked.stdin.flush()
                answer = asked.stdout.readline()
                heard_at = time.time()
                _, complaint = asked.communicate()
            finally:
                timer.cancel()
        there = float(answer)
    except ValueError:
        last = complaint.strip().splitlines()[-1:] or [f"no answer within {LIMIT_S:g} s"]
        return Clock(host, problem=last[0])
    except OSError as error:
        return Clock(host, problem=f"{ssh[0]}: {error.strerror}")
    return Clock(host, there - (sent_at + heard_at) / 2, (heard_at - sent_at) / 2)


def _kill_after(process: subprocess.Popen[str]) -> threading.Timer:
    timer = threading.Timer(LIMIT_S, process.kill)
    timer.daemon = True
    timer.start()
    return timer


def check_host_clock(clock: Clock) -> Check:
    """Judge one host's answer."""
    name = f"host {clock.host}"
    if clock.problem:
        remedy = "it must take ssh with a key, no password; or run doctor on it"
        return Check(name, "warning", f"its clock could not be read: {clock.problem}", remedy)
    side = "ahead of" if clock.ahead_s > 0 else "behind"
    found = f"its clock is {abs(clock.ahead_s):.3f} s {side} this one's, to {clock.error_s:.3f} s"
    if abs(clock.ahead_s) - clock.error_s <= CLOCK_LIMIT_S:
        return Check(name, "ok", found)
    return Check(name, "warning", f"{found}: times in their logs contradict", "keep all hosts by NTP (chronyd)")
