"""Groups of synonyms: two ways to write them, what merging gives, and what is said of a wrong file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from made_annotations import make_annotations

from fcn4dist.data.annotations import Annotations
from fcn4dist.data.tags import find_synonyms, load_synonyms, merge_synonyms
from fcn4dist.errors import DataError

TAGS = ["beats", "rock", "female", "beat", "women"]
LABELS = [[1, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]


def table(folder: Path = Path()) -> Annotations:
    return make_annotations([f"{i}.ogg" for i in range(4)], folder, tags=TAGS, labels=LABELS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.txt", "# mine\nbeat, beats\n\nfemale, woman ,women  # people\n"),
        ("s.yaml", "# mine\n- [beat, beats]\n- - female\n  - woman\n  - women\n"),
    ],
)
def test_a_merged_tag_is_any_of_its_members_under_the_first_name(
    tmp_path: Path, name: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_text(text)
    with caplog.at_level(logging.WARNING):
        merged, groups = merge_synonyms(table(), load_synonyms(tmp_path / name), tmp_path / name)
    assert merged.tags == ["beat", "rock", "female"]
    assert merged.labels.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert groups == [["beat", "beats"], ["female", "women"]]
    assert "passed over: woman" in caplog.text


def test_the_first_name_is_kept_where_the_table_lacks_it(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("lady, women, female")
    merged, groups = merge_synonyms(table(), load_synonyms(tmp_path / "s"), tmp_path / "s")
    assert merged.tags == ["beats", "rock", "lady", "beat"]
    assert merged.labels[:, 2].tolist() == [0, 1, 1, 0]
    assert groups == [["lady", "women", "female"]]


def test_a_merged_tag_is_absent_where_a_member_is_and_unknown_where_all_are(tmp_path: Path) -> None:
    labels = [[1, -1], [0, -1], [-1, -1], [0, 0], [-1, 1]]
    unsure = make_annotations([f"{i}.ogg" for i in range(5)], tags=["voice", "vocals"], labels=labels)
    (tmp_path / "s").write_text("vocals, voice")
    merged, _ = merge_synonyms(unsure, load_synonyms(tmp_path / "s"), tmp_path / "s")
    assert (merged.tags, merged.labels[:, 0].tolist()) == (["vocals"], [1, 0, -1, 0, 1])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.txt", "a, b\n\nc\n", r"s\.txt:3: only 'c'; expected two names"),
        ("s.txt", "a, b\nc, , d\n", r"s\.txt:2: an empty name"),
        ("s.txt", "a, b\nc, a\n", r"s\.txt:2: 'a' is also on line 1"),
        ("s.txt", "a, a\n", r"s\.txt:1: 'a' is also on line 1"),
        ("s.txt", "# nothing\n", r"s\.txt: no groups"),
        ("s.yml", "", r"s\.yml: no groups"),
        ("s.yml", "a: b\n", r"s\.yml:1: expected a list of lists"),
        ("s.yml", "- [a, b]\n- c\n", r"s\.yml:2: expected a list of names"),
        ("s.yml", "- [a, b]\n- - c\n  - [d]\n", r"s\.yml:3: expected a name"),
        ("s.yml", "- [a, b\n", r"s\.yml: not a YAML file"),
        ("s.yml", "[" * 3000, r"s\.yml: not a YAML file"),
    ],
)
def test_a_wrong_file_is_named_by_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load_synonyms(tmp_path / name)


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("horn, horns")
    with pytest.raises(DataError, match="none of its 2 names is a tag of"):
        merge_synonyms(table(), load_synonyms(tmp_path / "s"), tmp_path / "s")
    (tmp_path / "s").write_text("rock\xff", encoding="latin-1")
    with pytest.raises(DataError, match="cannot be read"):
        load_synonyms(tmp_path / "s")
    assert find_synonyms(Path("s"), table(tmp_path)) == tmp_path / "s"
    with pytest.raises(DataError, match=r"data\.synonyms: no such file: none\.txt"):
        find_synonyms(Path("none.txt"), table(tmp_path))


def test_two_tags_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("women, female")
    merged, _ = merge_synonyms(table(), load_synonyms(tmp_path / "s"), tmp_path / "s")
    assert merged.tags.count("women") == 1
