"""Weights of another network as a beginning: its outputs are matched by the names of their tags, never by their places.

The tags that both have keep their rows of the last layer, in the order of the new network; the others begin anew. Pure functions
of names and arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.errors import CheckpointError, shorten_name

LAST_LAYER = ("dense.weight", "dense.bias")  # (num_tags, ...): a row a tag
MOST_NAMES = 8  # in a message
NAME_WIDTH = 40


@dataclass(frozen=True)
class TagMatch:
    """Which output of another network each tag of the new one has, if any."""

    own: tuple[str, ...]  # tags of the new network, in the order of its outputs
    other: tuple[str, ...]  # likewise of the network that weights are taken from

    @property
    def sources(self) -> tuple[int | None, ...]:
        """The row of the other last layer for each row of the own one; None where the tag is new."""
        rows = {tag: row for row, tag in enumerate(self.other)}
        return tuple(rows.get(tag) for tag in self.own)

    @property
    def taken(self) -> list[str]:
        """Tags whose rows are taken over."""
        return [tag for tag in self.own if tag in self.other]

    @property
    def new(self) -> list[str]:
        """Tags that the other network does not know."""
        return [tag for tag in self.own if tag not in self.other]

    @property
    def left_out(self) -> list[str]:
        """Tags of the other network that the new one does not have."""
        return [tag for tag in self.other if tag not in self.own]

    def describe(self) -> str:
        """Return one line for people: what was taken and what is new."""
        if not self.taken:
            return f"none of its {len(self.other)} tags is among the {len(self.own)} here: the last layer is new"
        if self.new:
            text = (
                f"{len(self.taken)} of {len(self.own)} tags taken over ({_list(self.taken)}), new are {_list(self.new)}"
            )
        else:
            is_same = self.own == self.other
            text = f"all {len(self.own)} tags taken over" + ("" if is_same else ", in the order of the data set")
        return text + (f"; left out are {_list(self.left_out)}" if self.left_out else "")


def match_tags(own: Sequence[str], other: Sequence[str]) -> TagMatch:
    """Match the tags of a new network, `own`, with those of the network `other`; each list names a tag once."""
    assert len(set(own)) == len(own), "a tag has one output"
    assert len(set(other)) == len(other), "a tag has one output"
    return TagMatch(tuple(own), tuple(other))


def transfer_weights(
    stored: Mapping[str, NDArray[Any]], fresh: Mapping[str, NDArray[Any]], match: TagMatch, where: str
) -> dict[str, NDArray[Any]]:
    """Return what the new network begins with: `stored`, and in its last layer `fresh`, the new network's own, for new tags.

    Both are parameters by name. Raises CheckpointError where only one of the two networks has an input norm: the layers behind
    it have learned from other numbers. Whoever sets the parameters compares the other names and shapes.
    """
    for has, lacks, text in (
        (stored, fresh, "has an input norm; set model.input_norm: batch to start from it"),
        (fresh, stored, "has no input norm; leave out model.input_norm: batch to start from it"),
    ):
        if "bn0.gamma" in has and "bn0.gamma" not in lacks:
            raise CheckpointError(f"{where}: {text}")
    begun = dict(stored)
    for name in LAST_LAYER:
        if stored[name].shape[0] != len(match.other) or stored[name].shape[1:] != fresh[name].shape[1:]:
            raise CheckpointError(
                f"{where}: {name} has shape {stored[name].shape}, expected {(len(match.other), *fresh[name].shape[1:])}"
            )
        rows = np.array(fresh[name])
        for row, source in enumerate(match.sources):
            if source is not None:
                rows[row] = stored[name][source]
        begun[name] = rows
    return begun


def _list(tags: Sequence[str]) -> str:
    names = ", ".join(shorten_name(tag, NAME_WIDTH) for tag in tags[:MOST_NAMES])
    return names if len(tags) <= MOST_NAMES else f"{names} and {len(tags) - MOST_NAMES} more"
