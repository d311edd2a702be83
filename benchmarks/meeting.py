"""How long 128 launchers on one machine take to meet, and what 16,384 devices in the roster cost the master's memory.

The launchers are processes with an address each, 127.0.0.x; the roster's 2,048 hosts are connections of one process, which speak
the protocol as members do. `python -m benchmarks.meeting` prints both figures.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import random
import resource
import subprocess
import sys
import time
from typing import Any

from fcn4dist.ascend.hostfile import build_server
from fcn4dist.ascend.rank_table.build import build_table, format_table
from fcn4dist.config import load_config
from fcn4dist.hosts.job_table import generate_job_table
from fcn4dist.hosts.master import MasterSession
from fcn4dist.hosts.member import MemberSession
from fcn4dist.hosts.roster import Go, HostCard, Readiness, shared_config
from fcn4dist.hosts.transport import BEAT, RETRY_S
from fcn4dist.hosts.wire import MAX_LINE_BYTES, Wire, WireError, greet_as_member
from fcn4dist.job.ports import choose_port

HOST = "127.0.0.1"
SECRET = b"a secret for this benchmark"
LIMIT_S = 300.0


def card(node_rank: int, num_nodes: int, devices: int, address: str, config: dict[str, Any]) -> HostCard:
    """Return how a host introduces itself."""
    return HostCard(
        node_rank=node_rank,
        num_nodes=num_nodes,
        host=f"node-{node_rank:04d}",
        address=address,
        devices=devices,
        target="Ascend",
        resume=False,
        rank_table="auto",
        versions={"fcn4dist": "1", "mindspore": "2"},
        config=config,
    )


def ready(node_rank: int, devices: int) -> Readiness:
    """Return what a host finds: its own part of the rank table."""
    number = node_rank * devices
    addresses = {i: f"10.{(number + i) >> 16}.{(number + i) >> 8 & 255}.{(number + i) & 255}" for i in range(devices)}
    own = format_table(build_table([build_server(address_of(node_rank), addresses)], "910b"))
    return Readiness(
        attempt=1, data={"clips": "x" * 64}, data_dir="/data", server={"chip": "910b", "table": own, "gap": ""}
    )


def address_of(node_rank: int) -> str:
    """Return a host's address in the job, of a network that is nobody's."""
    return f"198.18.{node_rank >> 8}.{node_rank & 255}"


def measure_meeting(num_launchers: int) -> float:
    """Return the seconds from the first launcher's start until the last one knows all others."""
    port, config = choose_port(), shared_config(load_config())
    readers = []
    start_s = time.monotonic()
    for rank in range(1, num_launchers):
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, str(join_as_process(rank, num_launchers, port, config)).encode())
            os._exit(0)
        os.close(write)
        readers.append(read)
    master = MasterSession(card(0, num_launchers, 8, HOST, config), port, SECRET, None)
    master.join(LIMIT_S, "runs/x", lambda _text: None)
    ends = [float(os.read(read, 64)) for read in readers]
    master.close()
    return max(ends) - start_s


def join_as_process(rank: int, num_launchers: int, port: int, config: dict[str, Any]) -> float:
    """Join from this process's own address; returns when it knew all others, by the clock that all processes share."""
    source = (f"127.0.0.{rank + 1}", 0)
    asyncio.open_connection = functools.partial(asyncio.open_connection, local_addr=source)
    member = MemberSession(card(rank, num_launchers, 8, HOST, config), ((HOST,), port), SECRET)
    layout = member.join(LIMIT_S, "runs/x", lambda _text: None)
    end_s = time.monotonic()
    assert layout.nodes[rank].address == source[0]
    member.close()
    return end_s


def be_master(port: int, num_hosts: int, devices: int) -> None:
    """Lead a job until all hosts have the rank table; print the seconds, and the most memory that this process had."""
    import fcn4dist.launch.pipeline  # noqa: F401 - what a launcher has loaded

    config = shared_config(load_config())
    session = MasterSession(card(0, num_hosts, devices, HOST, config), port, SECRET, None)
    start_s = time.monotonic()
    layout = session.join(LIMIT_S, "runs/x", lambda _text: None)
    joined_s = time.monotonic()

    def decide(readies: list[Readiness]) -> Go:
        servers = [found.server for found in readies if found.server is not None]
        table, _ = generate_job_table(layout, servers, read_as=None)
        return Go(scheduler_host=HOST, scheduler_port=port + 1, attempt=1, config=config, rank_table=table)

    session.begin(decide(session.gather(ready(0, devices), lambda _text: None)))
    for _ in range(num_hosts - 1):
        mail = session._mail.get(timeout=LIMIT_S)
        assert mail.message == {"type": "done"}, mail
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    told_s = time.monotonic() - joined_s
    print(f"{num_hosts} hosts, {layout.world_size} devices: joined in {joined_s - start_s:.1f} s, ", end="")
    print(f"all had the rank table {told_s:.1f} s later; the master had {peak_mb:.0f} MB at most")
    session.close()


async def be_members(port: int, num_hosts: int, devices: int) -> None:
    """Play all hosts but the master, in this process."""
    config = shared_config(load_config())
    wires: list[Wire] = []
    beats = asyncio.create_task(beat(wires))
    members = (be_member(port, card(rank, num_hosts, devices, HOST, config), wires) for rank in range(1, num_hosts))
    await asyncio.gather(*members)
    beats.cancel()


async def beat(wires: list[Wire]) -> None:
    """Let the master hear of all members."""
    while True:
        for wire in wires:
            wire.send(BEAT)
        await asyncio.sleep(1)


async def be_member(port: int, own: HostCard, wires: list[Wire]) -> None:
    """Join, bring this host's part of the table, and take the whole."""
    source = (f"127.0.{1 + (own.node_rank >> 8)}.{own.node_rank & 255}", 0)
    while True:
        try:
            streams = await asyncio.open_connection(HOST, port, limit=MAX_LINE_BYTES, local_addr=source)
            wire = await greet_as_member(*streams, SECRET)
            break
        except (WireError, OSError):
            await asyncio.sleep(random.uniform(*RETRY_S))
    wires.append(wire)
    wire.send({"type": "hello", "card": own.model_dump(), "sent_at": time.time()})
    await hear(wire, b'"layout"')
    wire.send({"type": "ready", "ready": ready(own.node_rank, own.devices).model_dump()})
    await hear(wire, b'"go"')
    wire.send({"type": "done"})
    await hear(wire, b"")


async def hear(wire: Wire, word: bytes) -> None:
    """Read until a line with a word, unparsed: 2,048 tables in one process would be the benchmark of that."""
    while line := await wire._reader.readline():
        if word and word in line[:200]:
            return


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launchers", type=int, default=128)
    parser.add_argument("--hosts", type=int, default=2048)
    parser.add_argument("--devices", type=int, default=8, help="on each of the hosts")
    parser.add_argument("--master-port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.master_port is not None:
        be_master(options.master_port, options.hosts, options.devices)
        return
    print(f"{options.launchers} launchers met in {measure_meeting(options.launchers):.1f} s", flush=True)
    port = choose_port()
    sizes = [f"--hosts={options.hosts}", f"--devices={options.devices}"]
    with subprocess.Popen([sys.executable, "-m", "benchmarks.meeting", f"--master-port={port}", *sizes]) as master:
        asyncio.run(be_members(port, options.hosts, options.devices))
    sys.exit(master.returncode)


if __name__ == "__main__":
    main()
