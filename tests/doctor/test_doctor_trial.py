"""`doctor --npu` with real processes: on CPU as it is, on Ascend with a MindSpore that fails as the real one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import indent

import psutil
import pytest

from fcn4dist.ascend.devices import DeviceNumber
from fcn4dist.config import load_config
from fcn4dist.doctor.question import Check
from fcn4dist.doctor.trial import DeviceTrial, run_trial, try_devices
from fcn4dist.job.devices import CoreShare, HostDevices

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "fcn4dist", "doctor", "--quick", "--npu"]

# what the trial takes of MindSpore, as far as init(); the scheduler listens, since ranks wait for that
FAKE = """
import os, signal, socket, sys, types
from pathlib import Path
GRAPH_MODE = 0
Tensor = amp = ops = None
nn = types.SimpleNamespace(Cell=object)
def set_device(*_): pass
def set_context(**_): pass
def init():
    if os.environ["MS_ROLE"] == "MS_SCHED":
        server = socket.create_server((os.environ["MS_SCHED_HOST"], int(os.environ["MS_SCHED_PORT"])))
        signal.pause()
    if os.environ["RANK_ID"] == "1":
{fails}
    signal.pause()
communication = types.ModuleType("mindspore.communication")
communication.init = init
sys.modules["mindspore.communication"] = communication
"""
# the words are MindSpore's own: mindspore/run_check/_check_version.py and communication/management.py
HCCL = """
print("[ERROR] ME(7:8,MainProcess):x [_check_version.py:350] CheckFailed: No module named 'te'")
raise RuntimeError('"hccl" wheel was not installed correctly. For details, refer to the installation guidelines: https://x')
"""
PLOG = """
folder = Path(os.environ["ASCEND_PROCESS_LOG_PATH"], "debug/plog")
folder.mkdir(parents=True)
(folder / "plog-1_1.log").write_text("[ERROR] HCCL(1,python): [topo.cc:1] EI0006: Getting socket times out.")
raise RuntimeError("Call HcclCommInitRootInfo failed")
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the variables of a command that puts its temporary folders into `folder`."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "COLUMNS": "200", **more}


def fake_mindspore(folder: Path, fails: str) -> Path:
    (folder / "fake").mkdir()
    (folder / "fake/mindspore.py").write_text(FAKE.format(fails=indent(fails, " " * 8)))
    return folder / "fake"


def test_two_ranks_on_cpu_do_what_a_step_needs(tmp_path: Path) -> None:
    command = [*COMMAND, "--device-target", "CPU", "--devices", "2", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, env=environment(tmp_path), cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)}
    for rank in (0, 1):
        check = found[f"device {rank}"]
        assert check["status"] == "ok"
        assert check["message"].startswith(f"rank {rank} on CPU: import ")
        for name in ("set_device", "init", "allreduce", "allreduce again", "convolution", "all_finite"):
            assert f", {name} " in check["message"]
    assert list(tmp_path.iterdir()) == []  # nothing is left


def test_without_an_npu_there_is_nothing_to_try() -> None:
    (check,) = try_devices(DeviceTrial(load_config(None, ()), None))
    assert (check.status, check.message) == ("error", "no NPU to try")
    (asked,) = try_devices(DeviceTrial(load_config(None, ("launch.device_target=Ascend",)), 1))
    assert (asked.status, "CANN (no libascendcl.so" in asked.message) == ("error", True)


@pytest.mark.parametrize(
    ("fails", "cause", "remedy"),
    [
        (
            HCCL,
            '"hccl" wheel was not installed correctly',
            "the Python module hccl is missing: pip install 'fcn4dist[ascend]'",
        ),
        (PLOG, "Call HcclCommInitRootInfo failed", "hccn_tool -i N -link -g"),  # the reason stands in CANN's log alone
        (
            "raise ImportError('libge_runner.so: undefined symbol: _ZN2ge5')",
            "undefined symbol",
            "CANN has another version than MindSpore was built for",
        ),
    ],
    ids=["module", "link", "version"],
)
def test_a_rank_that_fails_on_an_npu_is_named_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, cause: str, remedy: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{fake_mindspore(tmp_path, fails)}{os.pathsep}{ROOT}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    devices = (DeviceNumber(0, 4), DeviceNumber(1, 5))  # a container with davinci4 and davinci5
    host = HostDevices("Ascend", devices, (CoreShare((), 1),) * 2, avx512_guard=False)
    checks: dict[str, Check] = {}
    others = psutil.Process().children()  # that earlier tests left, such as joblib's
    for check in run_trial(load_config(None, ()), host, ("device 5: its link is DOWN", "device 1: is another one")):
        checks[check.name] = check
    assert checks["device 4"].status == "warning"
    culprit = checks["device 5"]
    assert culprit.status == "error"
    assert "rank 1 on Ascend failed in init: " in culprit.message
    assert cause in culprit.message
    assert culprit.message.endswith("; device 5: its link is DOWN")
    assert remedy in culprit.remedy
    (kept,) = tmp_path.glob("fcn4dist-npu-*")
    assert f"{kept}/logs/attempt-1/rank-1.log" in culprit.remedy
    left = [process for process in psutil.Process().children() if process not in others]
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


def test_ctrl_c_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    path = f"{fake_mindspore(tmp_path, 'pass')}{os.pathsep}{ROOT}"
    command = [*COMMAND, "--device-target", "CPU", "--devices", "2"]
    doctor = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path, PYTHONPATH=path),
    )
    try:
        ranks: list[psutil.Process] = []
        end = time.monotonic() + 120
        while not (len(ranks) == 3 and len(list(tmp_path.glob("fcn4dist-npu-*/logs/*/*.laps.json"))) == 2):
            assert doctor.poll() is None
            assert time.monotonic() < end, "the ranks did not start"
            ranks = psutil.Process(doctor.pid).children()
            time.sleep(0.05)
        doctor.send_signal(signal.SIGINT)
        _, said = doctor.communicate(timeout=60)
    finally:
        doctor.kill()
        doctor.wait()
    assert (doctor.returncode, "ended by SIGINT; no process is left" in said) == (130, True), said
    assert not any(rank.is_running() for rank in ranks)
    assert list(tmp_path.glob("fcn4dist-npu-*")) == []
