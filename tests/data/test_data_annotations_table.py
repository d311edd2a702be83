"""The general table: what is read, and what is said of a wrong one."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations import Annotations, load_annotations, locate_clips
from fcn4dist.errors import ConfigError, DataError

HEADER = ["clip_id", "rock", "jazz", "slow", "mp3_path"]
ROWS = [
    ["7", "0", "1", "1", "a/one.ogg"],
    ["3", "1", "1", "0", "b/two.ogg"],
    ["5", "0", "1", "1", "c/three.ogg"],
]


def write_table(file: Path, rows: list[list[str]], quoting: Any = csv.QUOTE_ALL, header: list[str] = HEADER) -> Path:
    with file.open("w", newline="") as text:
        csv.writer(text, delimiter="\t", quoting=quoting, lineterminator="\n").writerows([header, *rows])
    return file


def read(file: Path, text: str | bytes | None = None, **keys: Any) -> Annotations:
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_annotations(DataConfig(annotations=file, **keys))


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_NONE])
def test_reads_a_table_with_and_without_quotes(tmp_path: Path, quoting: int) -> None:
    table = read(write_table(tmp_path / "t.csv", ROWS, quoting))
    assert table.clip_ids.tolist() == [7, 3, 5]
    assert table.source_ids == ["7", "3", "5"]
    assert table.paths == ["a/one.ogg", "b/two.ogg", "c/three.ogg"]
    assert table.tags == ["rock", "jazz", "slow"]
    assert table.labels.tolist() == [[0, 1, 1], [1, 1, 0], [0, 1, 1]]
    assert table.labels.dtype == np.int8
    assert (table.groups, table.parts, table.folds) == ({}, None, None)


@pytest.mark.parametrize("delimiter", ["\t", ",", ";"])
def test_columns_may_stand_anywhere_and_windows_line_ends_and_a_byte_order_mark_do_no_harm(
    tmp_path: Path, delimiter: str
) -> None:
    text = "\ufeffrock\tPath\tr,b;x\tclip_id\r\n1\tx.wav\t0\t4\r\n\r\n?\ty.wav\t\t5\r\n-1\tz.wav\t1.0\t6\r\n"
    if delimiter != "\t":
        text = text.replace("r,b;x", '"r,b;x"').replace("\t", delimiter)
    table = read(tmp_path / "t.csv", text)
    assert (table.tags, table.clip_ids.tolist()) == (["rock", "r,b;x"], [4, 5, 6])
    assert table.labels.tolist() == [[1, 0], [-1, -1], [-1, 1]]
    assert table.lines == [2, 4, 5]


@pytest.mark.parametrize(
    "text",
    [
        "file,tags\nb.mp3,rock;new wave\na.mp3,\nx/c.mp3,jazz ; rock\n",
        'file,tags\n"b.mp3","rock|new wave"\na.mp3,""\nx/c.mp3,jazz|rock|\n',
        'file,tags\nb.mp3,"rock, new wave"\na.mp3,\nx/c.mp3,"jazz,rock"\n',
        "file\ttags\r\nb.mp3\trock, new wave\r\na.mp3\t\r\nx/c.mp3\tjazz,rock\r\n",
        "tag;filename;title\nrock|new wave;b.mp3;B\n;a.mp3;A\njazz|rock;x/c.mp3;C\n",
    ],
)
def test_a_list_of_tags_in_a_column_as_people_write_it(tmp_path: Path, text: str) -> None:
    table = read(tmp_path / "t.csv", text)
    assert table.tags == ["jazz", "new wave", "rock"]
    assert table.labels.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 1]]
    assert table.clip_ids.tolist() == [0, 1, 2]
    assert table.source_ids == table.paths == ["b.mp3", "a.mp3", "x/c.mp3"]


def test_groups_parts_folds_and_durations_are_columns(tmp_path: Path) -> None:
    text = (
        "id,path,tags,artist,album,split,fold,duration\n"
        "b1,b.ogg,x,Ann,Best,validation,1,12.5\na2,a.ogg,x;y,Bob,Best,train,2,\nc3,c.ogg,y,,,,2,3\n"
    )
    table = read(tmp_path / "t.csv", text)
    assert (table.clip_ids.tolist(), table.source_ids) == ([0, 1, 2], ["b1", "a2", "c3"])
    assert table.groups == {"album": ["Ann/Best", "Bob/Best", ""], "artist": ["Ann", "Bob", ""]}
    assert table.parts == ["val", "train", None]
    assert table.folds == ["1", "2", "2"]
    assert table.durations_s is not None
    np.testing.assert_array_equal(table.durations_s, np.array([12.5, np.nan, 3], np.float32))
    several = read(tmp_path / "u.csv", "track_id,path,tags\nt1,a.ogg,x\nt1,b.ogg,y\n")
    assert (several.source_ids, several.groups) == (["a.ogg", "b.ogg"], {"track": ["t1", "t1"]})


def test_paths_come_from_a_template_or_a_map_where_the_table_has_none(tmp_path: Path) -> None:
    text = "id,tags\n-x1,a\ny2,b\n"
    with pytest.raises(DataError, match=r"does not say where audio is; set data\.path_template"):
        read(tmp_path / "t.csv", text)
    assert read(tmp_path / "t.csv", path_template="wav/{id}.wav").paths == ["wav/-x1.wav", "wav/y2.wav"]
    (tmp_path / "map.tsv").write_text("-x1\t1/one.mp3\ny2\t2/two.mp3\nz\tz.mp3\n")
    assert read(tmp_path / "t.csv", path_map=tmp_path / "map.tsv").paths == ["1/one.mp3", "2/two.mp3"]
    (tmp_path / "map.tsv").write_text("-x1\t1/one.mp3\ny2\t./1/one.mp3\n")
    with pytest.raises(DataError, match=r"t\.csv:3: path by data\.path_map .*map\.tsv '1/one\.mp3' is also on line 2"):
        read(tmp_path / "t.csv", path_map=tmp_path / "map.tsv")
    (tmp_path / "map.tsv").write_text("id,path\n-x1,1/one.mp3\n")
    with pytest.raises(DataError, match=r"map\.tsv lacks 1 of the 2 clips of .*t\.csv, the first: 'y2'"):
        read(tmp_path / "t.csv", path_map=tmp_path / "map.tsv")
    with pytest.raises(ValueError, match=r"'\{ytid\}': KeyError 'ytid'; expected a path with \{id\}"):
        read(tmp_path / "t.csv", path_template="{ytid}")
    low = read(tmp_path / "u.csv", "file,tags\n00/9.mp3,a\n", path_template="{path}.low.mp3")
    assert low.paths == ["00/9.low.mp3"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["9", "0", "1", "c.ogg"], r"t\.csv:5: 4 fields, the header has 5"),
        (
            ["9", "0", "2", "0", "c.ogg"],
            r"t\.csv:5: tag 'jazz' is '2'; expected 0 or 1 \(unknown: -1, \? or nothing\)",
        ),
        (
            ["9", "0", "x;y", "0", "c.ogg"],
            r"t\.csv:5: tag 'jazz' is 'x;y'.* A list of tags has one of these names: tags, tag, labels",
        ),
        (["9", "01", "", "0", "c.ogg"], r"t\.csv:5: tag 'rock' is '01'"),
        (["9", "1" * 5000, "0", "0", "c.ogg"], r"t\.csv:5: tag 'rock' is '1+…1+'; expected"),
        (["3", "0", "1", "0", "c.ogg"], r"t\.csv:5: id '3' is also on line 3"),
        (["003", "0", "1", "0", "c.ogg"], r"t\.csv:5: id '003' is also on line 3 \('3'\)"),
        (["9", "0", "1", "0", "b/two.ogg"], r"t\.csv:5: path 'b/two.ogg' is also on line 3"),
        (["9", "0", "1", "0", "./b//two.ogg"], r"t\.csv:5: path 'b/two.ogg' is also on line 3"),
        (["", "0", "1", "0", "c.ogg"], r"t\.csv:5: id ''; expected a name"),
        (["9" * 5000, "0", "1", "0", "c.ogg"], r"t\.csv:5: id '9+…9+'; expected a name of 1 to 255 letters"),
        (["9", "0", "1", "0", "../c.ogg"], r"t\.csv:5: path '\.\./c\.ogg' leaves the audio folder"),
        (["9", "0", "1", "0", "a/../../c.ogg"], r"leaves the audio folder"),
        (["9", "0", "1", "0", "/etc/c.ogg"], r"leaves the audio folder"),
        (["9", "0", "1", "0", ""], r"t\.csv:5: path '\.?'; expected the path"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, row: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write_table(tmp_path / "t.csv", [*ROWS, row]))


@pytest.mark.usefixtures("usual_limits")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clipid\trock\tmp3path\n", r"t\.csv:1: no column for the audio .*did you mean clip_id\?.* such as: file,tags"),
        ("rock,pop\n1,0\n", r"no column for the audio .*; found 'rock', 'pop'\. The first line must be a header"),
        ("a.mp3,rock\nb.mp3,pop\n", r"found 'a\.mp3', 'rock'\. The first line must be a header"),
        ("clip_id\trock\trock\tmp3_path\n", r"column 'rock' occurs twice"),
        ("clip_id\tclip_id\trock\tmp3_path\n", r"column 'clip_id' occurs twice"),
        ("clip_id\t\tmp3_path\n", r"column 2 has no name"),
        ("clip_id\trock\tmp3_path\n", r"no clips below the header"),
        ("", r"no column for the audio .* found nothing"),
        ("file,tags\na.mp3,rock,pop\n", r"t\.csv:2: 3 fields, the header has 2\. .* right as: a\.mp3,rock;pop$"),
        ("tags,file\nrock, pop,a.mp3\n", r"t\.csv:2: 3 fields, .* right as: rock;pop,a\.mp3$"),
        ("file;tags\na.mp3;rock;pop\n", r"t\.csv:2: 3 fields, .* right as: a\.mp3;rock\|pop$"),
        (
            "file,tags\na.mp3,rock/pop\nb.mp3,jazz/pop\n",
            r"t\.csv:2: tags 'rock/pop': '/' is no separator.*: rock;pop - or",
        ),
        ("file,tags\na.mp3,rock;pop\nb.mp3,jazz|pop\n", r"t\.csv:3: tags separated by \| here, but by ; on line 2"),
        ("file,tags,split\na.mp3,x,holdout\n", r"t\.csv:2: split 'holdout'; expected train, val or test"),
        ("file,tags,duration\na.mp3,x,long\n", r"t\.csv:2: duration 'long'; expected seconds"),
        ("file,tags,duration\na.mp3,x," + "9" * 5000 + "\n", r"t\.csv:2: duration '9+…9+'; expected seconds"),
        ("id,file,tags,track_id,group\n1,a,x,t,g\n", r"columns group and track_id both say"),
        (b"file,tags\na.mp3,fa\xe7ade\n", r"t\.csv:2: not UTF-8 text\. .*iconv -f LATIN1 -t UTF-8"),
        ("file\ttags\na\tb\n".encode("utf-16"), r"t\.csv:1: not UTF-8 text\. .*iconv -f UTF-16 -t UTF-8"),
        (b"clip_id\tx\tmp3_path\n\xff\xfe\x00", r"t\.csv:2: not UTF-8"),
        ("x" * 140_000, r"t\.csv:1: not a table: field larger than field limit"),
    ],
)
def test_a_wrong_table_is_one_message_with_the_line_that_would_be_right(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "t.csv", text)


def test_a_tag_with_a_suspicious_letter_is_one_where_the_list_says_so(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "file,tags\na.mp3,genre/rock;\nb.mp3,genre/pop\n")
    assert table.tags == ["genre/pop", "genre/rock"]
    assert read(tmp_path / "t.csv", "file,tags\na.mp3,r&b\nb.mp3,pop\n").tags == ["pop", "r&b"]


def test_a_missing_file_is_one_message(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")  # nobody writes into it
    with pytest.raises(DataError, match=r"pipe\.csv: a pipe; expected a file"):
        read(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"nothing\.csv: cannot read .*: No such file"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(ConfigError, match=r"data\.annotations: not given"):
        load_annotations(DataConfig())


def test_a_link_out_of_the_audio_folder_is_refused_and_one_inside_is_not(tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    for folder in ("a", "b", "c"):
        (audio / folder).mkdir(parents=True)
    (audio / "b" / "two.ogg").symlink_to(audio / "a" / "one.ogg")
    table = read(write_table(tmp_path / "t.csv", ROWS))
    assert locate_clips(table, audio) == [audio / path for path in table.paths]
    assert locate_clips(table, audio, ".npy")[0] == audio / "a" / "one.npy"
    (tmp_path / "audio-secret").touch()  # shares the folder's name as a prefix
    (audio / "c" / "three.ogg").symlink_to("../../audio-secret")
    with pytest.raises(DataError, match=r"t\.csv:4: path 'c/three\.ogg' is a link out of the audio folder"):
        locate_clips(table, audio)
    with pytest.raises(DataError, match="no such audio folder"):
        locate_clips(table, tmp_path / "nowhere")
    (audio / "a").rename(tmp_path / "a")
    (audio / "a").symlink_to(tmp_path / "a")  # the folder of a clip may be the link, too
    with pytest.raises(DataError, match="is a link out of the audio folder"):
        locate_clips(table, audio)


def test_a_table_as_large_as_magnatagatune_loads(tmp_path: Path) -> None:
    draw = random.Random(1)
    patterns = [["1" if draw.random() < 0.02 else "0" for _ in range(188)] for _ in range(50)]
    rows = [[str(i), *patterns[i % 50], f"{i % 10}/clip-{i}.mp3"] for i in range(25_863)]
    header = ["clip_id", *(f"tag {i}" for i in range(188)), "mp3_path"]
    file = write_table(tmp_path / "t.csv", rows, header=header)
    table = read(file)
    assert table.labels.shape == (25_863, 188)
    assert table.labels.sum() == sum(row.count("1") for row in patterns for _ in range(517)) + sum(
        row.count("1") for row in patterns[: 25_863 - 50 * 517]
    )
