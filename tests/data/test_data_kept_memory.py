"""Pages that a process takes from the system, counted by the kernel."""

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np
from fcn4dist.data.kept_memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def use():
    return len([np.ones(3 << 18, np.float32) for _ in range(8)])  # 3 MB each: from 4 MB on NumPy asks for huge pages
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(how: str) -> int:
    command = [sys.executable, "-c", COUNT, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_arrays_of_the_same_size_take_the_same_pages_again() -> None:
    assert new_pages("plain") > 5000  # 24 MB are 6,144 pages of 4 kB a time
    assert new_pages("keep") < 500
