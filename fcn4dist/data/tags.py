"""A file of tags, one a line, in the order of the outputs: ours, or ModelZoo's tag.txt as it is.

ModelZoo sorts its tags by (share of clips, name) and takes the last 50, so its tag.txt, its labels and its network's outputs
go from the rarest tag to the most frequent. `data.tags: 50` goes the other way, as the literature does.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from fcn4dist.errors import DataError, quoted

RAREST_FIRST = 0.5  # correlation of place and frequency above which a list counts as ascending; 1: perfectly


def load_tags(file: Path) -> list[str]:
    """Read the tags of a file, one a line; empty lines are left out.

    Raises DataError when the file cannot be read, is empty, or lists a tag twice.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(
            f"data.tags: {quoted(str(file))}: cannot read this list of tags, one a line: {reason}"
        ) from None
    tags = [tag for line in lines if (tag := line.strip())]
    if not tags:
        raise DataError(f"{file}: no tags; expected at least one")
    first: dict[str, int] = {}
    for i, tag in enumerate(tags):
        if first.setdefault(tag, i) != i:
            raise DataError(f"{file}: tag {quoted(tag)} is listed twice")
    return tags


def named_tags(choice: int | Sequence[str] | Path) -> list[str] | None:
    """Return the tags that data.tags names, in its order; None where it is only a number. Raises DataError."""
    if isinstance(choice, int):
        return None
    return load_tags(choice) if isinstance(choice, Path) else list(choice)


def is_rarest_first(positives: Sequence[int]) -> bool:
    """Whether tags with so many clips each stand in ModelZoo's order, allowing for a table that is not the whole one."""
    if len(set(positives)) < 2:
        return True
    by_count = sorted(range(len(positives)), key=lambda place: positives[place])
    ranks = [by_count.index(place) for place in range(len(positives))]
    return statistics.correlation(range(len(positives)), ranks) > RAREST_FIRST
