"""What the figures of an evaluation are about: the part that was scored, and the clips that were trained on."""

from __future__ import annotations

from dataclasses import dataclass

from fcn4dist.data.dataset import DataSet
from fcn4dist.data.leaks import warn_of_leaks

CHECKSUM_DIGITS = 12  # in print
UNKNOWN_TRACKS = (
    "warning: tracks are not known (--data DIR tells them, where its paths do): clips of one track count as independent"
)


@dataclass(frozen=True)
class TrainedOn:
    """The clips that a network was trained on."""

    split_name: str
    clip_list_sha256: str | None = None  # none: not known (ModelZoo's shards, an older checkpoint)


@dataclass(frozen=True)
class Evaluated:
    """What was scored."""

    split: str  # train, val or test
    split_name: str
    num_expected: int
    trained_on: TrainedOn | None = None  # none: not known
    warnings: tuple[str, ...] = ()  # what a reader of the figures must know


def describe_evaluated(data: DataSet, part: str, num_expected: int, trained_on: TrainedOn) -> Evaluated:
    """Return what is known of a part of `data`, with a warning where its clips may have been trained on. Raises DataError."""
    if data.mel is None:  # bare shards say nothing of themselves
        return Evaluated(part, trained_on.split_name, num_expected, trained_on)
    warnings = warn_of_leaks(data.leaks) if data.leaks is not None else []
    digest = data.clip_lists.get("train")
    is_same_name = trained_on.split_name == data.split_name
    is_same_list = trained_on.clip_list_sha256 in (None, digest)
    if not (is_same_name and is_same_list):
        checksum = f", clip list {shorten_checksum(trained_on.clip_list_sha256)}" if trained_on.clip_list_sha256 else ""
        warnings.append(
            f"trained on another split ({trained_on.split_name}{checksum}) than the data set's ({data.split_name}): "
            "clips scored here may have been trained on"
        )
    return Evaluated(part, data.split_name, num_expected, trained_on, tuple(warnings))


def shorten_checksum(checksum: str) -> str:
    """Return the first digits of a checksum, enough to compare two by eye."""
    return checksum[:CHECKSUM_DIGITS]
