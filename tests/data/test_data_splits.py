"""The splits: known counts, no leaks, and independence of the order of rows."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fcn4dist.data.annotations.table import Annotations
from fcn4dist.data.splits import parse_track, split_clips
from fcn4dist.errors import DataError

RANDOM = ["random", "random-by-track", "random-by-album", "random-by-artist"]


def make_table(paths: list[str], folder: Path = Path(), ids: list[int] | None = None) -> Annotations:
    clip_ids = np.array(ids or range(1, len(paths) + 1), np.int32)
    labels = np.ones((len(paths), 1), np.int32)
    return Annotations(folder / "t.csv", clip_ids, paths, ["x"], labels, list(range(2, len(paths) + 2)))


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
    return {table.mp3_paths[row]: part for part, rows in split.parts.items() for row in rows}


def test_parse_track_follows_the_grammar() -> None:
    track = parse_track("f/american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-30-59.mp3")
    assert track.artist == "american_bach_soloists"
    assert track.album == "american_bach_soloists-j_s__bach_solo_cantatas"
    assert track.track == "american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria"
    assert track.is_parsed
    assert parse_track("0/a-b-1-c-0-29.mp3").track == parse_track("3/a-b-1-c-29-58.ogg").track


@pytest.mark.parametrize("path", ["dog/1-100032-A.ogg", "song.wav", "x/a-b-c-d-e-f.mp3"])
def test_a_path_without_the_grammar_stands_for_itself(path: str) -> None:
    track = parse_track(path)
    assert not track.is_parsed
    assert {track.artist, track.album, track.track} == {path.rsplit(".", 1)[0]}


def test_magnatagatune_has_the_published_counts(shared_data: Path) -> None:
    with (shared_data / "magnatagatune" / "clips.tsv").open() as text:
        rows = list(csv.DictReader(text, delimiter="\t"))
    table = make_table([row["mp3_path"] for row in rows], ids=[int(row["clip_id"]) for row in rows])
    split = split_clips(table, "folder-12-1-3")
    assert {part: len(rows) for part, rows in split.parts.items()} == {"train": 18_709, "val": 1_825, "test": 5_329}
    tracks = [parse_track(path) for path in table.mp3_paths]
    assert all(track.is_parsed for track in tracks)
    counts = [len({getattr(track, level) for track in tracks}) for level in ("track", "album", "artist")]
    assert counts == [5_405, 446, 230]  # peers.md, section 3
    artists = split_clips(table, "random-by-artist", seed=3)
    in_part = [{tracks[row].artist for row in rows} for rows in artists.parts.values()]
    assert [len(part) for part in in_part] == [184, 23, 23]
    assert len(set.union(*in_part)) == 230


def test_folder_split_says_what_to_use_elsewhere() -> None:
    with pytest.raises(DataError, match=r"t\.csv:3: mp3_path 'dog/x\.ogg' is not in one of .*Use random-by-track"):
        split_clips(make_table(["0/a.ogg", "dog/x.ogg"]), "folder-12-1-3")
    with pytest.raises(DataError, match="is not in one of"):
        split_clips(make_table(["0"]), "folder-12-1-3")  # a file, not a folder


@pytest.mark.parametrize("name", RANDOM)
def test_random_splits_ignore_the_order_of_rows_and_follow_the_seed(name: str) -> None:
    paths = music_paths()
    here = part_of_path(make_table(paths), name)
    shuffled = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]
    assert part_of_path(make_table(shuffled), name) == here
    assert part_of_path(make_table(paths), name, seed=2) != here
    assert set(here) == set(paths)


@pytest.mark.parametrize(
    ("name", "group", "held"),
    [("random-by-track", "track", 12), ("random-by-album", "album", 4), ("random-by-artist", "artist", 2)],
)
def test_random_splits_keep_groups_together_80_10_10(name: str, group: str, held: int) -> None:
    part_of = part_of_path(make_table(music_paths()), name)
    parts: dict[str, set[str]] = {}
    for path, part in part_of.items():
        parts.setdefault(getattr(parse_track(path), group), set()).add(part)
    assert all(len(found) == 1 for found in parts.values())
    chosen = [next(iter(found)) for found in parts.values()]
    assert (chosen.count("val"), chosen.count("test")) == (held, held)


def test_random_says_that_it_leaks_and_which_paths_name_no_track() -> None:
    assert "several parts" in split_clips(make_table(music_paths()), "random").rule.rule
    rule = split_clips(make_table([f"x{i}.ogg" for i in range(10)]), "random-by-artist", seed=5).rule
    assert "10 paths do not name artist" in rule.rule
    assert rule.seed == 5


def test_folds_are_read_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "folds.csv").write_text("path,fold\na.ogg,1\nb.ogg,2\nc.ogg,3\nunused.ogg,1\n")
    table = make_table(["a.ogg", "b.ogg", "c.ogg"], tmp_path)
    assert part_of_path(table, "folds:folds.csv:2") == {"a.ogg": "train", "b.ogg": "val", "c.ogg": "train"}
    assert part_of_path(table, f"folds:{tmp_path}/folds.csv:2:1") == {"a.ogg": "test", "b.ogg": "val", "c.ogg": "train"}
    for name, message in {
        "folds:folds.csv:9": r"has no fold '9'; it has 1, 2, 3",
        "folds:folds.csv:2:2": "cannot be both",
        "folds:folds.csv": "expected folds:FILE:VAL",
        "folds:none.csv:1": "no such file: none.csv",
        "folds:": "is no split; expected folder-12-1-3",
        "by-mood": "'by-mood' is no split",
    }.items():
        with pytest.raises(DataError, match=message):
            split_clips(table, name)
    with pytest.raises(DataError, match=r"t\.csv:3: mp3_path 'new\.ogg' has no line in .*folds\.csv"):
        split_clips(make_table(["a.ogg", "new.ogg"], tmp_path), "folds:folds.csv:2")
    (tmp_path / "two.csv").write_text("path,fold\na.ogg,1\na.ogg,2\n")
    with pytest.raises(DataError, match=r"two\.csv:3: 'a\.ogg' is also in fold 1"):
        split_clips(table, "folds:two.csv:1")


@pytest.mark.parametrize("text", ["mp3_path\tsplit\nb.ogg\tval\na.ogg\ttrain\n", "split,clip_id\nval,20\ntrain,010\n"])
def test_a_split_file_goes_by_path_or_id(tmp_path: Path, text: str) -> None:
    (tmp_path / "s").write_text(text)
    table = make_table(["a.ogg", "b.ogg", "c.ogg"], tmp_path, ids=[10, 20, 30])
    assert part_of_path(table, "file:s") == {"a.ogg": "train", "b.ogg": "val"}
    assert "1 clips that it does not list" in split_clips(table, "file:s").rule.rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mp3_path,split\na.ogg,valid\n", r"s:2: split 'valid'; expected train, val or test"),
        ("mp3_path,part\na.ogg,val\n", r"s:1: no column split"),
        ("mp3_path,split\na.ogg\n", r"s:2: 1 fields, the header has 2"),
        ("mp3_path,split\na.ogg,val\na.ogg,train\n", r"s:3: mp3_path a\.ogg is also in val"),
        ("mp3_path,split\nz.ogg,val\n", r"no mp3_path in .*s is one of"),
        ("mp3_path,split\na.ogg,val\n", r"leaves no clip .* for training"),
    ],
)
def test_a_wrong_split_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s").write_text(text)
    with pytest.raises(DataError, match=message):
        split_clips(make_table(["a.ogg", "b.ogg"], tmp_path), "file:s")


def test_parts_are_in_ascending_order_of_id() -> None:
    table = make_table(["1/a.ogg", "c/b.ogg", "0/c.ogg", "5/d.ogg"], ids=[9, 4, 2, 7])
    split = split_clips(table, "folder-12-1-3")
    assert table.clip_ids[split.parts["train"]].tolist() == [2, 7, 9]
    assert split.num_clips == 4
