"""The annotation table: what is read, and what is said of a wrong one."""

from __future__ import annotations

import csv
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

from fcn4dist.data.annotations.table import load_annotations, locate_clips, select_tags
from fcn4dist.errors import DataError

HEADER = ["clip_id", "rock", "jazz", "slow", "mp3_path"]
ROWS = [
    ["7", "0", "1", "1", "a/one.ogg"],
    ["3", "1", "1", "0", "b/two.ogg"],
    ["5", "0", "1", "1", "c/three.ogg"],
]


def write_table(file: Path, rows: list[list[str]], quoting: int = csv.QUOTE_ALL, header: list[str] = HEADER) -> Path:
    with file.open("w", newline="") as text:
        csv.writer(text, delimiter="\t", quoting=quoting, lineterminator="\n").writerows([header, *rows])
    return file


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_NONE])
def test_reads_a_table_with_and_without_quotes(tmp_path: Path, quoting: int) -> None:
    table = load_annotations(write_table(tmp_path / "t.csv", ROWS, quoting))
    assert table.clip_ids.tolist() == [7, 3, 5]
    assert table.mp3_paths == ["a/one.ogg", "b/two.ogg", "c/three.ogg"]
    assert table.tags == ["rock", "jazz", "slow"]
    assert table.labels.tolist() == [[0, 1, 1], [1, 1, 0], [0, 1, 1]]
    assert table.labels.dtype == np.int32


def test_columns_may_stand_anywhere_and_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes("\ufeffrock\tmp3_path\tjazz\tclip_id\r\n1\tx.wav\t0\t4\r\n\r\n".encode())
    table = load_annotations(file)
    assert (table.tags, table.labels.tolist(), table.clip_ids.tolist()) == (["rock", "jazz"], [[1, 0]], [4])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["9", "0", "1", "c.ogg"], r"t\.csv:5: 4 fields, the header has 5"),
        (["9", "0", "2", "0", "c.ogg"], r"t\.csv:5: tag 'jazz' is '2'; expected 0 or 1"),
        (["9", "01", "", "0", "c.ogg"], r"t\.csv:5: tag 'rock' is '01'"),
        (["3", "0", "1", "0", "c.ogg"], r"t\.csv:5: clip_id 3 is also on line 3"),
        (["9", "0", "1", "0", "b/two.ogg"], r"t\.csv:5: mp3_path 'b/two.ogg' is also on line 3"),
        (["9", "0", "1", "0", "./b//two.ogg"], r"t\.csv:5: mp3_path 'b/two.ogg' is also on line 3"),
        (["x9", "0", "1", "0", "c.ogg"], r"t\.csv:5: clip_id 'x9'; expected a whole number"),
        (["2147483648", "0", "1", "0", "c.ogg"], r"t\.csv:5: clip_id '2147483648'"),
        (["9", "0", "1", "0", "../c.ogg"], r"t\.csv:5: mp3_path '\.\./c\.ogg' leaves the audio folder"),
        (["9", "0", "1", "0", "a/../../c.ogg"], r"leaves the audio folder"),
        (["9", "0", "1", "0", "/etc/c.ogg"], r"leaves the audio folder"),
        (["9", "0", "1", "0", ""], r"t\.csv:5: mp3_path ''; expected the path"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, row: list[str], message: str) -> None:
    file = write_table(tmp_path / "t.csv", [*ROWS, row])
    with pytest.raises(DataError, match=message):
        load_annotations(file)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["id", "rock", "mp3_path"], r"t\.csv:1: no column clip_id; found id, rock, mp3_path"),
        (["clip_id", "rock", "path"], r"no column mp3_path"),
        (["clip_id,rock,mp3_path"], r"no column clip_id; .*tab separated"),
        (["clip_id", "rock", "rock", "mp3_path"], r"column 'rock' occurs twice"),
        (["clip_id", "mp3_path"], r"no tag columns"),
        (["clip_id", "rock", "mp3_path"], r"no clips below the header"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, header: list[str], message: str) -> None:
    file = write_table(tmp_path / "t.csv", [], header=header)
    with pytest.raises(DataError, match=message):
        load_annotations(file)


