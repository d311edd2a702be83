"""A data set that trains in a moment: a tag that is heard in half of the clips, and one in the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcn4dist.data.shards import Row, RowFormat, write_shard


def make_half_heard_set(folder: Path) -> Path:
    """Write 16 clips of 8 x 8 to train on and 8 to evaluate on."""
    rng = np.random.default_rng(0)
    for part, size in (("train", 16), ("val", 8)):
        labels = [np.array([i % 2, (i + 1) % 2], np.int8) for i in range(size)]
        clips = [rng.normal(-30 + 20 * label[0], 5, (1, 8, 8)).astype(np.float32) for label in labels]
        rows = [Row(i, clip, label) for i, (clip, label) in enumerate(zip(clips, labels, strict=True))]
        name = f"{part}.mindrecord0"
        assert write_shard(folder / name, rows, size, RowFormat((1, 8, 8), "float32", 2), [name]) is not None
    return folder
