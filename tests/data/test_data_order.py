from __future__ import annotations

import numpy as np
import pytest

from fcn4dist.config import BatchPlan
from fcn4dist.data.order import epoch_order, evaluation_part, mixup_partners, rank_order


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_steps_hold_the_same_clips_for_any_number_of_ranks(world_size: int) -> None:
    num_clips, global_batch = 1000, 48
    parts = [rank_order(num_clips, 7, 3, BatchPlan(global_batch, world_size), rank) for rank in range(world_size)]
    steps = np.concatenate(parts, axis=1)
    expected = np.random.default_rng((7, 3)).permutation(num_clips)[: 20 * 48].reshape(20, 48)
    np.testing.assert_array_equal(steps, expected)


def test_an_epoch_uses_each_clip_once_up_to_the_last_incomplete_batch() -> None:
    plan = BatchPlan(48, 4)
    used = np.concatenate([rank_order(1000, 1, 0, plan, rank).ravel() for rank in range(4)])
    assert len(used) == len(set(used.tolist())) == 960


def test_epochs_and_seeds_differ_and_repeat() -> None:
    assert not np.array_equal(epoch_order(100, 1, 0), epoch_order(100, 1, 1))
    assert not np.array_equal(epoch_order(100, 1, 0), epoch_order(100, 2, 0))
    np.testing.assert_array_equal(epoch_order(100, 1, 5), epoch_order(100, 1, 5))


def test_a_run_goes_on_in_the_middle_of_an_epoch() -> None:
    plan = BatchPlan(16, 2)
    np.testing.assert_array_equal(rank_order(100, 1, 2, plan, 1, first_step=4), rank_order(100, 1, 2, plan, 1)[4:])


@pytest.mark.parametrize("num_clips", [2, 3, 1000])
def test_each_clip_has_another_one_as_partner_and_is_one_once(num_clips: int) -> None:
    partners = mixup_partners(num_clips, 1, 0)
    np.testing.assert_array_equal(np.sort(partners), np.arange(num_clips))
    assert (partners != np.arange(num_clips)).all()
    np.testing.assert_array_equal(partners, mixup_partners(num_clips, 1, 0))
    if num_clips == 1000:
        assert not np.array_equal(partners, mixup_partners(num_clips, 1, 1))
        assert not np.array_equal(partners, mixup_partners(num_clips, 2, 0))
        own_order = epoch_order(num_clips, 1, 0)
        assert (partners[own_order] == np.roll(own_order, -1)).mean() < 0.01  # not the neighbour in the step
    assert mixup_partners(1, 1, 0).tolist() == [0]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8, 1024])
def test_each_clip_is_scored_on_just_one_rank(world_size: int) -> None:
    parts = np.concatenate([evaluation_part(5329, world_size, rank) for rank in range(world_size)])
    np.testing.assert_array_equal(np.sort(parts), np.arange(5329))


def test_a_rank_outside_the_job_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rank 2 is not in 0\.\.1"):
        rank_order(100, 1, 0, BatchPlan(16, 2), 2)


def test_1024_ranks_train_and_score_each_clip_exactly_once() -> None:
    plan, num_clips = BatchPlan(8 * 1024, 1024), 3 * 8192 + 77
    ranks = [rank_order(num_clips, 1, 2, plan, rank) for rank in range(1024)]
    trained = np.concatenate([positions.ravel() for positions in ranks])
    assert all(positions.shape == (3, 8) for positions in ranks)
    assert len(trained) == 3 * 8192 == len(np.unique(trained))
    scored = np.concatenate([evaluation_part(num_clips, 1024, rank) for rank in range(1024)])
    np.testing.assert_array_equal(np.sort(scored), np.arange(num_clips))
