"""Runs that repeat one another: they differ only in their seed, or in which fold of the data validates.

Mean and spread over them say what one run cannot: whether the next seed would say the same.
"""

from __future__ import annotations

import contextlib
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn4dist.run.folder import RunDir

# What differs between repetitions, and what changes no figure. Folds are prepared into folders of their own.
IGNORED = {"train.seed", "data.seed", "data.split", "data.records_dir", "data.num_workers", "data.verify"}
IGNORED_SECTIONS = {"launch", "checkpoint"}
FOLDS = re.compile(r"(folds(?::[^:]*[^:\d][^:]*)?)(?::[^:]+){1,2}")  # folds:VAL[:TEST], folds:FILE:VAL[:TEST]
DEPTH = 2  # folders below the one that the user names


@dataclass(frozen=True)
class Repetition:
    """Which repetition of what a run is."""

    setting: tuple[tuple[str, str], ...] | None  # all keys but the ignored ones; none: its config is not known
    seed: str
    split: str

    @property
    def words(self) -> str:
        """The repetition in words: "seed 1, folds:5:4"."""
        return f"seed {self.seed}, {self.split}"


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a figure over runs."""

    mean: float
    deviation: float | None  # n - 1 under the root; none of a single run
    num: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """Return that of the values that are known; none where none is."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.deviation is None else f" ± {self.deviation:.4f}")


def repetition_of(config: Mapping[str, Mapping[str, Any]]) -> Repetition:
    """Return which repetition the run of this config (section -> key -> value) is."""
    train, data = config.get("train", {}), config.get("data", {})
    split = str(data.get("split", "?"))
    label = f"{split} (seed {data.get('seed', '?')})" if split.startswith("random") else split
    setting = {
        f"{section}.{key}": repr(value)
        for section, keys in config.items()
        for key, value in keys.items()
        if section not in IGNORED_SECTIONS and f"{section}.{key}" not in IGNORED
    }
    family = {"data.split": family_of(split)}
    return Repetition(
        tuple(sorted({**setting, **family}.items())) if config else None, str(train.get("seed", "?")), label
    )


def family_of(split: str) -> str:
    """Return what the folds of one split have in common: "folds" of "folds:5:4", "folds:FILE" of "folds:FILE:5"."""
    found = FOLDS.fullmatch(split)
    if found:
        return found[1]
    return "official" if re.fullmatch(r"official:\d+(-clean)?", split) else split


def group_runs(repetitions: Sequence[Repetition]) -> list[list[int]]:
    """Return the places of the runs, group by group, in the order of the first of each.

    Two runs with the same seed and split are not repetitions of each other (of two versions of a program, say): the second one
    begins a group of its own.
    """
    groups: list[list[int]] = []
    for place, own in enumerate(repetitions):
        for group in groups:
            first, taken = repetitions[group[0]], {(repetitions[i].seed, repetitions[i].split) for i in group}
            if own.setting is not None and own.setting == first.setting and (own.seed, own.split) not in taken:
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def find_runs(path: Path) -> list[Path]:
    """Return `path` where it is a run or anything else, and the runs below where it is a folder of runs, 2 before 10."""
    found = [] if is_run(path) else _runs_below(path, DEPTH)
    return found or [path]


def find_newest_first(folder: Path, depth: int = DEPTH) -> list[Path]:
    """Return the runs below `folder`, those first to which something was written last."""
    return sorted(_runs_below(folder, depth), key=_written_at, reverse=True)


def _written_at(path: Path) -> float:
    run = RunDir(path)
    times = [0.0]
    for file in (run.config, run.metrics(0), run.evaluation, run.events):
        with contextlib.suppress(OSError):
            times.append(file.stat().st_mtime)
    return max(times)


def is_run(path: Path) -> bool:
    """Whether a folder holds what a run or an evaluation leaves."""
    run = RunDir(path)
    return any(file.exists() for file in (run.config, run.metrics(0), run.evaluation, run.events))


def _runs_below(path: Path, depth: int) -> list[Path]:
    if depth == 0 or not path.is_dir():
        return []
    found = []
    for folder in sorted((p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")), key=_in_numbers):
        found += [folder] if is_run(folder) else _runs_below(folder, depth - 1)
    return found


def _in_numbers(path: Path) -> list[tuple[int, str]]:
    return [(int(word), "") if word.isdecimal() else (0, word) for word in re.split(r"(\d+)", path.name)]
