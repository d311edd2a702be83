"""16,384 devices: written and checked in little memory, in time that grows with the devices (seconds: docs/lab/results.md)."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path

from rank_table_samples import concise_table

from fcn4dist.ascend.hostfile import AddressPattern, build_server
from fcn4dist.ascend.rank_table.build import build_table, check_written, format_table, to_text
from fcn4dist.ascend.rank_table.check import check_all_chips
from fcn4dist.ascend.rank_table.read import parse_document

ROOT = Path(__file__).resolve().parents[3]

# The kernel's high-water mark of this program; getrusage would count what the test runner had when it forked.
MEASURE = """
import re, sys
from pathlib import Path
from fcn4dist.cli.main import main
main(["rank-table", "generate", "--chip", "910b", "--hostfile", sys.argv[1], "--device-ip-pattern", "100.64.0.0/10",
      "--output", sys.argv[2]])
main(["rank-table", "validate", sys.argv[2], "--msrun"])
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def test_16384_devices_take_less_than_300_mb(tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"10.{n // 250}.{n % 250}.7 slots=8\n" for n in range(2048)))
    command = [sys.executable, "-c", MEASURE, str(hosts), str(tmp_path / "table.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    verdict, measured = done.stdout.splitlines()
    assert "accepted (910, 910b, a3, 310p3)" in verdict
    assert float(measured) < 300


def cpu_seconds(num_servers):
    begin = time.process_time()
    addresses = AddressPattern("100.64.0.0/10").addresses([tuple(range(8))] * num_servers)
    servers = [build_server(f"10.{n // 250}.{n % 250}.7", dict(enumerate(found))) for n, found in enumerate(addresses)]
    document = format_table(build_table(servers, "910b"))
    check_written(document, "910b")
    assert all(verdict.accepted for verdict in check_all_chips(parse_document(to_text(document).encode(), "t.json")))
    return time.process_time() - begin


def test_time_grows_with_the_devices():
    """Four times the devices take four times as long; a quadratic step would make it sixteen."""
    gc.collect()
    gc.freeze()  # what other tests left behind is no cost of ours
    try:
        small, large = min(cpu_seconds(128) for _ in range(3)), min(cpu_seconds(512) for _ in range(3))
    finally:
        gc.unfreeze()
    assert large / small < 8


def worst_table(num_servers):
    """Return a table in which every field of every device is wrong."""
    table = concise_table(num_servers, 8)
    for server in table["server_list"]:
        server["server_id"] = "same"
        for device in server["device"]:
            device.update(device_id="0", device_ip="198.51.100.1", rank_id="0", host_port="x")
    return parse_document(to_text(table).encode(), "t.json")


def judging_seconds(document):
    begin = time.process_time()
    verdicts = check_all_chips(document, msrun=True)
    assert all(len(verdict.findings) > 100 for verdict in verdicts)
    return time.process_time() - begin


def test_the_worst_table_is_judged_in_linear_time():
    """The messages must not make it slow."""
    small, large = worst_table(16), worst_table(64)
    assert min(judging_seconds(large) for _ in range(3)) / min(judging_seconds(small) for _ in range(3)) < 8
