"""Statistics of a prepared data set: from its manifest and clips.tsv, without MindSpore.

Only where those do not tell the labels (ModelZoo's shards, sets prepared by an older fcn4dist) the shards themselves are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.annotations.magnatagatune import parse_groups
from fcn4dist.data.clip_list import ListedClip, digest_clip_list, load_clip_list
from fcn4dist.data.leaks import find_leaks, format_leaks, warn_of_leaks
from fcn4dist.data.manifest import MANIFEST, SPLITS, LeakReport, Manifest, SkippedClip, SplitPart, load_manifest
from fcn4dist.errors import DataError
from fcn4dist.names import shorten_name

PARTS = SPLITS
UNKNOWN_SPLIT = "unknown (shards without a manifest)"
TAG_WIDTH = 30  # letters of a tag in print
MOST_LINES = 10  # of skipped clips and of pairs of tags in print


@dataclass(frozen=True)
class PartStats:
    """One part."""

    clip_ids: NDArray[np.int32]  # (N,)
    labels: NDArray[np.int32]  # (N, num_tags), 0 or 1

    @property
    def positives(self) -> list[int]:
        """Clips a tag."""
        return [int(count) for count in self.labels.sum(axis=0)]

    @property
    def num_untagged(self) -> int:
        """Clips with none of the tags."""
        return int((~self.labels.any(axis=1)).sum())


@dataclass(frozen=True)
class DataStats:
    """What a prepared data set holds."""

    data_dir: Path
    split_name: str
    tags: list[str]
    parts: dict[SplitPart, PartStats]
    durations_s: NDArray[np.float64]  # of the audio files, where they are known
    skipped: list[SkippedClip]
    leaks: LeakReport | None

    @property
    def num_clips(self) -> int:
        """Clips of all parts."""
        return sum(len(part.clip_ids) for part in self.parts.values())

    @property
    def cooccurrence(self) -> NDArray[np.int64]:
        """Clips with both tags (num_tags, num_tags), over all parts; the diagonal has the clips of a tag."""
        labels = np.concatenate([part.labels for part in self.parts.values()]).astype(np.int64)
        return cast("NDArray[np.int64]", labels.T @ labels)

    def to_json(self) -> dict[str, Any]:
        """Return the document of `fcn4dist data stats --json`."""
        return {
            "data": str(self.data_dir),
            "split_name": self.split_name,
            "num_clips": self.num_clips,
            "parts": {name: _describe_part(part) for name, part in self.parts.items()},
            "tags": [
                {"tag": tag, **{name: part.positives[i] for name, part in self.parts.items()}}
                for i, tag in enumerate(self.tags)
            ],
            "cooccurrence": self.cooccurrence.tolist(),
            "durations_s": _describe_durations(self.durations_s),
            "skipped": [clip.model_dump() for clip in self.skipped],
            "leaks": None if self.leaks is None else self.leaks.model_dump(),
            "warnings": [] if self.leaks is None else warn_of_leaks(self.leaks),
        }


def collect_stats(data_dir: Path) -> DataStats:
    """Collect the statistics of the data set in `data_dir`. Raises DataError where there is none, or a damaged one."""
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: no such folder; expected one that `fcn4dist prepare` wrote")
    if not (data_dir / MANIFEST).is_file():
        parts, tags = _read_shards(data_dir)
        return DataStats(data_dir, UNKNOWN_SPLIT, tags, parts, np.empty(0), [], None)
    manifest = load_manifest(data_dir)
    clips = load_clip_list(data_dir) or []
    has_labels = len(clips) == manifest.num_written and all(clip.labels is not None for clip in clips)
    parts = _parts_of_list(data_dir, clips, manifest) if has_labels else _read_shards(data_dir)[0]
    rows = {part: np.flatnonzero([clip.split == part for clip in clips]) for part in PARTS}
    leaks = manifest.leaks or find_leaks(rows, parse_groups([clip.mp3_path for clip in clips]) or {})
    durations = np.array([clip.duration_s for clip in clips if clip.duration_s is not None], np.float64)
    return DataStats(
        data_dir, manifest.split.name, manifest.tags, parts, durations, manifest.skipped, leaks if clips else None
    )


def format_stats(stats: DataStats) -> str:
    """Return the statistics for people."""
    lines = [
        f"{stats.data_dir}: {stats.num_clips} clips, {len(stats.tags)} tags, split {shorten_name(stats.split_name, 100)}"
    ]
    for name, part in stats.parts.items():
        if num := len(part.clip_ids):
            tags_a_clip = part.labels.sum() / num
            checksum = digest_clip_list(part.clip_ids.tolist())[:12]
            lines.append(
                f"  {name:<5} {num:>7} clips, {tags_a_clip:.2f} tags a clip, {part.num_untagged} without any; "
                f"clip list {checksum}"
            )
    if len(stats.durations_s):
        d = _describe_durations(stats.durations_s) or {}
        lines.append(
            f"durations: {d['total_h']:.1f} h in all, a clip {d['min']:.2f} to {d['max']:.2f} s, median {d['median']:.2f} s"
        )
    lines += _format_tags(stats)
    lines += _format_pairs(stats)
    lines += _format_skipped(stats.skipped)
    if stats.leaks is not None:
        lines += format_leaks(stats.leaks)
        lines += [f"warning: {warning}" for warning in warn_of_leaks(stats.leaks)]
    return "\n".join(lines)


def find_pairs(stats: DataStats) -> list[tuple[str, str, int, float]]:
    """Return pairs of tags with the clips that have both, and their Jaccard index, most alike first; none without a clip."""
    both = stats.cooccurrence
    counts = both.diagonal()
    pairs = []
    for i in range(len(stats.tags)):
        for j in range(i + 1, len(stats.tags)):
            if both[i, j]:
                jaccard = float(both[i, j] / (counts[i] + counts[j] - both[i, j]))
                pairs.append((stats.tags[i], stats.tags[j], int(both[i, j]), jaccard))
    return sorted(pairs, key=lambda pair: (-pair[3], pair[:2]))


def _parts_of_list(data_dir: Path, clips: Sequence[ListedClip], manifest: Manifest) -> dict[SplitPart, PartStats]:
    parts: dict[SplitPart, PartStats] = {}
    for name in PARTS:
        members = [clip for clip in clips if clip.split == name]
        labels = np.zeros((len(members), len(manifest.tags)), np.int32)
        for row, clip in enumerate(members):
            for place in clip.labels or ():
                if not 0 <= place < len(manifest.tags):
                    raise DataError(
                        f"{data_dir}: clips.tsv gives clip {clip.clip_id} tag {place}; the manifest has fewer"
                    )
                labels[row, place] = 1
        parts[name] = PartStats(np.array([clip.clip_id for clip in members], np.int32), labels)
    return parts


def _read_shards(data_dir: Path) -> tuple[dict[SplitPart, PartStats], list[str]]:
    from fcn4dist.data.dataset import (
        has_split,
        open_split,
    )  # MindSpore loads here, only for sets without a list of labels

    parts: dict[SplitPart, PartStats] = {}
    tags: list[str] = []
    for name in PARTS:
        if has_split(data_dir, name):
            split = open_split(data_dir, name)
            parts[name], tags = PartStats(*split.load_labels()), list(split.tags)
    if not parts:
        raise DataError(
            f"{data_dir}: neither {MANIFEST} nor shards such as train.mindrecord0 here; run `fcn4dist prepare`"
        )
    return parts, tags


def _describe_part(part: PartStats) -> dict[str, Any]:
    num_clips = len(part.clip_ids)
    return {
        "num_clips": num_clips,
        "clip_list_sha256": digest_clip_list(part.clip_ids.tolist()),
        "num_untagged": part.num_untagged,
        "tags_a_clip": float(part.labels.sum() / num_clips) if num_clips else None,
    }


def _describe_durations(durations_s: NDArray[np.float64]) -> dict[str, float] | None:
    if not len(durations_s):
        return None
    low, first, median, third, high = np.quantile(durations_s, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return {
        "num_known": len(durations_s),
        "min": low,
        "quartile_1": first,
        "median": median,
        "quartile_3": third,
        "max": high,
        "total_h": float(durations_s.sum() / 3600),
    }


def _format_tags(stats: DataStats) -> list[str]:
    width = max(3, *(min(TAG_WIDTH, len(tag)) for tag in stats.tags))
    lines = [f"  {'tag':<{width}}" + "".join(f"{name:>8}" for name in stats.parts)]
    for i, tag in enumerate(stats.tags):
        counts = [part.positives[i] for part in stats.parts.values()]
        missing = [name for name, part in stats.parts.items() if len(part.clip_ids) and not part.positives[i]]
        note = f"  none in {', '.join(missing)}" if missing else ""
        lines.append(f"  {shorten_name(tag, TAG_WIDTH):<{width}}" + "".join(f"{count:>8}" for count in counts) + note)
    return lines


def _format_pairs(stats: DataStats) -> list[str]:
    pairs = find_pairs(stats)[:MOST_LINES]
    if not pairs:
        return []
    told = []
    for first, second, both, jaccard in pairs:
        names = f"{shorten_name(first, TAG_WIDTH)} + {shorten_name(second, TAG_WIDTH)}"
        told.append(f"  {names}: {both} clips, {jaccard:.0%} of those with either")
    return ["tags that go together:", *told]


def _format_skipped(skipped: Sequence[SkippedClip]) -> list[str]:
    if not skipped:
        return ["no clip was skipped"]
    reasons = Counter(clip.reason for clip in skipped)
    lines = [f"{len(skipped)} clips were skipped:"]
    lines += [f"  {count} x {reason}" for reason, count in reasons.most_common(MOST_LINES)]
    return lines + [f"  and {len(reasons) - MOST_LINES} more reasons"] * (len(reasons) > MOST_LINES)
