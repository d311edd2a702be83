"""Statistics of a prepared data set, counted again from the table; without MindSpore where the manifest tells all."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from audio_set import AudioSet, make_audio_set
from PIL import Image

from fcn4dist.config import load_config, override_config
from fcn4dist.data.manifest import MANIFEST, load_clip_tables, load_manifest
from fcn4dist.data.prepare import prepare
from fcn4dist.data.stats import collect_stats, find_pairs, format_stats
from fcn4dist.errors import DataError
from fcn4dist.report.data_picture import check_picture_file, save_data_picture

NUM_CLIPS = 48
HOSTILE = ["lo$w$", "<script>\n\x1b[31m", "q" * 10_000]


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> AudioSet:
    audio = make_audio_set(tmp_path_factory.mktemp("audio"), NUM_CLIPS)
    audio.file(7).write_bytes(b"not audio")
    return audio


@pytest.fixture(scope="module")
def data_dir(audio: AudioSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = override_config(load_config(), **audio.sections)
    output = tmp_path_factory.mktemp("prepared") / "data"
    chosen = {"records_dir": output, "num_workers": 1, "max_skipped_fraction": 0.1}
    return prepare(override_config(config, data=chosen)).data.path


def expected_labels() -> dict[int, list[int]]:
    return {1000 - row: [row % 2, 1 - row % 2, int(row % 3 == 0)] for row in range(NUM_CLIPS) if row != 7}


def test_the_manifest_tells_leaks_and_the_list_labels_and_durations(audio: AudioSet, data_dir: Path) -> None:
    tables = load_clip_tables(data_dir, 3).values()
    found = {i: row.tolist() for table in tables for i, row in zip(table.clip_ids.tolist(), table.labels, strict=True)}
    assert found == expected_labels()
    assert {duration for table in tables for duration in table.durations_s.tolist()} == {1.0}
    leaks = load_manifest(data_dir).leaks
    assert leaks is not None
    assert leaks.num_clips == {"train": 39, "val": 4, "test": 4}
    parts_of_artist: dict[int, set[str]] = {}
    for row in range(NUM_CLIPS):
        if row != 7:
            part = "val" if row % 12 == 9 else "test" if row % 12 == 11 else "train"
            parts_of_artist.setdefault(row % 7, set()).add(part)
    shared = sum(len(parts) > 1 for parts in parts_of_artist.values())
    assert shared > 2
    assert (leaks.levels["track"].num_shared, leaks.levels["artist"].num_shared) == (0, shared)
    assert leaks.levels["track"].num_unknown == 0


def test_counts_are_those_of_the_table(data_dir: Path) -> None:
    stats = collect_stats(data_dir)
    labels = np.array(list(expected_labels().values()))
    np.testing.assert_array_equal(stats.cooccurrence, labels.T @ labels)
    document = stats.to_json()
    assert document["num_clips"] == 47
    assert document["split_name"] == "folder-12-1-3"
    val = [labels for clip_id, labels in expected_labels().items() if (1000 - clip_id) % 12 == 9]
    assert [tag["val"] for tag in document["tags"]] == np.sum(val, axis=0).tolist()
    assert document["parts"]["val"]["clip_list_sha256"] == load_manifest(data_dir).splits["val"].clip_list_sha256
    assert document["durations_s"]["num_known"] == 47
    assert [clip["clip_id"] for clip in document["skipped"]] == [993]
    assert json.loads(json.dumps(document)) == document
    text = format_stats(stats)
    assert "47 clips, 3 tags, split folder-12-1-3" in text
    assert "1 clips were skipped" in text
    low_quiet = int((labels[:, 0] & labels[:, 2]).sum())
    either = int((labels[:, 0] | labels[:, 2]).sum())
    assert (low_quiet, pytest.approx(low_quiet / either)) in [pair[2:] for pair in find_pairs(stats)]


def test_a_set_of_an_older_version_is_counted_from_its_shards(data_dir: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for file in data_dir.glob("*.mindrecord*"):
        (old / file.name).write_bytes(file.read_bytes())
    document = json.loads((data_dir / MANIFEST).read_text())
    for key in ("leaks", "synonyms", "noted"):
        del document[key]
    document["format_version"] = 1
    (old / MANIFEST).write_text(json.dumps(document))
    lines = (data_dir / "clips.tsv").read_text().splitlines()
    columns = [lines[0].split("\t").index(name) for name in ("clip_id", "split", "mp3_path")]
    rows = [line.split("\t") for line in lines]
    (old / "clips.tsv").write_text("".join("\t".join(row[i] for i in columns) + "\n" for row in rows))
    new, found = collect_stats(data_dir), collect_stats(old)
    np.testing.assert_array_equal(found.cooccurrence, new.cooccurrence)
    assert found.leaks is None
    assert found.to_json()["durations_s"] is None
    (old / MANIFEST).unlink()  # as ModelZoo's
    bare = collect_stats(old)
    assert (bare.split_name, bare.leaks, bare.num_clips) == ("unknown (shards without a manifest)", None, 47)
    np.testing.assert_array_equal(bare.cooccurrence, new.cooccurrence)


def test_the_command_needs_no_mindspore(data_dir: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['mindspore'] = None; from fcn4dist.cli.main import main; main(sys.argv[1:])"
    root = Path(__file__).resolve().parents[2]
    picture = tmp_path / "data.png"
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "stats", str(data_dir), "--json", "--output", str(picture)],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_clips"] == 47
    with Image.open(picture) as image:
        assert min(image.size) > 400
        assert len(image.convert("L").getcolors() or []) > 20  # not blank


def test_hostile_names_and_files_do_no_harm(data_dir: Path, tmp_path: Path) -> None:
    stats = collect_stats(data_dir)
    stats.tags[:] = HOSTILE
    text = format_stats(stats)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 250
    save_data_picture(stats, tmp_path / "data.svg")
    picture = (tmp_path / "data.svg").read_text()
    assert "<script>" not in picture
    save_data_picture(stats, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "data.svg").read_bytes()
    stats.tags[0] = "民謡"  # letters that Matplotlib's font lacks
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_data_picture(stats, tmp_path / "again.svg")
    for file, message in (("x.jpg", r"ends in \.png, \.svg, \.pdf"), ("none/x.png", "no such folder")):
        with pytest.raises(DataError, match=message):
            check_picture_file(tmp_path / file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.svg", "data.svg"]


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        collect_stats(tmp_path / "none")
    with pytest.raises(DataError, match=r"neither manifest\.json nor train"):
        collect_stats(tmp_path)
