"""MagnaTagATune's real index and labels: the counts that others published (Won et al., 2020; Lee et al., 2017)."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from made_annotations import make_annotations

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations import load_annotations, load_chosen_annotations
from fcn4dist.data.parts import Level
from fcn4dist.data.split_report import SplitReport, format_split_report, report_split
from fcn4dist.data.splits import split_clips
from fcn4dist.data.stats import PartStats
from fcn4dist.data.tags import select_tags

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT.parent / "shared/data/magnatagatune"
INDEX, LABELS = FOLDER / "clips.tsv", FOLDER / "annotations_val_test.csv"

if not INDEX.is_file():
    pytest.skip("MagnaTagATune's index (../shared/data) is not on this machine", allow_module_level=True)


def report_of(name: str, seed: int = 1) -> SplitReport:
    return report_split(DataConfig(annotations=INDEX, split=name, seed=seed))


def test_the_folder_split_of_magnatagatune_shares_artists_only() -> None:
    """Counts of the index itself."""
    report = report_of("folder-12-1-3")
    assert [(part.num_clips, part.num_known_bad) for part in report.parts.values()] == [
        (18_709, 3),
        (1_825, 0),
        (5_329, 0),
    ]
    levels = report.leaks.levels
    assert {level: (leak.num_shared, leak.num_groups) for level, leak in levels.items()} == {
        "track": (0, 5_405),
        "album": (0, 446),
        "artist": (56, 230),
    }
    assert levels["artist"].clips_shared_with_train["test"] == 3_284
    assert report.warnings == []
    assert "56 of 230 in more than one part" in format_split_report(report)


def test_a_random_split_of_magnatagatune_leaks_as_much_as_modelzoos() -> None:
    """95.6 to 96.7 % of the validation clips with 20 % held out there; here 10 % are, so that train has more siblings."""
    report = report_of("random")
    shared = report.leaks.levels["track"].clips_shared_with_train
    for part in ("val", "test"):
        assert 0.95 < shared[part] / report.parts[part].num_clips < 0.975
    assert "tracks have clips in more than one part" in report.warnings[0]


@pytest.mark.parametrize("level", ["track", "album", "artist"])
def test_a_split_by_groups_shares_none_of_them(level: Level) -> None:
    report = report_of(f"random-by-{level}", seed=2)
    assert report.leaks.levels[level].num_shared == 0
    assert report.warnings == []


def test_the_clean_split_has_the_published_counts() -> None:
    for name, clean in (("folder-12-1-3-clean", False), ("folder-12-1-3", True)):
        report = report_split(DataConfig(annotations=LABELS, split=name, clean=clean))
        assert report.rule.name == "folder-12-1-3-clean"
        assert (report.parts["val"].num_clips, report.parts["test"].num_clips) == (1_529, 4_332)
        assert report.num_left_out == 1_825 + 5_329 - 1_529 - 4_332
        assert report.num_tags == 50
        assert report.warnings == ["no clips for train"]


def test_the_real_labels_of_magnatagatune_load() -> None:
    table = load_annotations(DataConfig(annotations=LABELS))
    assert table.labels.shape == (7154, 50)
    assert int((table.labels.sum(axis=1) > 0).sum()) == 1529 + 4332  # clips with a top-50 tag
    assert os.path.dirname(table.paths[0]) in "cdef"
    assert table.durations_s is not None
    assert set(table.durations_s.tolist()) == {29.0}
    assert select_tags(table, "all").tags == select_tags(table, 50).tags


def test_magnatagatune_has_the_published_counts() -> None:
    with INDEX.open() as text:
        rows = list(csv.DictReader(text, delimiter="\t"))
    table = make_annotations([row["mp3_path"] for row in rows], ids=[int(row["clip_id"]) for row in rows])
    split = split_clips(table, "folder-12-1-3")
    assert {part: len(rows) for part, rows in split.parts.items()} == {"train": 18_709, "val": 1_825, "test": 5_329}
    assert all(table.groups["track"])
    assert [len(set(names)) for names in table.groups.values()] == [5_405, 446, 230]
    artists = split_clips(table, "random-by-artist", seed=3)
    in_part = [{table.groups["artist"][row] for row in rows} for rows in artists.parts.values()]
    assert [len(part) for part in in_part] == [184, 23, 23]
    assert len(set.union(*in_part)) == 230


def test_rare_tags_of_magnatagatune_are_counted_as_published() -> None:
    """What makes a tag's validation AUC noisy."""
    table = load_annotations(DataConfig(annotations=LABELS))
    rows = split_clips(table, "folder-12-1-3", needs_train=False).parts
    count = {
        part: dict(
            zip(table.tags, PartStats(table.clip_ids[rows[part]], table.labels[rows[part]]).positives, strict=True)
        )
        for part in ("val", "test")
    }
    published = {"choral": 3, "choir": 10, "female vocal": 14, "female voice": 16, "new age": 32, "woman": 32}
    assert {tag: count["val"][tag] for tag in published} == published
    assert (count["test"]["cello"], count["test"]["country"]) == (20, 67)


def test_the_shipped_list_merges_magnatagatunes_tags(caplog: pytest.LogCaptureFixture) -> None:
    file = ROOT / "configs" / "mtt_synonyms.txt"
    data = DataConfig(annotations=LABELS, synonyms=file, tags=20)
    merged, groups = load_chosen_annotations(data)
    plain, none = load_chosen_annotations(DataConfig(annotations=LABELS))
    assert none is None
    assert groups is not None
    assert sorted(next(names for names in groups if names[0] == "female")) == ["female", "female voice", "woman"]
    column = {tag: i for i, tag in enumerate(plain.tags)}
    members = [column[name] for name in ("vocals", "vocal", "voice")]
    vocals = merged.labels[:, merged.tags.index("vocals")]
    np.testing.assert_array_equal(vocals, plain.labels[:, members].any(axis=1))
    assert "passed over" in caplog.text


def test_a_list_in_reversed_order_reverses_the_columns_of_magnatagatune(tmp_path: Path) -> None:
    table = load_annotations(DataConfig(annotations=LABELS))
    frequent = select_tags(table, 50)
    tag_file = tmp_path / "tag.txt"
    tag_file.write_text("".join(f"{tag}\n" for tag in reversed(frequent.tags)))
    as_modelzoo = select_tags(table, tag_file)
    assert as_modelzoo.tags == frequent.tags[::-1]
    assert (as_modelzoo.labels == frequent.labels[:, ::-1]).all()
