"""Crops and windows of pieces that are stored longer than a clip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fcn4dist.config import AugmentConfig
from fcn4dist.data.augment import crop_clips, dropout_masks, mask_clips, mix, mixup_shares, window_starts


def ramp(num_clips: int, frames: int) -> np.ndarray:
    """Pieces whose every frame holds its own number."""
    return np.broadcast_to(np.arange(frames, dtype=np.float32), (num_clips, 1, 4, frames)).copy()


def test_a_clip_as_long_as_it_is_heard_is_left_alone() -> None:
    mel_db = ramp(3, 10)
    found = crop_clips(mel_db, np.arange(3), np.full(3, 10), 10, crop="random", seed=1, epoch=0)
    assert found is mel_db


def test_the_middle_is_that_of_the_sound_not_of_the_silence_behind_it() -> None:
    sound = np.array([30, 20, 11, 10, 4])
    found = crop_clips(ramp(5, 30), np.arange(5), sound, 10, crop="middle", seed=1, epoch=0)
    assert found[:, 0, 0, 0].tolist() == [10, 5, 0, 0, 0]
    np.testing.assert_array_equal(found[1, 0, 3], np.arange(5, 15))


def test_a_random_crop_depends_on_seed_epoch_and_clip_alone() -> None:
    ids, sound = np.arange(200) * 7, np.full(200, 30)

    def starts(rows: np.ndarray, seed: int = 1, epoch: int = 0) -> list[int]:
        found = crop_clips(ramp(len(rows), 30), ids[rows], sound[rows], 10, crop="random", seed=seed, epoch=epoch)
        assert (np.diff(found[:, 0, 0], axis=1) == 1).all()
        return [int(start) for start in found[:, 0, 0, 0]]

    whole = starts(np.arange(200))
    order = np.random.default_rng(0).permutation(200)
    assert starts(order) == [whole[row] for row in order]  # whatever the batch
    assert starts(order[:3]) == [whole[row] for row in order[:3]]
    assert set(whole) == set(range(21))  # 0 to 20 all occur among 200
    assert whole != starts(np.arange(200), epoch=1)
    assert whole != starts(np.arange(200), seed=2)
    expected = np.random.default_rng((1, 0, 7)).integers(21)
    assert whole[1] == expected


@pytest.mark.parametrize(
    ("sound", "starts"),
    [(30, [0, 10, 20]), (25, [0, 10, 15]), (10, [0]), (4, [0]), (11, [0, 1]), (0, [0])],
)
def test_windows_cover_the_sound_and_end_where_it_ends(sound: int, starts: list[int]) -> None:
    assert window_starts(sound, 10) == starts


IDS = np.arange(200) * 7
CUTS = [np.arange(200), np.random.default_rng(0).permutation(200), np.array([3]), np.array([150, 3, 7])]


@pytest.mark.parametrize("rows", CUTS, ids=["whole", "shuffled", "one", "three"])
def test_what_is_drawn_depends_on_seed_epoch_and_clip_alone(rows: np.ndarray) -> None:
    mel_db = np.random.default_rng(1).normal(-30, 10, (200, 1, 16, 40)).astype(np.float32)
    augment = AugmentConfig(time_masks=2, time_mask_frames=12, frequency_masks=1, frequency_mask_bins=5)
    draw: dict[str, Callable[..., np.ndarray]] = {
        "masks": lambda rows, **when: mask_clips(mel_db[rows], IDS[rows], augment, **when),
        "shares": lambda rows, **when: mixup_shares(IDS[rows], 0.4, **when),
        "dropout": lambda rows, **when: dropout_masks(IDS[rows], 64, 0.5, **when),
    }
    for name, function in draw.items():
        whole = function(CUTS[0], seed=1, epoch=2)
        np.testing.assert_array_equal(function(rows, seed=1, epoch=2), whole[rows], err_msg=name)
        assert not np.array_equal(function(CUTS[0], seed=1, epoch=3), whole), name
        assert not np.array_equal(function(CUTS[0], seed=2, epoch=2), whole), name


def test_masks_blank_whole_bands_and_frames_with_the_mean_and_nothing_else() -> None:
    mel_db = np.random.default_rng(1).normal(-30, 10, (400, 1, 16, 40)).astype(np.float32)
    before = mel_db.copy()
    ids = np.arange(400)
    for augment, axis, longest in (
        (AugmentConfig(time_masks=1, time_mask_frames=12), 1, 12),
        (AugmentConfig(frequency_masks=1, frequency_mask_bins=5), 2, 5),
    ):
        found = mask_clips(mel_db, ids, augment, seed=1, epoch=0)
        is_blank = found != mel_db
        np.testing.assert_array_equal(mel_db, before)  # the stored features are not written into
        sizes, covered = set(), set()
        for clip, blank in zip(found[:, 0], is_blank[:, 0], strict=True):
            lines = blank.all(axis=axis - 1)
            assert blank.any(axis=axis - 1).tolist() == lines.tolist()  # all of a frame or a band, or nothing of it
            (places,) = np.nonzero(lines)
            assert places.size == 0 or places.tolist() == list(range(places[0], places[-1] + 1))
            sizes.add(places.size)
            covered |= set(places.tolist())
            assert len(np.unique(clip[blank])) <= 1
        assert sizes == set(range(longest + 1))  # all sizes occur among 400, the longest too
        assert covered == set(range(40 if axis == 1 else 16))
        first = int(np.flatnonzero(is_blank.any(axis=(1, 2, 3)))[0])
        assert found[first][is_blank[first]][0] == pytest.approx(before[first].mean(dtype=np.float64), rel=1e-6)
    assert mask_clips(mel_db, ids, AugmentConfig(), seed=1, epoch=0) is mel_db


def test_one_switch_changes_nothing_of_the_others() -> None:
    """Masks of time alone are those beside masks of bands."""
    mel_db = np.random.default_rng(1).normal(-30, 10, (50, 1, 16, 40)).astype(np.float32)
    both = AugmentConfig(time_masks=1, time_mask_frames=12, frequency_masks=1, frequency_mask_bins=5)
    alone = mask_clips(mel_db, IDS[:50], both.model_copy(update={"frequency_masks": 0}), seed=1, epoch=0)
    found = mask_clips(mel_db, IDS[:50], both, seed=1, epoch=0)
    np.testing.assert_array_equal((found != mel_db) & (alone != mel_db), alone != mel_db)


def test_clips_and_labels_are_mixed_with_the_same_shares() -> None:
    shares = mixup_shares(np.arange(20_000), 0.4, seed=1, epoch=0)
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.005)  # of Beta(a, a)
    own, partner = np.array([[1, 0, 1]]), np.array([[0, 0, 1]])
    np.testing.assert_allclose(mix(own, partner, np.array([0.75], np.float32)), [[0.75, 0, 1]])
    mixed = mix(ramp(2, 5), ramp(2, 5) + 8, np.array([1, 0.5], np.float32))
    assert mixed.dtype == np.float32
    np.testing.assert_array_equal(mixed, ramp(2, 5) + np.array([0, 4], np.float32)[:, None, None, None])


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    masks = dropout_masks(np.arange(500), 2048, 0.25, seed=1, epoch=0)
    assert set(np.unique(masks).tolist()) == {0, float(np.float32(1) / np.float32(0.75))}
    assert (masks == 0).mean() == pytest.approx(0.25, abs=0.002)
    assert masks.mean() == pytest.approx(1, abs=0.003)
    assert (dropout_masks(np.arange(3), 8, 0.0, seed=1, epoch=0) == 1).all()
    assert not np.array_equal(masks[0], masks[1])
