"""Files of tags, ModelZoo's tag.txt among them."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_annotations import make_annotations

from fcn4dist.data.tags import load_tags, named_tags, select_tags
from fcn4dist.errors import DataError, quoted


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "tag.txt"
    file.write_bytes("\ufeffno voice\r\n<script>\r\n\r\n../x\r\nChœur\r\n".encode())
    assert load_tags(file) == ["no voice", "<script>", "../x", "Chœur"]
    assert named_tags(file) == load_tags(file)
    assert named_tags(["a", "b"]) == ["a", "b"]
    assert named_tags(50) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no tags; expected at least one"),
        (b"\n \n", "no tags"),
        (b"rock\npop\nrock\n", r"tag 'rock' is listed twice"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"x" * 10_000 + b"\n" + b"x" * 10_000, r"tag 'x{40}…x{20}' is listed twice"),
    ],
)
def test_a_bad_file_is_one_message(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "tag.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_tags(file)
    with pytest.raises(DataError, match=r"none\.txt': cannot read this list of tags, one a line: No such file"):
        load_tags(tmp_path / "none.txt")


def test_the_k_most_frequent_tags_come_most_frequent_first_and_ties_by_column() -> None:
    labels = [[0, 1, 1, 1, -1], [1, 0, 1, 0, -1], [0, 0, 1, 1, -1]]
    table = make_annotations(["x", "y", "z"], tags=["a", "b", "c", "d", "e"], labels=labels)
    chosen = select_tags(table, 3)  # a 1, b 1, c 3, d 2, e none: unknown is not counted
    assert chosen.tags == ["c", "d", "a"]
    assert chosen.labels.tolist() == [[1, 1, 0], [1, 0, 1], [1, 1, 0]]
    assert select_tags(table, "all").tags == ["c", "d", "a", "b", "e"]
    assert select_tags(table, ["e", "a"]).labels.tolist() == [[-1, 0], [-1, 1], [-1, 0]]


def test_a_choice_of_tags_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    table = make_annotations(["x"], tags=["rock", "jazz", "slow"])
    (tmp_path / "tags.txt").write_text("slow\n\nrock\n")
    assert select_tags(table, tmp_path / "tags.txt").tags == ["slow", "rock"]
    with pytest.raises(DataError, match=r"data\.tags: 4 tags asked, .*t\.csv has 3; use at most that many, or all"):
        select_tags(table, 4)
    with pytest.raises(DataError, match="no tag 'jaz'; did you mean 'jazz'"):
        select_tags(table, ["jaz"])
    with pytest.raises(DataError, match="'jazz' is listed twice"):
        select_tags(table, ["jazz", "jazz"])
    with pytest.raises(DataError, match=r"cannot read this list of tags"):
        select_tags(table, tmp_path / "none.txt")
    with pytest.raises(DataError, match="no tags; expected at least one"):
        select_tags(table, [])
    with pytest.raises(DataError, match="no tag columns and no column `tags`"):
        select_tags(make_annotations(["x"], tags=[]), 1)


def test_names_are_quoted_for_messages() -> None:
    assert quoted("rock") == "'rock'"
    assert quoted("a\nb\x1b[31m") == r"'a\nb\x1b[31m'"
    assert len(quoted("x" * 10_000)) < 100
