"""Runs that repeat one another: who belongs together, and mean and spread against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcn4dist.config import load_config
from fcn4dist.run.groups import Spread, family_of, find_runs, group_runs, repetition_of


def repetition(*settings: str) -> object:
    return repetition_of(load_config(None, settings).model_dump(mode="json"))


def test_runs_that_differ_in_seed_or_fold_alone_are_a_group() -> None:
    runs = [
        repetition("data.split=folds:1:5", "data.records_dir=/sets/fold1", "train.seed=1", "launch.devices=4"),
        repetition("data.split=folds:1:5", "data.records_dir=/sets/fold1", "train.seed=1", "train.lr=0.01"),
        repetition("data.split=folds:1:5", "data.records_dir=/sets/fold1", "train.seed=2"),
        repetition("data.split=folds:2:1", "data.records_dir=/sets/fold2", "train.seed=1"),
        repetition("data.split=folds:2:1", "data.records_dir=/sets/fold2", "train.seed=1", "train.lr=0.01"),
        repetition(
            "data.split=folds:2:1", "data.records_dir=/sets/fold2", "train.seed=1"
        ),  # of another version, perhaps
        repetition("data.split=folder-12-1-3", "train.seed=1"),
    ]
    assert group_runs(runs) == [[0, 2, 3], [1, 4], [5], [6]]  # type: ignore[arg-type]
    assert group_runs([repetition_of({}), repetition_of({})]) == [[0], [1]]  # nothing is known of either


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [("folds:1", "folds:2", True), ("folds:1:2", "folds:2:3", True), ("folds:a.csv:1", "folds:a.csv:2:1", True),
     ("folds:a.csv:1", "folds:b.csv:1", False), ("folds:/x/a.csv:1:2", "folds:1:2", False), ("official:0", "official:3", True),
     ("random", "random-by-track", False), ("folder-12-1-3", "folder-12-1-3-clean", False)],
)  # fmt: skip
def test_folds_of_one_split_have_a_family(one: str, other: str, is_same: bool) -> None:
    assert (family_of(one) == family_of(other)) == is_same


def test_spread_is_numpys_sample_deviation() -> None:
    values = np.random.default_rng(4).random(7)
    found = Spread.of([*values.tolist(), None])
    assert found is not None
    assert (found.mean, found.deviation) == pytest.approx((values.mean(), values.std(ddof=1)), rel=1e-12)
    assert found.num == 7
    assert str(Spread.of([0.5])) == "0.5000"
    assert Spread.of([None]) is None


def test_a_folder_of_runs_means_all_of_them_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("fold-1/seed-10", "fold-1/seed-2", "fold-2/seed-1", "logs", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    for config in ("fold-1/seed-10", "fold-1/seed-2", "fold-2/seed-1", ".hidden"):
        (tmp_path / config / "config.yaml").touch()
    below = [tmp_path / name for name in ("fold-1/seed-2", "fold-1/seed-10", "fold-2/seed-1")]
    assert find_runs(tmp_path) == below
    assert find_runs(below[0]) == [below[0]]
    assert find_runs(tmp_path / "nothing") == [tmp_path / "nothing"]
    assert find_runs(tmp_path / "logs") == [tmp_path / "logs"]
