"""What the parts of a split share, on made-up paths."""

from __future__ import annotations

import numpy as np

from fcn4dist.data.annotations.magnatagatune import parse_groups
from fcn4dist.data.leaks import LeakReport, find_leaks, format_leaks, warn_of_leaks
from fcn4dist.data.splits import SPLITS


def path(artist: str, album: str, track: int, start: int = 0) -> str:
    return f"0/{artist}-{album}-{track:02d}-title-{start}-{start + 29}.mp3"


def leaks_of(**parts: list[str]) -> LeakReport:
    listed = [(part, path) for part, paths in parts.items() for path in paths]
    rows = {part: np.flatnonzero([name == part for name, _ in listed]) for part in SPLITS}
    return find_leaks(rows, parse_groups([path for _, path in listed]) or {})


def test_tracks_albums_and_artists_in_several_parts_are_counted() -> None:
    report = leaks_of(
        train=[path("a", "x", 1), path("a", "x", 2), path("b", "x", 1)],
        val=[path("a", "x", 1, 29), path("a", "y", 1), path("c", "z", 1)],
        test=[path("c", "z", 2), path("d", "x", 1)],
    )
    found = {level: (leak.num_groups, leak.num_shared) for level, leak in report.levels.items()}
    assert found == {"track": (7, 1), "album": (5, 2), "artist": (4, 2)}
    assert report.levels["track"].clips_shared_with_train == {"val": 1, "test": 0}
    assert report.levels["album"].clips_shared_with_train == {"val": 1, "test": 0}
    assert report.levels["artist"].clips_shared_with_train == {"val": 2, "test": 0}
    assert format_leaks(report)[0] == (
        "tracks: 1 of 7 in more than one part; 1 of 3 val clips (33.3%) are of a track that train has too"
    )
    assert "33.3% of the val clips have siblings in train" in warn_of_leaks(report)[0]


def test_no_warning_without_a_shared_track_and_no_claim_without_names() -> None:
    assert warn_of_leaks(leaks_of(train=[path("a", "x", 1)], val=[path("a", "x", 2)])) == []
    unknown = leaks_of(train=["dog/1.ogg"], val=["dog/2.ogg"])
    assert (unknown.levels, warn_of_leaks(unknown)) == ({}, [])
    assert format_leaks(unknown) == ["leaks: unknown, the annotations name no track, album or artist"]
    mixed = leaks_of(train=["dog/1.ogg", "dog/2.ogg"], val=[path("a", "x", 1)])
    assert mixed.levels["track"].num_unknown == 2
    assert (
        "tracks: 0 of 1 in more than one part; 2 of 3 clips name no track: what they share is unknown"
        in format_leaks(mixed)
    )
    artists = find_leaks({"train": np.array([0]), "val": np.array([1])}, {"artist": ["a", "a"]})
    assert warn_of_leaks(artists) == []
    assert format_leaks(artists)[-1] == "tracks and albums: not known, the annotations do not name them"


def test_the_report_of_an_older_manifest_is_read() -> None:
    level = {"num_groups": 3, "num_shared": 1, "clips_shared_with_train": {"val": 1, "test": 0}}
    old = {"num_clips": {"train": 2, "val": 1}, "num_unparsed": 1, "levels": {"track": level}}
    assert LeakReport.model_validate(old).levels["track"].num_unknown == 1
    assert LeakReport.model_validate({**old, "num_unparsed": 3}).levels == {}
