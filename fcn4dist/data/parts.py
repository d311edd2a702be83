"""The parts of a data set as values: their names, the rule that made them, and what they share. No NumPy here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

SplitPart = Literal["train", "val", "test"]
Level = Literal["track", "album", "artist"]  # what clips may have in common, finest first
SPLITS: tuple[SplitPart, ...] = ("train", "val", "test")
LEVELS: tuple[Level, ...] = ("track", "album", "artist")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class SplitRule(_Record):
    """How clips were divided."""

    name: str  # as in data.split
    rule: str  # in words
    seed: int | None = None  # of the random rules


class LeakLevel(_Record):
    """What the parts share at one level."""

    num_groups: int  # tracks, albums or artists in all
    num_shared: int  # of them, those with clips in more than one part
    clips_shared_with_train: dict[SplitPart, int]  # clips of val and of test whose group has clips in train too
    num_unknown: int = 0  # clips whose group is not known, so that what they share cannot be seen


class LeakReport(_Record):
    """What the parts of a split have in common."""

    num_clips: dict[SplitPart, int]
    levels: dict[Level, LeakLevel]  # those that the annotations name; none: unknown

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, values: Any) -> Any:
        """Read the report of an older manifest: it went by paths, and counted those that name nothing for all levels."""
        if not (isinstance(values, dict) and "num_unparsed" in values):
            return values
        unparsed = values["num_unparsed"]
        levels = {} if unparsed == sum(values["num_clips"].values()) else values["levels"]
        return {
            "num_clips": values["num_clips"],
            "levels": {level: {**found, "num_unknown": unparsed} for level, found in levels.items()},
        }
