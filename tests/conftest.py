"""What all tests share: a clean environment."""

from __future__ import annotations

import csv
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# librosa compiles as it is imported; two processes that do so at once leave a cache behind that crashes whoever loads it
os.environ["NUMBA_CACHE_DIR"] = str(
    Path(__file__).parents[1] / ".pytest_cache" / f"numba-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
)
LONG_ROOMS = ("tests/train/test_step_on_ascend", "tests/integration/", "tests/train/", "tests/model/", "tests/data/")
NAMES = ("DEVICE_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "VK_TASK_INDEX")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that start real jobs first: two workers take files in this order, and the last should be short ones."""
    items.sort(key=lambda item: next((i for i, room in enumerate(LONG_ROOMS) if room in item.nodeid), len(LONG_ROOMS)))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the variables of schedulers and launchers away: no test may depend on where it runs."""
    for name in list(os.environ):
        if (
            name.startswith(("RANK_", "HCCL_", "MS_", "SLURM_", "ASCEND_", "FCN4DIST_", "VC_", "MASTER_"))
            or name in NAMES
        ):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def heard_signals() -> None:
    """Hear SIGINT and SIGHUP, which a shell lets `nohup` and background jobs ignore; the tests' children inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def usual_limits() -> Iterator[None]:
    """Give the test Python's own limits of recursion and of a field of CSV: libraries raise them for the whole process."""
    depth, letters = sys.getrecursionlimit(), csv.field_size_limit(131_072)
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(depth)
    csv.field_size_limit(letters)
