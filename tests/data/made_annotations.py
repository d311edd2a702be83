"""Annotations made of a few lists, for tests of what comes after the reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcn4dist.data.annotations import Annotations
from fcn4dist.data.annotations.magnatagatune import parse_groups


def make_annotations(
    paths: list[str],
    folder: Path = Path(),
    ids: Sequence[int] | None = None,
    tags: Sequence[str] = ("x",),
    labels: Sequence[Sequence[int]] | None = None,
    **more: Any,
) -> Annotations:
    """Return a table t.csv in `folder`; its groups are those that the paths name, unless `more` says others."""
    clip_ids = np.array(ids or range(1, len(paths) + 1), np.int32)
    return Annotations(
        file=folder / "t.csv",
        format="table",
        clip_ids=clip_ids,
        source_ids=list(map(str, clip_ids)),
        paths=paths,
        tags=list(tags),
        labels=np.array(labels or [[1] * len(tags)] * len(paths), np.int8),
        lines=list(range(2, len(paths) + 2)),
        **{"groups": parse_groups(paths) or {}, **more},
    )
