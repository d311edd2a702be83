"""The splits: known counts, no leaks, and independence of the order of rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from made_annotations import make_annotations

from fcn4dist.data.annotations import Annotations
from fcn4dist.data.annotations.magnatagatune import parse_durations, parse_groups
from fcn4dist.data.parts import Level
from fcn4dist.data.splits import split_clips
from fcn4dist.errors import DataError

RANDOM = ["random", "random-by-track", "random-by-album", "random-by-artist"]


def music_paths(num_artists: int = 20) -> list[str]:
    return [
        f"{artist % 10}/artist_{artist}-album_{album}-{track:02d}-title-{start}-{start + 29}.mp3"
        for artist in range(num_artists)
        for album in range(2)
        for track in range(3)
        for start in (0, 29)
    ]


def part_of_path(table: Annotations, name: str, seed: int = 1) -> dict[str, str]:
    split = split_clips(table, name, seed)
    return {table.paths[row]: part for part, rows in split.parts.items() for row in rows}


def test_the_grammar_of_magnatagatunes_paths() -> None:
    paths = [
        "f/american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-30-59.mp3",
        "0/a-b-1-c-0-29.mp3",
        "3/a-b-1-c-29-58.ogg",
        "dog/1-100032-A.ogg",
        "x/a-b-c-d-e-f.mp3",
    ]
    groups = parse_groups(paths)
    assert groups is not None
    artist, album = "american_bach_soloists", "american_bach_soloists-j_s__bach_solo_cantatas"
    assert groups["artist"] == [artist, "a", "a", "", ""]
    assert groups["album"] == [album, "a-b", "a-b", "", ""]
    assert groups["track"] == [f"{album}-01-bwv54__i_aria", "a-b-1-c", "a-b-1-c", "", ""]
    np.testing.assert_array_equal(parse_durations(paths), [29, 29, 29, np.nan, np.nan])
    assert parse_groups(paths[3:]) is None


def test_folder_split_says_what_to_use_elsewhere() -> None:
    with pytest.raises(DataError, match=r"t\.csv:3: path 'dog/x\.ogg' is not in one of .*Use random-by-track"):
        split_clips(make_annotations(["0/a.ogg", "dog/x.ogg"], groups={"track": ["a", "x"]}), "folder-12-1-3")
    with pytest.raises(DataError, match="is not in one of"):
        split_clips(make_annotations(["0"]), "folder-12-1-3")  # a file, not a folder


@pytest.mark.parametrize("name", RANDOM)
def test_random_splits_ignore_the_order_of_rows_and_follow_the_seed(name: str) -> None:
    paths = music_paths()
    here = part_of_path(make_annotations(paths), name)
    shuffled = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]
    assert part_of_path(make_annotations(shuffled), name) == here
    assert part_of_path(make_annotations(paths), name, seed=2) != here
    assert set(here) == set(paths)


@pytest.mark.parametrize(
    ("name", "group", "held"),
    [("random-by-track", "track", 12), ("random-by-album", "album", 4), ("random-by-artist", "artist", 2)],
)
def test_random_splits_keep_groups_together_80_10_10(name: str, group: Level, held: int) -> None:
    table = make_annotations(music_paths())
    part_of = part_of_path(table, name)
    parts: dict[str, set[str]] = {}
    for path, named in zip(table.paths, table.groups[group], strict=True):
        parts.setdefault(named, set()).add(part_of[path])
    assert all(len(found) == 1 for found in parts.values())
    chosen = [next(iter(found)) for found in parts.values()]
    assert (chosen.count("val"), chosen.count("test")) == (held, held)


def test_the_splits_of_magnatagatune_do_not_move() -> None:
    """Which tracks are held out follows from a hash of "seed:name": worked out here by itself."""
    table = make_annotations(music_paths())
    order = sorted(set(table.groups["track"]), key=lambda name: hashlib.sha256(f"7:{name}".encode()).digest())
    held = {**dict.fromkeys(order[:12], "val"), **dict.fromkeys(order[12:24], "test")}
    part_of = part_of_path(table, "random-by-track", seed=7)
    assert [part_of[path] for path in table.paths] == [held.get(name, "train") for name in table.groups["track"]]


def test_random_says_that_it_leaks_and_groups_that_are_not_known_are_no_groups() -> None:
    assert "several parts" in split_clips(make_annotations(music_paths()), "random").rule.rule
    paths = [f"x{i}.ogg" for i in range(10)]
    with pytest.raises(
        DataError, match=r"random-by-artist: t\.csv \(table\) has no artist of a clip; .*Use random, folds"
    ):
        split_clips(make_annotations(paths), "random-by-artist", seed=5)
    some = make_annotations(paths, groups={"artist": ["a", "a", "b", *[""] * 7]})
    with pytest.raises(DataError, match=r"has no track of a clip; it names artist\. Use random-by-artist, folds"):
        split_clips(some, "random-by-track")
    rule = split_clips(some, "random-by-artist", seed=5).rule
    assert rule.rule.startswith("9 artists at random: 1 validation, 1 test")
    assert "7 clips name no artist" in rule.rule
    assert rule.seed == 5


def test_official_takes_the_parts_of_the_set_and_folds_its_folds() -> None:
    paths = ["a.ogg", "b.ogg", "c.ogg", "d.ogg"]
    table = make_annotations(
        paths, parts=["train", None, "test", "val"], folds=["1", "2", "10", "2"], labels=[[1], [1], [0], [1]]
    )
    assert part_of_path(table, "official") == {"a.ogg": "train", "c.ogg": "test", "d.ogg": "val"}
    assert "1 clips are in no part" in split_clips(table, "official").rule.rule
    assert part_of_path(table, "official-clean") == {"a.ogg": "train", "d.ogg": "val"}
    assert part_of_path(table, "folds:2:10") == {"a.ogg": "train", "b.ogg": "val", "c.ogg": "test", "d.ogg": "val"}
    assert split_clips(table, "folds:2").rule.rule == "folds of the annotations: 2 validation, the others train"
    with pytest.raises(DataError, match=r"t\.csv has no fold '3'; it has 1, 2, 10"):
        split_clips(table, "folds:3")
    folds_only = make_annotations(paths, folds=["1", "2", "3", "2"])
    with pytest.raises(DataError, match=r"no split of its own\. Use folds:1 \(fold 1 validates\), folds:1:2, random, "):
        split_clips(folds_only, "official")
    with pytest.raises(DataError, match=r"no split of its own\. Use random, folds:FILE:VAL or file:FILE"):
        split_clips(make_annotations(paths), "official")


def test_folds_are_read_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "folds.csv").write_text("path,fold\na.ogg,1\nb.ogg,2\nc.ogg,3\n")
    table = make_annotations(["a.ogg", "b.ogg", "c.ogg"], tmp_path)
    assert part_of_path(table, "folds:folds.csv:2") == {"a.ogg": "train", "b.ogg": "val", "c.ogg": "train"}
    assert part_of_path(table, f"folds:{tmp_path}/folds.csv:2:1") == {"a.ogg": "test", "b.ogg": "val", "c.ogg": "train"}
    for name, message in {
        "folds:folds.csv:9": r"has no fold '9'; it has 1, 2, 3",
        "folds:folds.csv:2:2": "cannot be both",
        "folds:folds.csv": r"expected folds:FILE:VAL .* \(.*t\.csv has no folds of its own\)",
        "folds:none.csv:1": "no such file: none.csv",
        "folds:": "is no split; expected folder-12-1-3",
        "by-mood": "'by-mood' is no split",
    }.items():
        with pytest.raises(DataError, match=message):
            split_clips(table, name)
    with pytest.raises(DataError, match=r"t\.csv:3: path 'new\.ogg' has no line in .*folds\.csv"):
        split_clips(make_annotations(["a.ogg", "new.ogg"], tmp_path), "folds:folds.csv:2")
    (tmp_path / "two.csv").write_text("path,fold\na.ogg,1\na.ogg,2\n")
    with pytest.raises(DataError, match=r"two\.csv:3: 'a\.ogg' is also in fold 1"):
        split_clips(table, "folds:two.csv:1")


@pytest.mark.parametrize("text", ["mp3_path\tsplit\nb.ogg\tval\na.ogg\ttrain\n", "split,clip_id\nval,20\ntrain,010\n"])
def test_a_split_file_goes_by_path_or_id(tmp_path: Path, text: str) -> None:
    (tmp_path / "s").write_text(text)
    table = make_annotations(["a.ogg", "b.ogg", "c.ogg"], tmp_path, ids=[10, 20, 30])
    assert part_of_path(table, "file:s") == {"a.ogg": "train", "b.ogg": "val"}
    assert "1 clips that it does not list" in split_clips(table, "file:s").rule.rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mp3_path,split\na.ogg,dev\n", r"s:2: split 'dev'; expected train, val or test"),
        ("mp3_path,part\na.ogg,val\n", r"s:1: no column split"),
        ("mp3_path,split\na.ogg\n", r"s:2: 1 fields, the header has 2"),
        ("mp3_path,split\na.ogg,val\na.ogg,train\n", r"s:3: mp3_path a\.ogg is also in val"),
        ("mp3_path,split\nz.ogg,val\n", r"s: 1 of the 1 clips that it names are not in .*t\.csv, the first: 'z\.ogg'"),
        ("mp3_path,split\na.ogg,val\n", r"leaves no clip .* for training"),
    ],
)
def test_a_wrong_split_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s").write_text(text)
    with pytest.raises(DataError, match=message):
        split_clips(make_annotations(["a.ogg", "b.ogg"], tmp_path), "file:s")


def test_a_split_file_may_name_a_few_clips_that_are_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [f"{i}.ogg" for i in range(200)]
    for num_strangers, is_refused in ((2, False), (3, True)):
        strangers = [f"gone{i}.ogg" for i in range(num_strangers)]
        (tmp_path / "s").write_text("".join(["path;split\n", *(f"{path};train\n" for path in [*paths, *strangers])]))
        (tmp_path / "f").write_text("".join(["path;fold\n", *(f"{path};{path[0]}\n" for path in [*paths, *strangers])]))
        for name in ("file:s", "folds:f:1"):
            if is_refused:
                with pytest.raises(DataError, match=r"3 of the 203 clips that it names are not in .*More than 1%"):
                    split_clips(make_annotations(paths, tmp_path), name)
            else:
                assert split_clips(make_annotations(paths, tmp_path), name).num_clips == 200
                assert "2 of the 202 clips that it names are not in" in caplog.text


def test_parts_are_in_ascending_order_of_id() -> None:
    table = make_annotations(["1/a.ogg", "c/b.ogg", "0/c.ogg", "5/d.ogg"], ids=[9, 4, 2, 7])
    split = split_clips(table, "folder-12-1-3")
    assert table.clip_ids[split.parts["train"]].tolist() == [2, 7, 9]
    assert split.num_clips == 4
