"""Left-over variables, ports, data, run folder and disk."""

from __future__ import annotations

import os
import socket
from collections import namedtuple
from contextlib import ExitStack
from pathlib import Path

import pytest
from audio_set import make_audio_set
from fake_machine import FakeMachine

from fcn4dist.config import BatchPlan, RunConfig, build_config, override_config
from fcn4dist.doctor.folders import check_disk, check_run_folder, config_to_be_used, examine_data
from fcn4dist.doctor.job import check_environment, check_ports

ONE = BatchPlan(8, 1)


def test_a_clean_environment(machine: FakeMachine) -> None:
    machine.environ |= {"FCN4DIST_JOB_SECRET": "x", "ASCEND_RT_VISIBLE_DEVICES": "0,1"}
    check = check_environment("CPU", machine.around)
    assert (check.status, check.remedy) == ("ok", "")


def test_left_over_variables_are_named(machine: FakeMachine) -> None:
    machine.environ |= {"RANK_ID": "3", "MS_ROLE": "MS_WORKER", "RANK_TABLE_FILE": "/nowhere/hccl.json"}
    check = check_environment("CPU", machine.around)
    assert check.status == "warning"
    assert "RANK_ID=3" in check.message
    assert "RANK_TABLE_FILE names no file" in check.message
    assert check.remedy == "unset MS_ROLE RANK_ID RANK_TABLE_FILE"


def test_the_secret_of_a_job_is_never_shown(machine: FakeMachine) -> None:
    machine.environ |= {"FCN4DIST_JOB_SECRET": "hunter2", "RANK_ID": "3"}
    assert "hunter2" not in check_environment("CPU", machine.around).message


def test_the_old_name_of_the_rank_table_is_named(machine: FakeMachine) -> None:
    machine.environ["MINDSPORE_HCCL_CONFIG_PATH"] = str(machine.write("old.json", "{}"))
    check = check_environment("Ascend", machine.around)
    assert check.status != "ok"
    assert check.remedy == "unset MINDSPORE_HCCL_CONFIG_PATH"


def test_ports_of_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_ports("Ascend", 1).status == "ok"
    with ExitStack() as stack:
        first = free_run(stack)
        monkeypatch.setattr("fcn4dist.doctor.job.MINDSPORE_PORTS", range(first, first + 4096))
        check = check_ports("CPU", 1)
    assert (check.status, f"{first} to {first + 9} are all in use" in check.message) == ("warning", True)
    assert check_ports("CPU", 1).status == "ok"


def free_run(stack: ExitStack) -> int:
    """Listen on ten ports in a row and return the first."""
    for first in range(40_000, 60_000, 10):
        held = [stack.enter_context(socket.socket()) for _ in range(10)]
        try:
            for offset, server in enumerate(held):
                server.bind(("127.0.0.1", first + offset))
                server.listen(1)
        except OSError:
            continue
        return first
    pytest.fail("no ten free ports in a row")


def test_the_demo_set_is_examined_as_it_will_be(tmp_path: Path) -> None:
    assert "demo set" in examine_data(RunConfig(), ONE, is_quick=True, demo=True).check.message
    assert config_to_be_used(RunConfig(), tmp_path, demo=True).model.channels != RunConfig().model.channels


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"records_dir": "nowhere"}, "nowhere: no such folder"),
        ({"annotations": "nowhere.csv", "audio_dir": "."}, "nowhere.csv"),
    ],
)
def test_data_that_are_not_there(data: dict[str, str], words: str) -> None:
    check = examine_data(build_config({"data": data}, "test"), ONE, is_quick=True).check
    assert (check.status, words in check.message) == ("error", True), check
    assert check.remedy


def test_audio_that_is_listed_must_be_there(tmp_path: Path) -> None:
    rows = ['"clip_id"\t"guitar"\t"drums"\t"mp3_path"', *(f'"{i}"\t"1"\t"0"\t"{i}.wav"' for i in range(4))]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    for i in range(3):
        (tmp_path / f"{i}.wav").touch()
    values = {"annotations": tmp_path / "a.csv", "audio_dir": tmp_path, "tags": 2}
    found = examine_data(build_config({"data": values}, "test"), ONE, is_quick=True)
    assert (found.check.status, "1 cannot be read, the first" in found.check.message) == ("error", True)
    assert found.bytes_to_prepare == 4 * 96 * 1366 * 4
    patient = build_config({"data": {**values, "max_skipped_fraction": 0.5}}, "test")
    assert examine_data(patient, ONE, is_quick=True).check.status == "warning"
    (tmp_path / "3.wav").touch()
    assert examine_data(build_config({"data": values}, "test"), ONE, is_quick=True).check.status == "ok"


def test_clips_that_do_not_fit_what_the_network_hears_are_said_before_any_work(tmp_path: Path) -> None:
    audio = make_audio_set(tmp_path / "audio", num_clips=24)  # clips of 1 s
    (tmp_path / "tags.csv").write_text("file,tags\n" + "".join(f"{audio.path(row)},x\n" for row in range(24)))
    named = {
        "audio_dir": str(audio.folder),
        "annotations": str(tmp_path / "tags.csv"),
    }  # without lengths: by the headers
    config = override_config(RunConfig(), data={**named, "tags": "all", "split": "random"})
    found = examine_data(config, ONE, is_quick=True).check
    assert found.status == "warning"
    assert (
        "the median clip is 1.00 s long, mel.clip_s is 29.12: 97% of what the network hears is silence" in found.message
    )
    fitting = override_config(config, mel={"clip_s": 1.0}, model={"pools": [(2, 2), (2, 2), (2, 2)]})
    assert examine_data(fitting, ONE, is_quick=True).check.status == "ok"


def test_the_run_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    assert check_run_folder(tmp_path / "runs/new").status == "ok"
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    assert check_run_folder(tmp_path / "file").status == "error"
    (tmp_path / "config.yaml").touch()
    assert "--resume" in check_run_folder(tmp_path).message
    assert check_run_folder(Path("/proc/nowhere")).status == "error"


def test_the_disk_must_hold_the_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    for free, status in ((100 << 30, "ok"), (600 << 20, "warning"), (100 << 20, "error")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: usage(free, 0, free))
        assert check_disk(RunConfig(), tmp_path, 0).status == status
