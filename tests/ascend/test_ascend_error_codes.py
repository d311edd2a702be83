"""Messages as they stand in other people's issues and in CANN's pages, and what they must be told to mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn4dist.ascend.error_codes import explain_error, load_plog_errors


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        # mindspore/communication/management.py, _check_hccl
        (
            '"hccl" wheel was not installed correctly. For details, refer to the installation guidelines',
            "hccl is missing",
            "fcn4dist[ascend]",
        ),
        ("ModuleNotFoundError: No module named 'sympy'", "module sympy is missing", "fcn4dist[ascend]"),
        # hiascend.com, E40020
        (
            "E40020: Failed to import Python module [decorator] and Reason is [x].",
            "module decorator is missing",
            "[ascend]",
        ),
        ("EC0010: Failed to import Python module.", "EC0010", "fcn4dist[ascend]"),
        # vllm-project/vllm-ascend issue 405
        (
            "EJ0003: [PID: 159] 2025-03-26-17:01:02.816.428 Failed to bind the IP port. Reason: The IP address and port have "
            "been bound already.\n host nic listen start failed, port[60000]",
            "EJ0003, a port of HCCL is taken",
            "HCCL_IF_BASE_PORT",
        ),
        # vllm-project/vllm-ascend issue 1815
        (
            "RuntimeError: EJ0002: [PID: 38079] The network port is down.",
            "EJ0002, the NPU's network port is down",
            "link",
        ),
        ("Communication_Error_Get_Socket(EI0006)", "EI0006, a rank did not reach another", "hccl_connect_timeout_s"),
        ("EI0008: The CANN versions are inconsistent", "different versions on the hosts", "same CANN"),
        (
            "ImportError: libascendcl.so: cannot open shared object file: No such file or directory",
            "libascendcl.so is not found",
            "set_env.sh",
        ),
        # Ascend/samples issue 21
        (
            "libops_host_cpu.so: undefined symbol: _ZN2ge14GetShapeErrMsgEjRKSsS1_",
            "CANN has another version than MindSpore",
            "doctor",
        ),
        ("NPU function error: SetDevice, error code is 507033", "the NPU cannot be opened", "npu-smi"),
    ],
)
def test_what_a_message_means(text: str, cause: str, remedy: str) -> None:
    found = explain_error(text)
    assert found is not None
    assert cause in found.cause
    assert remedy in found.remedy


def test_the_first_code_counts_and_what_is_unknown_is_not_explained() -> None:
    found = explain_error("EI9999 then EI0015: no root\n EI0006: times out as a consequence")
    assert found is not None
    assert found.cause.startswith("EI0015")
    assert explain_error("ValueError: loss is nan; EZ9999; SE0006; EI00061") is None


def test_errors_of_a_plog_are_read_oldest_first_and_nothing_else(tmp_path: Path) -> None:
    assert load_plog_errors(tmp_path) == []
    folder = tmp_path / "debug/plog"
    folder.mkdir(parents=True)
    (folder / "plog-7_1.log").write_bytes(
        b"[INFO] x\n[ERROR] HCCL(7,python): first \xff\n[WARNING] y\n[ERROR] second\n"
    )
    assert [line[:24] for line in load_plog_errors(tmp_path)] == ["[ERROR] HCCL(7,python): ", "[ERROR] second"]