def test_a_missing_binary_or_empty_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv: cannot read this table: No such file"):
        load_annotations(tmp_path / "nothing.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="no column clip_id; found nothing"):
        load_annotations(tmp_path / "empty.csv")
    (tmp_path / "binary.csv").write_bytes(b"clip_id\tx\tmp3_path\n\xff\xfe\x00")
    with pytest.raises(DataError, match=r"binary\.csv"):
        load_annotations(tmp_path / "binary.csv")


def test_the_k_most_frequent_tags_come_most_frequent_first_and_ties_by_column(tmp_path: Path) -> None:
    header = ["clip_id", "a", "b", "c", "d", "mp3_path"]
    rows = [["1", "0", "1", "1", "1", "x"], ["2", "1", "0", "1", "0", "y"], ["3", "0", "0", "1", "1", "z"]]
    table = load_annotations(write_table(tmp_path / "t.csv", rows, header=header))
    chosen = select_tags(table, 3)  # a 1, b 1, c 3, d 2
    assert chosen.tags == ["c", "d", "a"]
    assert chosen.labels.tolist() == [[1, 1, 0], [1, 0, 1], [1, 1, 0]]
    assert select_tags(table, 4).tags == ["c", "d", "a", "b"]


def test_tags_from_a_list_or_a_file_keep_their_order(tmp_path: Path) -> None:
    table = load_annotations(write_table(tmp_path / "t.csv", ROWS))
    (tmp_path / "tags.txt").write_text("slow\n\nrock\n")
    for choice in (["slow", "rock"], tmp_path / "tags.txt"):
        chosen = select_tags(table, choice)
        assert chosen.tags == ["slow", "rock"]
        assert chosen.labels.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_a_choice_of_tags_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    table = load_annotations(write_table(tmp_path / "t.csv", ROWS))
    with pytest.raises(DataError, match=r"data\.tags: 4 tags asked, .*t\.csv has 3"):
        select_tags(table, 4)
    with pytest.raises(DataError, match="no tag 'jaz'; did you mean 'jazz'"):
        select_tags(table, ["jaz"])
    with pytest.raises(DataError, match="'jazz' is listed twice"):
        select_tags(table, ["jazz", "jazz"])
    with pytest.raises(DataError, match=r"cannot read this list of tags"):
        select_tags(table, tmp_path / "none.txt")
    with pytest.raises(DataError, match="no tags; expected at least one"):
        select_tags(table, [])


def test_a_link_out_of_the_audio_folder_is_refused_and_one_inside_is_not(tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    for folder in ("a", "b", "c"):
        (audio / folder).mkdir(parents=True)
    (audio / "b" / "two.ogg").symlink_to(audio / "a" / "one.ogg")
    table = load_annotations(write_table(tmp_path / "t.csv", ROWS))
    assert locate_clips(table, audio) == [audio / path for path in table.mp3_paths]
    (tmp_path / "audio-secret").touch()  # shares the folder's name as a prefix
    (audio / "c" / "three.ogg").symlink_to("../../audio-secret")
    with pytest.raises(DataError, match=r"t\.csv:4: mp3_path 'c/three\.ogg' is a link out of the audio folder"):
        locate_clips(table, audio)
    with pytest.raises(DataError, match="no such audio folder"):
        locate_clips(table, tmp_path / "nowhere")


def test_a_table_as_large_as_magnatagatune_loads_fast(tmp_path: Path) -> None:
    draw = random.Random(1)
    patterns = [["1" if draw.random() < 0.02 else "0" for _ in range(188)] for _ in range(50)]
    rows = [[str(i), *patterns[i % 50], f"{i % 10}/clip-{i}.mp3"] for i in range(25_863)]
    header = ["clip_id", *(f"tag {i}" for i in range(188)), "mp3_path"]
    file = write_table(tmp_path / "t.csv", rows, header=header)
    started = time.process_time()
    table = load_annotations(file)
    assert time.process_time() - started < 5  # 1 s on an idle core of 2020
    assert table.labels.shape == (25_863, 188)
    assert table.labels.sum() == sum(row.count("1") for row in patterns for _ in range(517)) + sum(
        row.count("1") for row in patterns[: 25_863 - 50 * 517]
    )


def test_the_real_labels_of_magnatagatune_load(shared_data: Path) -> None:
    table = load_annotations(shared_data / "magnatagatune" / "annotations_val_test.csv")
    assert table.labels.shape == (7154, 50)
    assert int((table.labels.sum(axis=1) > 0).sum()) == 1529 + 4332  # peers.md: clips with a top-50 tag
    assert os.path.dirname(table.mp3_paths[0]) in "cdef"
