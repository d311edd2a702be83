"""A data set of ModelZoo's kind: shards alone, without a manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcn4dist.data.shards import Row, RowFormat, write_shard


def make_bare_set(folder: Path, num_clips: int = 1024) -> Path:
    """Write small clips to train on into `folder`, enough for the batches of many ranks."""
    folder.mkdir(exist_ok=True)
    rows = (Row(i, np.zeros((1, 2, 3), np.float32), np.zeros(2, np.int8)) for i in range(num_clips))
    row_format = RowFormat((1, 2, 3), "float32", 2)
    assert write_shard(folder / "train.mindrecord0", rows, num_clips, row_format, ["train.mindrecord0"]) is not None
    return folder
