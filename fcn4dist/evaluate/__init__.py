"""Scores of every clip once, their figures and intervals. `fcn4dist.evaluate(labels, scores)` measures any scores.

The Python face has a function of this room's name. Whoever imports a file of the room makes Python bind the room itself to that
name, so the room can be called: it passes on to `of_scores.evaluate`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        from fcn4dist.evaluate.of_scores import evaluate  # NumPy, scikit-learn

        return evaluate(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
