from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from fake_ascend import make_host

from fcn4dist.ascend import devices
from fcn4dist.ascend.devices import DeviceNumber, number_devices
from fcn4dist.config import TrainConfig, load_config
from fcn4dist.errors import ConfigError, DeviceError
from fcn4dist.hosts.place import Place
from fcn4dist.hosts.roster import shared_config
from fcn4dist.job.devices import CoreShare, HostDevices
from fcn4dist.job.ports import is_free
from fcn4dist.launch.host_job import (
    check_own_precision,
    choose_devices,
    choose_scheduler_port,
    merge_config,
)


def test_a_host_keeps_its_own_paths_and_devices() -> None:
    decided = shared_config(load_config(overrides=["train.global_batch=12", "data.records_dir=/of/node/0"]))
    own = load_config(overrides=["data.records_dir=/local/copy", "launch.devices=3", "train.seed=9"])
    merged = merge_config(decided, own)
    assert (merged.train.global_batch, merged.train.seed) == (12, 1)
    assert (merged.data.records_dir, merged.launch.devices) == (Path("/local/copy"), 3)


def test_the_schedulers_port_is_the_next_one_where_it_is_free() -> None:
    def choose(launchers_port: int, lost: frozenset[int] = frozenset()) -> int:
        place = Place(2, 0, "127.0.0.1", launchers_port, "--nodes")
        return choose_scheduler_port("127.0.0.1", launchers_port + 1, place, lost)

    port = next(p for p in range(21000, 22000) if is_free(p + 1))
    assert choose(port) == port + 1
    assert choose(port, frozenset({port + 1})) not in (port, port + 1)  # lost to another program
    assert choose(8117) not in range(8118, 12214)  # MindSpore's own
    assert 20000 <= choose(65535) < 30000
    assert choose_scheduler_port("127.0.0.1", 23456, None) == 23456
    assert 20000 <= choose_scheduler_port("127.0.0.1", None, None) < 30000


def test_devices_of_a_host_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostDevices("Ascend", number_devices(2), (CoreShare((), 1),) * 2, avx512_guard=False)
    place = Place(2, 0, "a", 29400, "--hostfile hosts", devices=2, device_ids=(4, 5))
    fake = make_host(tmp_path, None, [4, 5, 6])
    monkeypatch.setattr(devices, "THIS_HOST", fake.paths)
    assert choose_devices(host, place) == replace(host, devices=(DeviceNumber(0, 4), DeviceNumber(1, 5)))
    chosen = choose_devices(host, replace(place, device_ids=(4, 6)))
    assert (chosen.devices, chosen.visible) == ((DeviceNumber(0, 4), DeviceNumber(1, 6)), "0,2")
    with pytest.raises(DeviceError, match=r"--hostfile hosts: device 3 is not among this host's \[4, 5, 6\]"):
        choose_devices(host, replace(place, device_ids=(3, 4)))
    with pytest.raises(ConfigError, match=r"--devices 2: --hostfile hosts gives this host 3"):
        choose_devices(host, replace(place, devices=3, device_ids=(4, 5, 6)))


@pytest.mark.parametrize(("name", "refused"), [("910A", True), ("910ProA", True), ("910B3", False)])
def test_bfloat16_is_refused_on_a_910a_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, refused: bool
) -> None:
    """What npu-smi prints decides; a 910B goes on, and without npu-smi nothing is known."""
    train = TrainConfig(amp="O2", amp_dtype="bfloat16")
    monkeypatch.setenv("PATH", str(tmp_path))
    check_own_precision(train, "Ascend")
    tool = tmp_path / "npu-smi"
    tool.write_text(f'#!/bin/sh\n[ "$*" = info ] && echo "| 0     {name:<8} | OK            | 70.1        36 |"\n')
    tool.chmod(0o755)
    check_own_precision(TrainConfig(amp="O2"), "Ascend")
    with pytest.raises(ConfigError, match=r"bfloat16, .* this NPU is an Ascend 910;") if refused else nullcontext():
        check_own_precision(train, "Ascend")
