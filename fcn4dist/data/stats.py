"""Statistics of a prepared data set: its parts, tags, lengths, ledger and leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.dataset import open_dataset
from fcn4dist.data.leaks import LeakReport, format_leaks, warn_of_leaks
from fcn4dist.data.manifest import LedgerClip, digest_clip_list
from fcn4dist.errors import shorten_name

TAG_WIDTH = 30  # letters of a tag in print
MOST_LINES = 10  # of skipped clips and of pairs of tags in print


@dataclass(frozen=True)
class PartStats:
    """One part."""

    clip_ids: NDArray[np.int32]  # (N,)
    labels: NDArray[np.int8]  # (N, num_tags): 1, 0, or -1 where it is not known

    @property
    def positives(self) -> list[int]:
        """Clips a tag."""
        return [int(count) for count in (self.labels == 1).sum(axis=0)]

    @property
    def num_untagged(self) -> int:
        """Clips with none of the tags."""
        return int((~(self.labels == 1).any(axis=1)).sum())

    @property
    def num_unknown(self) -> int:
        """Labels that nobody gave."""
        return int((self.labels < 0).sum())


@dataclass(frozen=True)
class DataStats:
    """What a prepared data set holds."""

    data_dir: Path
    split_name: str
    tags: list[str]
    parts: dict[str, PartStats]
    durations_s: NDArray[np.float64]  # of the audio files, where they are known
    skipped: list[LedgerClip]
    noted: list[LedgerClip]
    leaks: LeakReport | None
    length_note: str | None  # where the clips are much shorter or longer than what the network hears

    @property
    def num_clips(self) -> int:
        """Clips of all parts."""
        return sum(len(part.clip_ids) for part in self.parts.values())

    @property
    def cooccurrence(self) -> NDArray[np.int64]:
        """Clips with both tags (num_tags, num_tags), over all parts; the diagonal has the clips of a tag."""
        tagged = np.concatenate([part.labels for part in self.parts.values()]) == 1
        counts = tagged.astype(np.float32)  # whole numbers are exact up to 2**24, and float32 is multiplied fast
        return cast("NDArray[np.int64]", (counts.T @ counts).round().astype(np.int64))

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
            "noted": [clip.model_dump() for clip in self.noted],
            "leaks": None if self.leaks is None else self.leaks.model_dump(),
            "warnings": [] if self.leaks is None else warn_of_leaks(self.leaks),
            "length_note": self.length_note,
        }


def collect_stats(data_dir: Path) -> DataStats:
    """Collect the statistics of the data set in `data_dir`. Raises DataError where there is none, or a damaged one."""
    data = open_dataset(data_dir)
    parts = {part: PartStats(split.clip_ids, split.labels) for part in data.parts for split in [data.split(part)]}
    durations = np.concatenate([np.empty(0), *(table.durations_s for table in data.tables.values())])
    known = durations[np.isfinite(durations)]
    return DataStats(
        data_dir, data.split_name, list(data.tags), parts, known, data.skipped, data.noted, data.leaks, data.length_note
    )


def format_stats(stats: DataStats) -> str:
    """Return the statistics for people."""
    lines = [
        f"{stats.data_dir}: {stats.num_clips} clips, {len(stats.tags)} tags, split {shorten_name(stats.split_name, 100)}"
    ]
    for name, part in stats.parts.items():
        if num := len(part.clip_ids):
            tags_a_clip = sum(part.positives) / num
            unknown = f", {part.num_unknown / part.labels.size:.0%} of the labels unknown" if part.num_unknown else ""
            checksum = digest_clip_list(part.clip_ids.tolist())[:12]
            lines.append(
                f"  {name:<5} {num:>7} clips, {tags_a_clip:.2f} tags a clip, {part.num_untagged} without any{unknown}; "
                f"clip list {checksum}"
            )
    if len(stats.durations_s):
        d = _describe_durations(stats.durations_s) or {}
        lines.append(
            f"durations: {d['total_h']:.1f} h in all, a clip {d['min']:.2f} to {d['max']:.2f} s, median {d['median']:.2f} s"
        )
    if stats.length_note is not None:
        lines.append(f"note: {stats.length_note}")
    lines += _format_tags(stats)
    lines += _format_pairs(stats)
    lines += _format_ledger(stats.skipped, "skipped") or ["no clip was skipped"]
    lines += _format_ledger(stats.noted, "used, but noted")
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


def _describe_part(part: PartStats) -> dict[str, Any]:
    num_clips = len(part.clip_ids)
    return {
        "num_clips": num_clips,
        "clip_list_sha256": digest_clip_list(part.clip_ids.tolist()),
        "num_untagged": part.num_untagged,
        "tags_a_clip": sum(part.positives) / num_clips if num_clips else None,
        "num_unknown": part.num_unknown,
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


def _format_ledger(clips: Sequence[LedgerClip], word: str) -> list[str]:
    if not clips:
        return []
    reasons = Counter(clip.reason for clip in clips)
    lines = [f"{len(clips)} clips were {word}:"]
    lines += [f"  {count} x {reason}" for reason, count in reasons.most_common(MOST_LINES)]
    return lines + [f"  and {len(reasons) - MOST_LINES} more reasons"] * (len(reasons) > MOST_LINES)
