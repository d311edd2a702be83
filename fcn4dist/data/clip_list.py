"""clips.tsv: every clip of a prepared data set with its part, path, duration and tags; and the checksum of a list of clips.

The columns `duration_s` and `labels` came later: lists without them are still read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.annotations.magnatagatune import parse_groups
from fcn4dist.data.manifest import CLIPS, SPLITS, SplitPart
from fcn4dist.errors import DataError

COLUMNS = ("clip_id", "split", "mp3_path", "duration_s", "labels")


@dataclass(frozen=True)
class ListedClip:
    """One line of clips.tsv."""

    clip_id: int
    split: SplitPart
    mp3_path: str
    duration_s: float | None = None  # of the audio file; none: not known
    labels: tuple[int, ...] | None = None  # places of its tags in the manifest's list; none: not noted


def digest_clip_list(clip_ids: Iterable[int]) -> str:
    """Return the checksum of a set of clips: SHA-256 of their ids in ascending order, a decimal number and a newline each."""
    return hashlib.sha256("".join(f"{clip_id}\n" for clip_id in sorted(clip_ids)).encode()).hexdigest()


def format_clip_list(clips: Iterable[ListedClip]) -> str:
    """Return the text of clips.tsv; a path with a tab, a quote or a newline is quoted."""
    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    quoted = csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
    rows.writerow(COLUMNS)
    for clip in clips:
        duration = "" if clip.duration_s is None else f"{clip.duration_s:.3f}"
        labels = "" if clip.labels is None else " ".join(map(str, clip.labels)) or "-"
        row = [clip.clip_id, clip.split, clip.mp3_path, duration, labels]
        (quoted if "\r" in clip.mp3_path else rows).writerow(row)  # csv quotes a newline by itself, but not this one
    return text.getvalue()


def load_clip_list(data_dir: Path) -> list[ListedClip] | None:
    """Read `data_dir`/clips.tsv; none where the data set has no such file. Raises DataError naming file and line."""
    file = data_dir / CLIPS
    try:
        with file.open(encoding="utf-8", newline="") as text:
            reader = csv.DictReader(text, delimiter="\t")
            if missing := [name for name in COLUMNS[:3] if name not in (reader.fieldnames or ())]:
                raise DataError(f"{file}:1: no column {missing[0]}; expected the list that `fcn4dist prepare` wrote")
            return [_parse_clip(row, f"{file}:{reader.line_num}") for row in reader]
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def load_tracks(data_dir: Path, clip_ids: NDArray[np.integer[Any]]) -> NDArray[Any] | None:
    """Return the source track (N,) of each clip, by its path (`parse_groups`).

    None where the data set has no clips.tsv, or where the path of no such clip names its track. Raises DataError.
    """
    clips = load_clip_list(data_dir)
    if clips is None:
        return None
    paths = {clip.clip_id: clip.mp3_path for clip in clips}
    for clip_id in clip_ids.tolist():
        if clip_id not in paths:
            raise DataError(f"{data_dir / CLIPS}: clip {clip_id} is not listed; the list is of another data set")
    listed = [paths[clip_id] for clip_id in clip_ids.tolist()]
    groups = parse_groups(listed)
    return None if groups is None else np.array([t or path for t, path in zip(groups["track"], listed, strict=True)])


def _parse_clip(row: dict[str, Any], place: str) -> ListedClip:
    try:
        if row["split"] not in SPLITS:
            raise ValueError(f"split {row['split']!r}")
        duration, labels = row.get("duration_s") or "", row.get("labels") or ""
        return ListedClip(
            clip_id=int(row["clip_id"]),
            split=cast(SplitPart, row["split"]),
            mp3_path=str(row["mp3_path"] or ""),
            duration_s=_parse_duration(duration),
            labels=tuple(int(place) for place in labels.replace("-", "").split()) if labels else None,
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: not a line that `fcn4dist prepare` wrote: {error}") from None


def _parse_duration(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"duration_s {text!r}")
    return value
