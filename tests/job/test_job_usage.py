from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcn4dist.ascend.tools import parse_npu_usage
from fcn4dist.job.events import Exited, Started, WallClock
from fcn4dist.job.process import ExitStatus
from fcn4dist.job.usage import UsageRecorder

# as printed by npu-smi 24.1 on a host of 910B, and by one of A3 with its Phy-ID column
TABLE = """+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc2                 Version: 24.1.rc2                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 93.4        47                0    / 0             |
| 0                         | 0000:C1:00.0  | 12          0    / 0          3350 / 65536         |
+===========================+===============+====================================================+
| 7     910B3               | Alarm         | -           NA                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          NA   / 65536         |
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 0       0                 | 40113         | python                   | 3300                    |
"""


def test_the_table_of_npu_smi() -> None:
    first, second = parse_npu_usage(TABLE)
    assert first == {
        "npu": 0,
        "chip": 0,
        "power_w": 93.4,
        "temperature_c": 47.0,
        "load_percent": 12.0,
        "memory_bytes": 3350 * 2**20,
        "total_bytes": 65536 * 2**20,
    }
    assert second == {"npu": 7, "chip": 0, "load_percent": 0.0, "total_bytes": 65536 * 2**20}
    assert parse_npu_usage("") == []
    assert parse_npu_usage("npu-smi: dcmi model initialized failed, ret is -8005") == []


def test_processes_are_looked_at_from_their_start_to_their_end(tmp_path: Path) -> None:
    code = "x = bytearray(100 << 20); print('there', flush=True)\nwhile True: pass"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        recorder = UsageRecorder(tmp_path / "usage.jsonl", WallClock(), 2)
        recorder.on_event(Started(0.0, "rank-3", child.pid))
        assert child.stdout is not None
        child.stdout.readline()
        line = recorder.look()
        assert line["attempt"] == 2
        assert line["processes"]["rank-3"]["memory_bytes"] > 100 << 20
        end_s = time.monotonic() + 30
        while recorder.look()["processes"]["rank-3"]["cpu_percent"] <= 0:
            assert time.monotonic() < end_s
        recorder.on_event(Exited(1.0, "rank-3", ExitStatus(0)))
        assert recorder.look()["processes"] == {}
    finally:
        child.kill()
        child.communicate()


def test_lines_are_written_and_npus_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "npu-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{TABLE}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("fcn4dist.job.usage.FIRST_LOOKS_S", 0.05)
    file = tmp_path / "metrics" / "usage.jsonl"
    with UsageRecorder(file, WallClock(), 1, {"rank-0": os.getpid()}):
        end_s = time.monotonic() + 30
        while not file.exists() or file.read_text().count("\n") < 2:
            assert time.monotonic() < end_s
            time.sleep(0.02)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0]["devices"][0]["power_w"] == 93.4
    assert lines[0]["processes"]["rank-0"]["memory_bytes"] > 1 << 20
    assert lines[1]["time"] > lines[0]["time"]


def test_a_process_that_is_gone_is_no_error(tmp_path: Path) -> None:
    recorder = UsageRecorder(tmp_path / "usage.jsonl", WallClock(), 1, {"rank-0": 2**22 + 1})
    assert recorder.look()["processes"] == {}
