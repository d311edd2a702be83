"""A flood of strangers against the port where launchers meet, while two hosts meet there and train.

    python -m benchmarks.strangers --rate 1000 --seconds 60

The master's host is up alone for so many seconds, then the other one comes, and both train, all under the flood; the hosts are
network namespaces, which need root. The job must end at its first start with the weights of one that nobody knocked at; the
master's memory must stay flat, its descriptors bounded and its log short. Prints a table; exits 1 where that is not so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil

from benchmarks.chaos import build_jobs, differences, opened_hosts, write_shards
from benchmarks.chaos_hosts import HostsJob
from benchmarks.chaos_job import wait_for
from benchmarks.fake_hosts import FakeHosts
from fcn4dist.hosts.place import DEFAULT_PORT
from fcn4dist.hosts.transport import LOG_LINES, LOG_WINDOW_S, MAX_STRANGERS
from fcn4dist.hosts.wire import WireError, greet_as_member

PATIENCE_S = 10.0  # of a stranger, for the master to close
TICK_S = 0.02
MOST_AT_ONCE = 2000  # strangers; where a machine is too slow for the rate, fewer come, and the table says how many
WARM_S = 5.0  # of the flood: then the master has had as many strangers at once as it takes
FLAT_MB = 16.0
SPARE_FILES = 200  # beside those of strangers that may prove the secret: those being dropped, and the launcher's own
PATIENT = ("launch.stall_timeout_s=120", "launch.peer_timeout_s=120")  # a crowded machine is not what is tried here
NUM_ADDRESSES = 32  # of the strangers, beside that of the member itself

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def read_on(reader: asyncio.StreamReader) -> None:
    """Take what the master says until it closes."""
    while await reader.read(4096):
        pass


def saying(words: Callable[[], bytes]) -> Callable[[Streams], Awaitable[None]]:
    """Return a stranger that says something and waits."""

    async def speak(streams: Streams) -> None:
        streams[1].write(words())
        await read_on(streams[0])

    return speak


def greet_tls() -> bytes:
    """Return the first words of a TLS client."""
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="node-a").do_handshake()
    return out.read()


async def close_at_once(streams: Streams) -> None:
    """Say nothing and leave."""


async def prove_another_secret(streams: Streams) -> None:
    """Speak the protocol with a wrong secret."""
    with contextlib.suppress(WireError):
        await greet_as_member(*streams, b"not the secret of this job")


TLS = greet_tls()
STRANGERS: dict[str, Callable[[Streams], Awaitable[None]]] = {
    "closes at once": close_at_once,
    "garbage": saying(lambda: os.urandom(8192)),
    "half a line": saying(lambda: b'{"type":"hel'),
    "TLS hello": saying(lambda: TLS),
    "HTTP GET": saying(lambda: b"GET / HTTP/1.1\r\nHost: node-a\r\n\r\n"),
    "wrong secret": prove_another_secret,
    "silent": saying(lambda: b""),
}


async def knock(kind: str, address: str, port: int, source: str, counts: Counter[str]) -> None:
    """Be one stranger; one whose connection is refused counts as that."""
    counts["tried"] += 1
    try:
        streams = await asyncio.wait_for(asyncio.open_connection(address, port, local_addr=(source, 0)), PATIENCE_S)
    except (OSError, asyncio.TimeoutError):
        counts["refused"] += 1
        return
    counts[kind] += 1
    try:
        await asyncio.wait_for(STRANGERS[kind](streams), PATIENCE_S)
    except asyncio.TimeoutError:
        counts["never dropped"] += 1
    except OSError:
        pass
    finally:
        streams[1].transport.abort()


async def flood(address: str, port: int, sources: list[str], rate: float) -> None:
    """Knock until SIGTERM; print once a second how often so far."""
    counts, knocks, kinds = Counter[str](), set[asyncio.Task[None]](), list(STRANGERS)
    stop, planned = asyncio.Event(), 0
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    begun_s = told_s = time.monotonic()
    while not stop.is_set():
        now_s = time.monotonic()
        due = round((now_s - begun_s) * rate) - planned
        planned += due
        for _ in range(min(due, MOST_AT_ONCE - len(knocks))):
            task = asyncio.create_task(knock(random.choice(kinds), address, port, random.choice(sources), counts))
            knocks.add(task)
            task.add_done_callback(knocks.discard)
        if now_s - told_s >= 1:
            told_s = now_s
            print(json.dumps(counts), flush=True)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), TICK_S)
    print(json.dumps(counts), flush=True)


@dataclass
class Phase:
    """What was seen of the master's launcher, and how many knocked meanwhile."""

    name: str
    before: Counter[str]
    begun_s: float = field(default_factory=time.monotonic)
    after: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    resident_mb: list[float] = field(default_factory=list)  # twice a second
    num_files: list[int] = field(default_factory=list)

    def look(self, master: psutil.Process) -> None:
        """Note the memory and the descriptors of the launcher, while it lives."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.resident_mb.append(master.memory_info().rss / 1e6)
            self.num_files.append(master.num_fds())

    @property
    def tried(self) -> int:
        """How many strangers came."""
        return self.after["tried"] - self.before["tried"]

    def __str__(self) -> str:
        refused = self.after["refused"] - self.before["refused"]
        memory = f"{self.resident_mb[0]:.0f} / {self.resident_mb[-1]:.0f} / {max(self.resident_mb):.0f}"
        return (
            f"{self.name:<24} {self.seconds:>7.1f} {self.tried:>9} {refused:>9} {self.tried / self.seconds:>7.0f} "
            f"{memory:>20} {max(self.num_files):>8}"
        )


@dataclass
class Watch:
    """The flood's count and the master's launcher, phase by phase."""

    master: psutil.Process
    counts_file: Path
    phases: list[Phase] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """Return how many strangers came so far."""
        lines = self.counts_file.read_text().splitlines()
        return Counter(json.loads(lines[-1])) if lines else Counter()

    def during(self, name: str, is_over: Callable[[], object], limit_s: float) -> None:
        """Look on until a phase is over."""
        phase = Phase(name, self.counts())

        def look() -> object:
            phase.look(self.master)
            time.sleep(0.5)
            return is_over()

        wait_for(look, f"the end of: {name}", limit_s)
        if not phase.resident_mb:
            raise click.ClickException(f"the master's launcher had ended before: {name}")
        phase.after, phase.seconds = self.counts(), time.monotonic() - phase.begun_s
        self.phases.append(phase)


def faults(job: HostsJob, undisturbed: HostsJob, watch: Watch) -> Iterator[str]:
    """Yield what the strangers have changed."""
    if job.exit_codes != ([0], [0]):
        yield f"launchers ended with {job.exit_codes}, expected 0 on both at the first start"
    yield from differences(job, undisturbed)
    waiting = watch.phases[0]
    warm_mb = waiting.resident_mb[min(round(2 * WARM_S), len(waiting.resident_mb) - 1)]
    if max(waiting.resident_mb) > warm_mb + FLAT_MB:
        yield f"the master's memory grew from {warm_mb:.0f} to {max(waiting.resident_mb):.0f} MB while it waited"
    files = max(n for phase in watch.phases for n in phase.num_files)
    if files > MAX_STRANGERS + SPARE_FILES:
        yield f"the master had {files} files open, expected {MAX_STRANGERS} strangers and {SPARE_FILES} others at most"
    seconds = sum(phase.seconds for phase in watch.phases)
    lines = dropped_lines(job)
    if lines > (LOG_LINES + 1) * (seconds / LOG_WINDOW_S + 1):
        yield f"{lines} lines about strangers in {seconds:.0f} s, expected {LOG_LINES + 1} in {LOG_WINDOW_S:g} s"
    if len(job.events()) > len(undisturbed.events()) + 4:
        yield f"{len(job.events())} events, without strangers {len(undisturbed.events())}"


def dropped_lines(job: HostsJob) -> int:
    """Return how many lines of the master are about strangers."""
    return job.run.with_suffix(".0.out").read_text().count(" dropped")


def run_under_flood(job: HostsJob, hosts: FakeHosts, rate: float, seconds: float, folder: Path) -> Watch:
    """Run the job under a flood; returns what was seen."""
    sources = [hosts.addresses[1], *hosts.add_addresses(1, NUM_ADDRESSES)]
    master_at = (hosts.addresses[0], DEFAULT_PORT)
    job.keep_up([0])
    wait_for(lambda: "waiting for the other hosts" in job.run.with_suffix(".0.out").read_text(), "the master")
    assert job.popens[0] is not None
    words = [sys.executable, "-m", "benchmarks.strangers", "--knock", *map(str, master_at), "--rate", str(rate)]
    with (folder / "counts").open("ab") as output:
        command = hosts.inside(1, *words, *(f"--source={source}" for source in sources))
        strangers = subprocess.Popen(command, stdout=output)
    try:
        watch = Watch(psutil.Process(job.popens[0].pid), folder / "counts")
        wait_for(lambda: watch.counts()["tried"], "the first stranger")
        end_s = time.monotonic() + seconds
        watch.during("the master waits", lambda: time.monotonic() >= end_s, 2 * seconds)

        out = job.run.with_suffix(".0.out")

        def has_joined() -> bool:
            job.keep_up()
            return "2 hosts, 4 ranks" in out.read_text()

        watch.during("the other host joins", has_joined, 600)

        def trains() -> bool:
            job.keep_up()
            return job.is_finished or job.last_step() > 0

        watch.during("both start, compile", trains, 600)
        end_s = time.monotonic() + seconds

        def has_trained() -> bool:
            job.keep_up()
            return job.is_finished or time.monotonic() >= end_s

        watch.during("both train", has_trained, 2 * seconds)
        job.finish()
    finally:
        strangers.terminate()
        strangers.wait()
    return watch


@click.command()
@click.option("--rate", type=click.FloatRange(1), default=1000.0, show_default=True, help="Strangers a second.")
@click.option("--seconds", type=click.FloatRange(10), default=60.0, show_default=True, help="Of each phase.")
@click.option("--steps", type=click.IntRange(1), default=2000, show_default=True, help="That the hosts train.")
@click.option("--knock", type=(str, int), hidden=True)
@click.option("--source", "sources", multiple=True, hidden=True)
def main(rate: float, seconds: float, steps: int, knock: tuple[str, int] | None, sources: tuple[str, ...]) -> None:
    """Let strangers knock at the port where two hosts meet, and compare the job with one that nobody disturbed."""
    if knock is not None:
        asyncio.run(flood(*knock, list(sources), rate))
        return
    with opened_hosts(2) as hosts:
        assert hosts is not None
        folder = Path(tempfile.mkdtemp(prefix="strangers-"))
        write_shards(folder / "shards")
        undisturbed, job = build_jobs(folder, steps, "plain", hosts)
        assert isinstance(undisturbed, HostsJob)
        assert isinstance(job, HostsJob)
        undisturbed.settings = job.settings = PATIENT
        try:
            undisturbed.finish()
            watch = run_under_flood(job, hosts, rate, seconds, folder)
            found = list(faults(job, undisturbed, watch))
        finally:
            for each in (undisturbed, job):
                each.end()
    click.echo(
        f"{'phase':<24} {'seconds':>7} {'strangers':>9} {'refused':>9} {'a second':>7} "
        f"{'MB first/last/most':>20} {'files':>8}"
    )
    for phase in watch.phases:
        click.echo(str(phase))
    kinds = ", ".join(f"{kind} {watch.counts()[kind]}" for kind in [*STRANGERS, "never dropped"])
    click.echo(f"connected: {kinds}; lines about strangers: {dropped_lines(job)}; events: {len(job.events())}")
    click.echo("\n".join(found) or f"{steps} steps, weights and optimizer as without strangers; nothing lost")
    if not found:
        shutil.rmtree(folder)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
