"""One clip as MindRecord stores it: the columns of a shard, and the bytes of a row."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ROW_OVERHEAD_BYTES = 128  # lengths that MindRecord stores with a row


@dataclass(frozen=True)
class Row:
    """One clip as it is stored."""

    clip_id: int
    feature: NDArray[Any]  # (1, mel bands, frames), float32 or float16
    label: NDArray[np.int32]  # (num_tags,)


@dataclass(frozen=True)
class RowFormat:
    """What all rows of a set have in common.

    The arrays of a row stand in a page as `head`, feature, `label_head`, labels. MindRecord narrows integers: 4 bytes count
    them, 2 bits each tell how many bytes it takes, and labels, which are 0 or 1, take one.
    """

    feature_shape: tuple[int, int, int]
    feature_dtype: Literal["float32", "float16"]
    num_tags: int

    @property
    def feature_bytes(self) -> int:
        """Bytes of the feature alone."""
        return math.prod(self.feature_shape) * np.dtype(self.feature_dtype).itemsize

    @property
    def row_bytes(self) -> int:
        """Most bytes of a row in a page."""
        return self.feature_bytes + 4 * self.num_tags + ROW_OVERHEAD_BYTES

    @property
    def stored_bytes(self) -> int:
        """Bytes of a row's arrays in a page, where labels take one byte each."""
        return len(self.head) + self.feature_bytes + self.tail_bytes

    @property
    def tail_bytes(self) -> int:
        """Bytes of `label_head` and the labels."""
        return len(self.label_head) + self.num_tags

    @property
    def head(self) -> bytes:
        """What stands before the feature: the length of the row without these 8 bytes, and that of the feature."""
        num_bytes = 8 + self.feature_bytes + self.tail_bytes
        return struct.pack("<Q", num_bytes) + struct.pack(">Q", self.feature_bytes)  # two byte orders indeed

    @property
    def label_head(self) -> bytes:
        """What stands between feature and labels: the labels' length in bytes, their number, and zeros for one byte each."""
        widths = bytes(-(-self.num_tags // 4))
        return struct.pack(">QI", 4 + len(widths) + self.num_tags, self.num_tags) + widths

    @property
    def schema(self) -> dict[str, dict[str, Any]]:
        """MindRecord's schema; it has no float16 arrays, so those are stored as bytes."""
        feature = {"type": "float32", "shape": list(self.feature_shape)}
        return {
            "id": {"type": "int32"},
            "feature": feature if self.feature_dtype == "float32" else {"type": "bytes"},
            "label": {"type": "int32", "shape": [self.num_tags]},
        }

    def encode(self, row: Row) -> dict[str, Any]:
        """Return the row as FileWriter takes it."""
        feature = np.ascontiguousarray(row.feature, dtype=self.feature_dtype).reshape(self.feature_shape)
        stored = feature if self.feature_dtype == "float32" else feature.tobytes()
        return {"id": row.clip_id, "feature": stored, "label": np.ascontiguousarray(row.label, dtype=np.int32)}
