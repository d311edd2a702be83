from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
def ascend(tmp_path: Path) -> dict[str, Path]:
    """An Ascend host: CANN installed, four NPUs, and the nodes that are no NPU."""
    toolkit, dev = tmp_path / "Ascend", tmp_path / "dev"
    toolkit.mkdir()
    dev.mkdir()
    for name in ("davinci0", "davinci1", "davinci2", "davinci10", "davinci_manager", "hisi_hdc"):
        (dev / name).touch()
    return {"toolkit": toolkit, "dev": dev}


@pytest.mark.parametrize(("wanted", "expected"), [("auto", "Ascend"), ("Ascend", "Ascend"), ("CPU", "CPU")])
def test_target_on_an_ascend_host(ascend: dict[str, Path], wanted: str, expected: str) -> None:
    assert resolve_target(wanted, **ascend) == expected


def test_auto_is_cpu_where_only_half_of_ascend_is_there(ascend: dict[str, Path], tmp_path: Path) -> None:
    assert resolve_target("auto", toolkit=ascend["toolkit"], dev=tmp_path / "nothing") == "CPU"
    assert resolve_target("auto", toolkit=tmp_path / "nothing", dev=ascend["dev"]) == "CPU"


def test_the_missing_parts_of_ascend_are_listed_and_no_others(ascend: dict[str, Path], tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    with pytest.raises(DeviceError, match=r"missing: the CANN runtime .*; an NPU .*use --device-target CPU"):
        resolve_target("Ascend", toolkit=nothing, dev=nothing)
    with pytest.raises(DeviceError) as only_npu:
        resolve_target("Ascend", toolkit=ascend["toolkit"], dev=nothing)
    assert "an NPU" in str(only_npu.value)
    assert "the CANN runtime" not in str(only_npu.value)


def test_toolkit_variable_counts_as_runtime(
    ascend: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    assert resolve_target("Ascend", toolkit=tmp_path / "nothing", dev=ascend["dev"]) == "Ascend"


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
