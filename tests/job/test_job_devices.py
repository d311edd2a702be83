from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cann_tree import install_cann

from fcn4dist.ascend.devices import number_devices
from fcn4dist.errors import DeviceError
from fcn4dist.job.devices import (
    divide_cores,
    needs_avx512_guard,
    require_mindspore,
    resolve_target,
    survey_host,
)


@pytest.fixture
def ascend(tmp_path: Path) -> dict[str, Any]:
    """An Ascend host: CANN installed and sourced, four NPUs, and the nodes that are no NPU."""
    dev = tmp_path / "host/dev"
    dev.mkdir(parents=True)
    for name in ("davinci0", "davinci1", "davinci2", "davinci10", "davinci_manager", "hisi_hdc"):
        (dev / name).touch()
    folder = install_cann(tmp_path / "host/usr/local/Ascend/cann")
    return {"root": tmp_path / "host", "environ": {"LD_LIBRARY_PATH": str(folder)}}


@pytest.mark.parametrize(("wanted", "expected"), [("auto", "Ascend"), ("Ascend", "Ascend"), ("CPU", "CPU")])
def test_target_on_an_ascend_host(ascend: dict[str, Any], wanted: str, expected: str) -> None:
    assert resolve_target(wanted, **ascend) == expected


def test_auto_is_cpu_where_only_half_of_ascend_is_there(
    ascend: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve_target("auto", environ=ascend["environ"], root=tmp_path / "nothing") == "CPU"
    assert caplog.messages == []  # CANN on a machine without NPUs: nothing to say
    shutil.rmtree(ascend["root"] / "usr/local/Ascend/cann")
    (ascend["root"] / "usr/local/Ascend/driver").mkdir()  # its installer makes the folder without CANN, too
    assert resolve_target("auto", **ascend) == "CPU"
    (line,) = caplog.messages
    assert "this host has NPUs, and the job runs on CPU" in line
    assert "CANN (no libascendcl.so" in line
    assert "\n" not in line


def test_a_cann_that_nobody_sourced_is_named_with_its_script(ascend: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match=r"CANN 8\.5\.0 in .* cannot be loaded .*: source .*/cann/set_env\.sh"):
        resolve_target("Ascend", environ={}, root=ascend["root"])


def test_the_missing_parts_of_ascend_are_listed_and_no_others(ascend: dict[str, Any], tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    with pytest.raises(DeviceError, match=r"missing: CANN .*; an NPU .*use --device-target CPU"):
        resolve_target("Ascend", environ={}, root=nothing)
    with pytest.raises(DeviceError, match=r"missing: an NPU "):
        resolve_target("Ascend", environ=ascend["environ"], root=nothing)


def test_more_ranks_than_npus_are_refused() -> None:
    with pytest.raises(DeviceError, match=r"launch.devices: 512 asked, this host has"):
        survey_host("Ascend", 512, bind_cores=True)
    assert survey_host("Ascend", 512, bind_cores=True, imagined=True).devices == number_devices(512)


@pytest.mark.parametrize(
    ("cores", "ranks", "expected"),
    [
        ((0, 1), 2, [((0,), 1), ((1,), 1)]),
        ((0, 1, 2, 3), 2, [((0, 1), 2), ((2, 3), 2)]),
        ((4, 5, 6, 7, 8), 2, [((4, 5), 2), ((6, 7, 8), 3)]),  # an affinity that does not begin at 0
        ((0, 1), 1, [((0, 1), 2)]),
        ((3, 7), 5, [((3,), 1), ((7,), 1), ((3,), 1), ((7,), 1), ((3,), 1)]),
    ],
)
def test_cores_are_divided(cores: tuple[int, ...], ranks: int, expected: list[tuple[tuple[int, ...], int]]) -> None:
    assert [(share.cores, share.num_threads) for share in divide_cores(cores, ranks)] == expected


def test_every_core_is_used_once_when_there_are_enough() -> None:
    for num_cores in range(1, 40):
        for ranks in range(1, num_cores + 1):
            shares = divide_cores(range(num_cores), ranks)
            assert [core for share in shares for core in share.cores] == list(range(num_cores))
            sizes = [len(share.cores) for share in shares]
            assert max(sizes) - min(sizes) <= 1


def test_a_quota_lowers_threads_not_cores() -> None:
    shares = divide_cores(range(8), 2, quota=4.0)
    assert [(len(share.cores), share.num_threads) for share in shares] == [(4, 2), (4, 2)]
    assert [share.num_threads for share in divide_cores(range(8), 2, quota=0.5)] == [1, 1]


def test_unbound_ranks_have_threads_but_no_cores() -> None:
    assert [(s.cores, s.num_threads) for s in divide_cores(range(4), 2, bind=False)] == [((), 2), ((), 2)]


def test_avx512_is_read_from_the_flags(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu avx2 avx512f avx512dq\n")
    assert needs_avx512_guard(cpuinfo)
    cpuinfo.write_text("flags\t\t: fpu avx avx2\n")
    assert not needs_avx512_guard(cpuinfo)
    assert not needs_avx512_guard(tmp_path / "none")  # no /proc: nothing to guard


def test_a_python_without_mindspore_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.meta_path", [])  # as in an environment that has no packages
    monkeypatch.delitem(sys.modules, "mindspore", raising=False)
    with pytest.raises(DeviceError, match=r"pip install 'fcn4dist\[train\]'"):
        require_mindspore()
