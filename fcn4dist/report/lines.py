"""A file of JSON lines, thinned for a page: lines spread evenly, and beside them those that thinning must not lose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MOST_LINES = 4000  # of one file that are spread evenly
NUM_STRETCHES = 400  # of a thinned file, each of which keeps its peaks: as many as a line of a picture has points
EVENT = re.compile(rb'"overflow": ?true|"loss": ?null')  # a skipped step
BLOCK_BYTES = 16 << 20

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Lines:
    """What was taken of one file."""

    records: tuple[dict[str, Any], ...]  # spread evenly, the first and the last among them: means are over these
    peaks: tuple[dict[str, Any], ...]  # others: each stretch's highest and lowest, and every event
    total: int  # lines in the file
    stride: int  # one in so many is in `records`
    num_damaged: int


def load_lines(path: Path, peaks_of: Sequence[str] = (), event: re.Pattern[bytes] | None = None) -> Lines:
    """Read a file, of more than MOST_LINES lines about so many; what follows the last newline is half-written.

    `peaks_of`: keys whose highest and lowest number in each stretch is kept, too; `event`: what marks a line to keep.
    Means over lines chosen for being extreme would be wrong, pictures without these, too: so they are kept apart.
    Raises OSError.
    """
    with path.open("rb") as file:
        ends = _newlines(file)
        total = len(ends)
        stride = max(1, -(-total // MOST_LINES))
        even = _spread(total, stride)
        peaks = sorted(_find_peaks(file, ends, peaks_of, event) - set(even)) if stride > 1 else []
        (records, damaged), (extremes, others) = (_parse(_texts(file, ends, chosen)) for chosen in (even, peaks))
    return Lines(tuple(records), tuple(extremes), total, stride, damaged + others)


def _spread(total: int, stride: int) -> list[int]:
    """Return one line of each `stride`, the first and the last: by lot, for a fixed beat would meet what comes at that beat."""
    starts = np.arange(0, total, stride)
    chosen = starts + np.random.default_rng(0).integers(0, stride, len(starts))
    return sorted({*range(min(1, total)), *range(max(0, total - 1), total), *chosen[chosen < total].tolist()})


def _newlines(file: BinaryIO) -> Integers:
    """Return where the newlines of a file are; a file of gigabytes must not cost seconds."""
    found, start = [np.zeros(0, np.int64)], 0
    while block := file.read(BLOCK_BYTES):
        found.append(np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + start)
        start += len(block)
    return np.concatenate(found)


def _find_peaks(file: BinaryIO, ends: Integers, keys: Sequence[str], event: re.Pattern[bytes] | None) -> set[int]:
    """Return the numbers of the lines that have an event or are the highest or lowest of their stretch.

    Bytes are searched, not JSON: it takes a fifth of the time, and a line that is found wrongly is only one more.
    """
    found: set[int] = set()
    size = -(-len(ends) // NUM_STRETCHES)
    file.seek(0)
    first, start = 0, 0
    while first < len(ends) and (keys or event):
        after = max(first + 1, int(np.searchsorted(ends, start + BLOCK_BYTES)))  # whole lines
        block = file.read(int(ends[after - 1]) + 1 - start)
        here = ends[first:after] - start
        events = np.array([match.start() for match in (event.finditer(block) if event else ())], np.int64)
        found.update((first + np.searchsorted(here, events)).tolist())
        for key in keys:
            places, values = _values(block, key)
            numbers = first + np.searchsorted(here, places)
            order = np.lexsort((values, numbers // size))
            borders = np.flatnonzero(np.diff(numbers[order] // size))
            ordered = numbers[order]
            for chosen in (borders, borders + 1, np.array([0, -1] if len(ordered) else [], np.int64)):
                found.update(ordered[chosen].tolist())
        start, first = int(ends[after - 1]) + 1, after
    return found


def _values(block: bytes, key: str) -> tuple[Integers, NDArray[np.float64]]:
    """Return where a key's numbers stand, and the numbers."""
    matches = list(re.finditer(rb'"%s": ?(-?\d[\d.eE+-]{0,30})(?=[,}\s])' % key.encode(), block))
    places, values = [], []
    for match in matches:
        try:
            values.append(float(match[1]))
        except ValueError:  # of a damaged line
            continue
        places.append(match.start())
    return np.array(places, np.int64), np.array(values, np.float64)


def _texts(file: BinaryIO, ends: Integers, chosen: list[int]) -> Iterator[bytes]:
    for i in chosen:
        start = int(ends[i - 1]) + 1 if i else 0
        file.seek(start)
        yield file.read(int(ends[i]) - start)


def _parse(texts: Iterator[bytes]) -> tuple[list[dict[str, Any]], int]:
    """Return the objects among the lines, and how many are none."""
    found, damaged = [], 0
    for text in texts:
        try:
            record = json.loads(text, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            found.append(record)
        elif text.strip():
            damaged += 1
    return found, damaged
