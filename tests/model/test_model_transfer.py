"""Outputs are matched by the names of their tags: with the same tags in another order a network scores as the other did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcn4dist.config.modelzoo_tags import MODELZOO_TAGS
from fcn4dist.errors import CheckpointError
from fcn4dist.model.modelzoo import ModelZooWeights, name_outputs
from fcn4dist.model.transfer import match_tags, transfer_weights

OTHER = ["rock", "jazz", "slow", "piano"]


def weights_of(num_tags: int, start: float) -> dict[str, np.ndarray]:
    rows = start + np.arange(num_tags * 3, dtype=np.float32).reshape(num_tags, 3)
    return {"conv1.weight": np.full((3, 1, 3, 3), start), "dense.weight": rows, "dense.bias": rows[:, 0].copy()}


def logits(weights: dict[str, np.ndarray], tags: list[str], heard: np.ndarray) -> dict[str, float]:
    return dict(zip(tags, weights["dense.weight"] @ heard + weights["dense.bias"], strict=True))


@pytest.mark.parametrize(
    ("own", "new", "said"),
    [
        (OTHER, [], "all 4 tags taken over"),
        (["piano", "slow", "rock", "jazz"], [], "all 4 tags taken over, in the order of the data set"),
        (["piano", "rock"], [], "all 2 tags taken over, in the order of the data set; left out are jazz, slow"),
        (
            ["oboe", "jazz", "slow"],
            ["oboe"],
            "2 of 3 tags taken over (jazz, slow), new are oboe; left out are rock, piano",
        ),
        (
            ["oboe", "koto"],
            ["oboe", "koto"],
            "none of its 4 tags is among the 2 here: the last layer is new",
        ),
    ],
)
def test_a_tag_keeps_its_row_wherever_it_stands(own: list[str], new: list[str], said: str) -> None:
    stored, fresh = weights_of(4, 10), weights_of(len(own), 1000)
    match = match_tags(own, OTHER)
    begun = transfer_weights(stored, fresh, match, "w.ckpt")
    heard = np.array([0.5, -1, 2])
    before, untrained, found = logits(stored, OTHER, heard), logits(fresh, own, heard), logits(begun, own, heard)
    for tag in own:
        assert found[tag] == (untrained[tag] if tag in new else before[tag])
    np.testing.assert_array_equal(begun["conv1.weight"], stored["conv1.weight"])
    assert match.new == new
    assert match.describe() == said
    np.testing.assert_array_equal(stored["dense.weight"], weights_of(4, 10)["dense.weight"])


def test_a_last_layer_of_another_network_or_an_input_norm_of_one_alone_is_refused() -> None:
    match = match_tags(["rock"], OTHER)
    with pytest.raises(CheckpointError, match=r"w\.ckpt: dense\.weight has shape \(3, 3\), expected \(4, 3\)"):
        transfer_weights(weights_of(3, 0), weights_of(1, 0), match, "w.ckpt")
    normed = {**weights_of(4, 0), "bn0.gamma": np.ones(96)}
    with pytest.raises(CheckpointError, match=r"has an input norm; set model\.input_norm: batch"):
        transfer_weights(normed, weights_of(1, 0), match, "w.ckpt")
    with pytest.raises(CheckpointError, match=r"has no input norm; leave out model\.input_norm"):
        transfer_weights(weights_of(4, 0), {**weights_of(1, 0), "bn0.gamma": np.ones(96)}, match, "w.ckpt")


def test_outputs_have_the_names_that_somebody_said_or_those_of_modelzoos_own_training() -> None:
    def file(num_tags: int, *, has_optimizer: bool) -> ModelZooWeights:
        return ModelZooWeights(Path("w.ckpt"), weights_of(num_tags, 0), has_optimizer=has_optimizer)

    shuffled = sorted(MODELZOO_TAGS)
    assert name_outputs(file(50, has_optimizer=True), None, shuffled) == list(MODELZOO_TAGS)
    assert name_outputs(file(50, has_optimizer=True), shuffled, None) == shuffled
    # ours, moved out of its folder: the 50 tags may have stood in any order when it was trained
    assert name_outputs(file(50, has_optimizer=False), None, shuffled) is None
    assert name_outputs(file(50, has_optimizer=True), None, [*shuffled[1:], "banjo"]) is None
    assert name_outputs(file(4, has_optimizer=True), None, OTHER) is None
    with pytest.raises(CheckpointError, match=r"50 outputs \(dense\.weight\), but data\.tags names 4 tags"):
        name_outputs(file(50, has_optimizer=True), OTHER, None)
