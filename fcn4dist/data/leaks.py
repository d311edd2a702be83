"""What the parts of a split have in common: tracks, albums and artists, by the grammar of the paths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import cast

from fcn4dist.data.manifest import LEVELS, SPLITS, LeakLevel, LeakReport, SharedLevel, SplitPart
from fcn4dist.data.splits import parse_track


def find_leaks(paths: Mapping[SplitPart, Sequence[str]]) -> LeakReport:
    """Report which tracks, albums and artists have clips in more than one part.

    `paths` has the mp3_path of every clip of each part. A path that does not follow the grammar (`parse_track`) counts as a
    track of its own, so that what it shares cannot be seen: the report says how many there are.
    """
    parts = cast("tuple[SplitPart, ...]", SPLITS)
    tracks = {part: [parse_track(path) for path in paths.get(part, ())] for part in parts}
    levels: dict[SharedLevel, LeakLevel] = {}
    for level in cast("tuple[SharedLevel, ...]", LEVELS):
        names = {part: [getattr(track, level) for track in found] for part, found in tracks.items()}
        parts_of: dict[str, set[str]] = defaultdict(set)
        for part, members in names.items():
            for name in members:
                parts_of[name].add(part)
        levels[level] = LeakLevel(
            num_groups=len(parts_of),
            num_shared=sum(len(found) > 1 for found in parts_of.values()),
            clips_shared_with_train={
                part: sum("train" in parts_of[name] for name in names[part]) for part in parts if part != "train"
            },
        )
    counted = {part: len(found) for part, found in tracks.items()}
    num_unparsed = sum(not track.is_parsed for found in tracks.values() for track in found)
    return LeakReport(num_clips=counted, num_unparsed=num_unparsed, levels=levels)


def format_leaks(report: LeakReport) -> list[str]:
    """Return a line a level for people."""
    total = sum(report.num_clips.values())
    if report.num_unparsed == total:
        return ["leaks: unknown, no path names artist, album and track"]
    lines = []
    for level, found in report.levels.items():
        line = f"{level}s: {found.num_shared} of {found.num_groups} in more than one part"
        shared = [
            f"{count} of {report.num_clips[part]} {part} clips ({count / report.num_clips[part]:.1%})"
            for part, count in found.clips_shared_with_train.items()
            if count
        ]
        if shared:
            line += f"; {' and '.join(shared)} are of {_ARTICLE[level]} {level} that train has too"
        lines.append(line)
    if report.num_unparsed:
        lines.append(
            f"{report.num_unparsed} of {total} paths do not name artist, album and track: what they share is unknown"
        )
    return lines


def warn_of_leaks(report: LeakReport) -> list[str]:
    """Return a warning where clips of one track stand in several parts; an empty list elsewhere."""
    found = report.levels["track"]
    if not found.num_shared:
        return []
    shares = [
        f"{count / report.num_clips[part]:.1%} of the {part} clips"
        for part, count in found.clips_shared_with_train.items()
        if count
    ]
    told = f" ({', '.join(shares)} have siblings in train)" if shares else ""
    return [
        f"{found.num_shared} tracks have clips in more than one part{told}: scores look better than they are. "
        "Use folder-12-1-3, random-by-track or random-by-artist"
    ]


_ARTICLE = {"track": "a", "album": "an", "artist": "an"}
