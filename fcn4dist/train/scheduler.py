"""The scheduler's part of a job on CPU: MindSpore's core alone, without the Python package around it.

`import mindspore` takes seconds of a core, and the ranks import it at the same time; the scheduler needs one function of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable


def introduce_ranks() -> None:
    """Introduce the ranks to each other; MindSpore ends the process when they have left.

    Raises RuntimeError when one is lost. Nothing else of MindSpore may be used in this process, whose `mindspore` is left
    without contents.
    """
    cluster_of_core()()


def cluster_of_core() -> Callable[[], None]:
    """Return what `mindspore.communication.init` calls for a scheduler, of a core that needs no more if there is one."""
    spec = importlib.util.find_spec("mindspore")
    if spec is not None and "mindspore" not in sys.modules:
        sys.modules["mindspore"] = importlib.util.module_from_spec(spec)  # a package whose __init__ has not run
        try:
            return _init_cluster()
        except (ImportError, AttributeError):  # a release whose core leans on the package
            for name in [name for name in sys.modules if name.partition(".")[0] == "mindspore"]:
                del sys.modules[name]
    importlib.import_module("mindspore")
    return _init_cluster()


def _init_cluster() -> Callable[[], None]:
    found: Callable[[], None] = importlib.import_module("mindspore._c_expression").init_cluster
    return found
