"""What every reader of annotations returns: the clips of a set with their tags, groups and parts, in the source's order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import AnnotationFormat
from fcn4dist.data.parts import Level, SplitPart

Part = SplitPart
UNKNOWN = -1  # a label that nobody gave: it counts neither in the loss nor in a metric


@dataclass(frozen=True)
class Annotations:
    """The clips of one set, in the order of its source; every list has one entry a clip."""

    file: Path  # that was read, for messages
    format: AnnotationFormat
    clip_ids: NDArray[np.int32]  # (N,), unique: the source's own numbers where all its ids are such, else 0 .. N-1
    source_ids: list[str]  # the source's own ids
    paths: list[str]  # of the audio, relative to data.audio_dir; unique
    tags: list[str]
    labels: NDArray[np.int8]  # (N, num_tags): 1, 0, or UNKNOWN
    lines: list[int]  # of the source, for messages; 0 where it has none
    groups: dict[Level, list[str]] = field(default_factory=dict)  # names; "" where not known; no entry: no such column
    parts: list[Part | None] | None = None  # the source's own split (data.split: official); none: it has none
    folds: list[str] | None = None  # the source's own folds
    durations_s: NDArray[np.float32] | None = None  # as listed; NaN where not known
    path_rule: str = "as the annotations say"  # where `paths` come from, for messages

    @property
    def num_clips(self) -> int:
        """Clips of the set."""
        return len(self.paths)

    def place(self, row: int) -> str:
        """Return "file:line" of a clip; its id in place of the line where the source has none."""
        return f"{self.file}:{self.lines[row] or f' clip {self.source_ids[row]}'}"
