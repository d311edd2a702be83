"""What a form that failed is called in tune's table."""

from __future__ import annotations

import pytest

from fcn4dist.train.measure import describe_error

RULE = "-" * 52
# MindSpore 2.10 on CPU, in a process that may have 6.5 GB (ulimit -v)
NO_MEMORY = f"""
{RULE}
- Memory not enough:
{RULE}
Memory isn't enough and alloc failed, kernel name: 0_Default/conv1-Conv2d/Conv2D-op0, alloc size: 2148532224B.

{RULE}
- C++ Call Stack: (For framework developers)
{RULE}
mindspore/ccsrc/backend/ms_backend/runtime/graph_scheduler/base/graph_scheduler.cc:1168 Run
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            RuntimeError(NO_MEMORY),
            "out of memory: Memory isn't enough and alloc failed, kernel name: 0_Default/conv1-Conv2d/Conv2D-op0, "
            "alloc size: 2148532224B.",
        ),
        (MemoryError("std::bad_alloc"), "out of memory: std::bad_alloc"),
        (ValueError(f"\n{RULE}\n- Wrong shape\n{RULE}\n"), "ValueError: - Wrong shape"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_failed_form_is_one_line(error: Exception, line: str) -> None:
    assert describe_error(error) == line
