"""Crops and windows of pieces that are stored longer than a clip."""

from __future__ import annotations

import numpy as np
import pytest

from fcn4dist.data.augment import crop_clips, window_starts


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
