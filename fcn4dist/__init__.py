"""Train FCN-4 music taggers with MindSpore, on one CPU or on clusters of Ascend servers.

    data = fcn4dist.open_dataset("DATA")     # what `fcn4dist prepare` wrote: tags, parts, clips, labels, features

Importing this loads nothing heavy: what a name needs is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcn4dist.data.dataset import open_dataset

__version__ = "0.1.0"
__all__ = ["__version__", "open_dataset"]

_HOME = {"open_dataset": "fcn4dist.data.dataset"}  # public name -> its module


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
