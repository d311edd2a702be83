"""What the parts of a split have in common: tracks, albums and artists, as far as the annotations name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.parts import LEVELS, SPLITS, LeakLevel, LeakReport, Level, SplitPart

__all__ = ["LeakLevel", "LeakReport", "find_leaks", "format_leaks", "warn_of_leaks"]


def find_leaks(parts: Mapping[SplitPart, NDArray[np.intp]], groups: Mapping[Level, Sequence[str]]) -> LeakReport:
    """Report which tracks, albums and artists have clips in more than one part.

    `parts` has the rows of each part, `groups` a name for every row, "" where it is not known: such a clip is counted, and shares
    nothing. A level without an entry is not reported.
    """
    levels = {level: _compare_parts(parts, names) for level, names in groups.items()}
    return LeakReport(num_clips={part: len(parts.get(part, ())) for part in SPLITS}, levels=levels)


def format_leaks(report: LeakReport) -> list[str]:
    """Return a line a level for people."""
    if not report.levels:
        return ["leaks: unknown, the annotations name no track, album or artist"]
    lines = []
    for level, found in report.levels.items():
        line = f"{level}s: {found.num_shared} of {found.num_groups} in more than one part"
        shared = [
            f"{count} of {report.num_clips[part]} {part} clips ({count / report.num_clips[part]:.1%})"
            for part, count in found.clips_shared_with_train.items()
            if count
        ]
        if shared:
            line += f"; {' and '.join(shared)} are of {'a' if level == 'track' else 'an'} {level} that train has too"
        if found.num_unknown:
            line += f"; {found.num_unknown} of {sum(report.num_clips.values())} clips name no {level}: what they share is unknown"
        lines.append(line)
    if unknown := [f"{level}s" for level in LEVELS if level not in report.levels]:
        lines.append(f"{' and '.join(unknown)}: not known, the annotations do not name them")
    return lines


def warn_of_leaks(report: LeakReport) -> list[str]:
    """Return a warning where clips of one track stand in several parts; an empty list elsewhere."""
    found = report.levels.get("track")
    if found is None or not found.num_shared:
        return []
    shares = [
        f"{count / report.num_clips[part]:.1%} of the {part} clips"
        for part, count in found.clips_shared_with_train.items()
        if count
    ]
    told = f" ({', '.join(shares)} have siblings in train)" if shares else ""
    return [
        f"{found.num_shared} tracks have clips in more than one part{told}: scores look better than they are. "
        "Use a split that keeps them together, such as random-by-track"
    ]


def _compare_parts(parts: Mapping[SplitPart, NDArray[np.intp]], names: Sequence[str]) -> LeakLevel:
    members = {part: [names[row] for row in parts.get(part, np.empty(0, np.intp)).tolist()] for part in SPLITS}
    found = {part: set(named) - {""} for part, named in members.items()}
    everywhere = set().union(*found.values())
    return LeakLevel(
        num_groups=len(everywhere),
        num_shared=sum(sum(name in group for group in found.values()) > 1 for name in everywhere),
        clips_shared_with_train={
            part: sum(name in found["train"] for name in members[part]) for part in SPLITS if part != "train"
        },
        num_unknown=sum(named.count("") for named in members.values()),
    )
