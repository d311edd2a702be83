"""The scheduler's part of a job on CPU: MindSpore's core alone, without the Python package around it.

`import mindspore` takes seconds of a core, and the ranks import it at the same time; the scheduler needs one function of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

# whole jobs were tried with 2.10; older releases load their core in the same way, but no job was
CORE_STANDS_ALONE = (2, 10)


def introduce_ranks() -> None:
    """Introduce the ranks to each other; MindSpore ends the process when they have left.

    Raises RuntimeError when one is lost. Nothing else of MindSpore may be used in this process, whose `mindspore` may be left
    without contents.
    """
    try:
        release = version("mindspore")
    except PackageNotFoundError:  # a nightly build has another name
        release = "0"
    cluster_of_core(release)()


def cluster_of_core(release: str) -> Callable[[], None]:
    """Return what `mindspore.communication.init` calls for a scheduler, of MindSpore `release`."""
    stands_alone = tuple(map(int, re.findall(r"\d+", release)[:2])) >= CORE_STANDS_ALONE
    spec = importlib.util.find_spec("mindspore") if stands_alone else None
    if spec is not None and "mindspore" not in sys.modules:
        sys.modules["mindspore"] = importlib.util.module_from_spec(spec)  # a package whose __init__ has not run
    else:
        importlib.import_module("mindspore")
    found: Callable[[], None] = importlib.import_module("mindspore._c_expression").init_cluster
    return found
