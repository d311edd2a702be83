"""clips.tsv: hostile paths come back, older lists are read, damage is named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcn4dist.data.clip_list import ListedClip, digest_clip_list, format_clip_list, load_clip_list, load_tracks
from fcn4dist.errors import DataError


@given(
    clips=st.lists(
        st.builds(
            ListedClip,
            clip_id=st.integers(0, 2**31 - 1),
            split=st.sampled_from(["train", "val", "test"]),
            mp3_path=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
            duration_s=st.one_of(st.none(), st.integers(0, 10**6).map(lambda ms: ms / 1000)),
            labels=st.one_of(st.none(), st.lists(st.integers(0, 187), unique=True).map(tuple)),
        )
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, clips: list[ListedClip]) -> None:
    folder = tmp_path_factory.mktemp("list")
    (folder / "clips.tsv").write_text(format_clip_list(clips), encoding="utf-8", newline="")
    assert load_clip_list(folder) == clips


def test_a_list_of_three_columns_is_read(tmp_path: Path) -> None:
    (tmp_path / "clips.tsv").write_text("clip_id\tsplit\tmp3_path\n7\tval\t0/a-b-01-c-0-29.mp3\n")
    assert load_clip_list(tmp_path) == [ListedClip(7, "val", "0/a-b-01-c-0-29.mp3")]
    tracks = load_tracks(tmp_path, np.array([7]))
    assert tracks is not None
    assert tracks.tolist() == ["a-b-01-c"]
    with pytest.raises(DataError, match=r"clips\.tsv: clip 8 is not listed"):
        load_tracks(tmp_path, np.array([7, 8]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip_id\tmp3_path\n", r"clips\.tsv:1: no column split"),
        ("clip_id\tsplit\tmp3_path\nx\tval\tp\n", r"clips\.tsv:2: not a line that"),
        ("clip_id\tsplit\tmp3_path\n1\tvalid\tp\n", r"clips\.tsv:2: .*split 'valid'"),
        ("clip_id\tsplit\tmp3_path\tduration_s\n1\tval\tp\tnan\n", r"clips\.tsv:2: .*duration_s 'nan'"),
        ("clip_id\tsplit\tmp3_path\tduration_s\tlabels\n1\tval\tp\t1\ta\n", r"clips\.tsv:2: not a line"),
    ],
)
def test_a_damaged_list_is_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "clips.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_clip_list(tmp_path)


def test_no_list_is_no_error(tmp_path: Path) -> None:
    assert load_clip_list(tmp_path) is None
    assert load_tracks(tmp_path, np.array([1])) is None


def test_where_no_path_names_a_track_the_tracks_are_not_known(tmp_path: Path) -> None:
    paths = ["audio/1-100032-A-0.wav", "audio/1-100038-A-14.wav", "audio/a-b-1-c-0-29.wav"]
    clips = [ListedClip(i, "val", path) for i, path in enumerate(paths)]
    (tmp_path / "clips.tsv").write_text(format_clip_list(clips))
    assert load_tracks(tmp_path, np.array([0, 1])) is None
    tracks = load_tracks(tmp_path, np.array([0, 2]))
    assert tracks is not None
    assert tracks.tolist() == ["audio/1-100032-A-0.wav", "a-b-1-c"]


def test_the_checksum_does_not_depend_on_the_order() -> None:
    assert digest_clip_list([10, 9]) == digest_clip_list([9, 10]) == hashlib.sha256(b"9\n10\n").hexdigest()
