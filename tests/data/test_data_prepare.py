"""prepare as a function: what it writes, what it leaves alone, what it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import librosa
import numpy as np
import pytest
import soundfile
from audio_set import CLIP_S, RATE_HZ, AudioSet, make_audio_set, read_features

from fcn4dist.config import DataConfig, RunConfig, load_config, override_config
from fcn4dist.data.annotations.magnatagatune import KNOWN_BAD
from fcn4dist.data.manifest import check_shards, load_manifest
from fcn4dist.data.prepare import PrepareReport, prepare
from fcn4dist.data.split_report import report_split
from fcn4dist.data.work_folder import WorkFolder
from fcn4dist.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> AudioSet:
    """A set that no test changes."""
    return make_audio_set(tmp_path_factory.mktemp("audio"))


@pytest.fixture
def own_audio(tmp_path: Path) -> AudioSet:
    """A set that the test may damage."""
    return make_audio_set(tmp_path / "audio")


def make_config(audio: AudioSet, output: Path, **data: object) -> RunConfig:
    config = override_config(load_config(), **audio.sections)  # type: ignore[arg-type]
    return override_config(config, data={"records_dir": output, "num_workers": 1, **data})


@pytest.fixture(scope="module")
def prepared(audio: AudioSet, tmp_path_factory: pytest.TempPathFactory) -> PrepareReport:
    """The set, prepared in this process."""
    return prepare(make_config(audio, tmp_path_factory.mktemp("prepared") / "data"))


def test_manifest_tells_all(audio: AudioSet, prepared: PrepareReport) -> None:
    manifest = load_manifest(prepared.records_dir)
    assert manifest == prepared.manifest
    assert prepared.summary == "48 listed, 48 written, 0 skipped"
    assert {part: counts.num_clips for part, counts in manifest.splits.items()} == {"train": 40, "val": 4, "test": 4}
    assert manifest.tags == ["low", "high", "quiet"]
    assert (manifest.feature_shape, manifest.feature_dtype) == ((1, 96, 47), "float32")
    val_ids = sorted(1000 - row for row in range(48) if row % 12 == 9)
    assert (
        manifest.splits["val"].clip_list_sha256
        == hashlib.sha256("".join(f"{clip_id}\n" for clip_id in val_ids).encode()).hexdigest()
    )
    assert manifest.splits["train"].positives == [
        sum(row % 2 for row in range(48) if row % 12 not in (9, 11)),
        sum(1 - row % 2 for row in range(48) if row % 12 not in (9, 11)),
        sum(row % 3 == 0 for row in range(48) if row % 12 not in (9, 11)),
    ]
    assert [(shard.file, shard.num_rows) for shard in manifest.shards] == [
        (f"{part}.mindrecord{i}", rows) for part, rows in (("train", 20), ("val", 2), ("test", 2)) for i in (0, 1)
    ]
    check_shards(prepared.records_dir, manifest)
    lines = (prepared.records_dir / "clips.tsv").read_text().splitlines()
    assert len(lines) == 49
    assert f"{1000 - 9}\tval\t{audio.path(9)}\t1.000\t0 2" in lines
    assert not WorkFolder(prepared.records_dir).path.exists()
    assert all(file.stat().st_mode & 0o400 for file in prepared.records_dir.iterdir())


def test_features_are_librosas_and_labels_the_tables(audio: AudioSet, prepared: PrepareReport) -> None:
    stored = read_features(prepared.records_dir)
    assert sorted(stored) == sorted(1000 - row for row in range(48))
    for row in (0, 9, 47):
        wave, _ = soundfile.read(audio.file(row), dtype="float32")
        power = librosa.feature.melspectrogram(y=wave, sr=RATE_HZ, n_fft=512, hop_length=256, n_mels=96)
        _, feature, label = stored[1000 - row]
        np.testing.assert_allclose(
            np.frombuffer(feature, np.float32).reshape(96, -1), librosa.amplitude_to_db(power), atol=0.01
        )
        assert np.frombuffer(label, np.int32).tolist() == [row % 2, 1 - row % 2, int(row % 3 == 0)]


@pytest.mark.parametrize("num_workers", [2])
def test_any_number_of_processes_gives_the_same_bytes(
    audio: AudioSet, prepared: PrepareReport, tmp_path: Path, num_workers: int
) -> None:
    report = prepare(make_config(audio, tmp_path / "data", num_workers=num_workers))
    assert read_features(report.records_dir) == read_features(prepared.records_dir)


def test_dask_carries_the_work(audio: AudioSet, prepared: PrepareReport, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")

    def has_worked() -> bool:
        return "fcn4dist.data.chunks" in sys.modules

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        before = client.run(has_worked)
        with joblib.parallel_config(backend="dask"):
            report = prepare(make_config(audio, tmp_path / "data", num_workers=0))
        after = client.run(has_worked)
    assert len(before) == 2
    assert not any(before.values())
    assert any(after.values())
    assert read_features(report.records_dir) == read_features(prepared.records_dir)


def test_float16_halves_the_features(audio: AudioSet, prepared: PrepareReport, tmp_path: Path) -> None:
    half = read_features(prepare(make_config(audio, tmp_path / "data", feature_dtype="float16")).records_dir)
    for clip_id, (_, feature, _) in read_features(prepared.records_dir).items():
        expected = np.frombuffer(feature, np.float32).astype(np.float16)
        assert half[clip_id][1] == expected.tobytes()


def test_an_up_to_date_set_is_left_alone_and_another_needs_force(own_audio: AudioSet, tmp_path: Path) -> None:
    config = make_config(own_audio, tmp_path / "data")
    first = prepare(config)
    before = {file.name: file.stat().st_mtime_ns for file in first.records_dir.iterdir()}
    again = prepare(config)
    assert again.is_up_to_date
    assert again.manifest == first.manifest
    assert before == {file.name: file.stat().st_mtime_ns for file in first.records_dir.iterdir()}

    other = override_config(config, data={"tags": 2})
    with pytest.raises(DataError, match=r"made from other inputs.*--force"):
        prepare(other)
    assert load_manifest(first.records_dir) == first.manifest
    assert prepare(other, force=True).manifest.tags == ["low", "high"]
    assert load_manifest(first.records_dir).tags == ["low", "high"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "data"]

    own_audio.file(3).write_bytes(own_audio.file(5).read_bytes())  # the audio changed
    with pytest.raises(DataError, match="other inputs"):
        prepare(other)


def test_a_damaged_set_is_not_up_to_date(own_audio: AudioSet, tmp_path: Path) -> None:
    config = make_config(own_audio, tmp_path / "data")
    shard = prepare(config).records_dir / "val.mindrecord0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match="or a damaged one; --force"):
        prepare(config)
    check_shards(tmp_path / "data", prepare(config, force=True).manifest)


def test_a_foreign_folder_or_file_is_never_replaced(audio: AudioSet, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(DataError, match="holds files that prepare did not write"):
            prepare(make_config(audio, tmp_path / "mine"), force=force)
        with pytest.raises(DataError, match="is a file; expected a folder"):
            prepare(make_config(audio, tmp_path / "mine" / "thesis.txt"), force=force)
    assert [file.name for file in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert prepare(make_config(audio, tmp_path / "empty")).manifest.num_written == 48


def test_an_output_behind_a_link_stays_behind_it(audio: AudioSet, tmp_path: Path) -> None:
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "data")
    for tags in (3, 2):
        prepare(make_config(audio, tmp_path / "link", tags=tags), force=True)
        assert len(load_manifest(tmp_path / "disk" / "data").tags) == tags
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["data"]


def test_unusable_clips_go_to_the_ledger(own_audio: AudioSet, tmp_path: Path) -> None:
    own_audio.file(0).unlink()
    own_audio.file(9).write_bytes(b"")
    report = prepare(make_config(own_audio, tmp_path / "data", max_skipped_fraction=0.05))
    assert report.summary == "48 listed, 46 written, 2 skipped"
    assert [(clip.clip_id, clip.mp3_path, clip.reason) for clip in report.manifest.skipped] == [
        (991, own_audio.path(9), "empty file"),
        (1000, own_audio.path(0), "no such file"),
    ]
    assert not {991, 1000} & read_features(report.records_dir).keys()
    assert "\n991\t" not in (report.records_dir / "clips.tsv").read_text()


def test_too_many_unusable_clips_are_an_error_that_names_them(own_audio: AudioSet, tmp_path: Path) -> None:
    for row in range(7):
        own_audio.file(row).write_bytes(b"")
    config = make_config(own_audio, tmp_path / "data")
    with pytest.raises(
        DataError, match=r"7 of 48 clips cannot be used, more than data\.max_skipped_fraction 0\.01"
    ) as e:
        prepare(config)
    assert str(e.value).count("empty file") == 5
    assert "and 2 more" in str(e.value)
    assert not (tmp_path / "data").exists()
    for row in range(7):  # repaired: the next run computes those anew
        shutil.copy(own_audio.file(row + 12), own_audio.file(row))
    report = prepare(config)
    assert (report.manifest.num_written, report.num_reused) == (48, 40)  # all but the chunk of 8 clips that they are in


def test_a_clip_that_was_mended_is_tried_again(own_audio: AudioSet, tmp_path: Path) -> None:
    config = make_config(own_audio, tmp_path / "data", max_skipped_fraction=0.0)
    whole, status = own_audio.file(5).read_bytes(), own_audio.file(5).stat()
    own_audio.file(5).write_bytes(whole[::-1])
    os.utime(own_audio.file(5), ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match="1 of 48 clips cannot be used"):
        prepare(config)
    own_audio.file(5).write_bytes(whole)  # same size and, as after a chmod, the same time of change
    os.utime(own_audio.file(5), ns=(status.st_atime_ns, status.st_mtime_ns))
    report = prepare(config)
    assert (report.manifest.num_written, report.num_reused) == (48, 40)


def test_an_empty_part_has_no_shards(audio: AudioSet, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("clip_id,split\n" + "".join(f"{1000 - i},train\n" for i in range(3)))
    report = prepare(make_config(audio, tmp_path / "data", split=f"file:{tmp_path}/s.csv", num_consumer=8))
    assert [(shard.file, shard.num_rows) for shard in report.manifest.shards] == [
        (f"train.mindrecord{i}", 1) for i in range(3)
    ]
    assert report.manifest.splits["val"].num_clips == 0
    assert report.manifest.num_listed == 3


def test_missing_keys_and_folders_are_named(audio: AudioSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.audio_dir: not given; set it in the config or with --audio-dir"):
        prepare(load_config())
    with pytest.raises(DataError, match="no such audio folder"):
        prepare(make_config(audio, tmp_path / "data", audio_dir=tmp_path / "none"))
    with pytest.raises(DataError, match=r"none\.csv: cannot read this table"):
        prepare(make_config(audio, tmp_path / "data", annotations=tmp_path / "none.csv"))
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_is_known_to_be_bad_is_left_out_unseen(own_audio: AudioSet, tmp_path: Path) -> None:
    clip_id, path = next(iter(KNOWN_BAD))
    good = own_audio.file(0)
    (own_audio.folder / path).parent.mkdir()
    shutil.copyfile(good, own_audio.folder / path)  # even a file that can be decoded: the published sets lack it
    with own_audio.annotations.open("a") as table:
        table.write(f'"{clip_id}"\t"1"\t"0"\t"0"\t"{path}"\n')
    report = prepare(make_config(own_audio, tmp_path / "data", max_skipped_fraction=0.0))
    assert report.summary == "49 listed, 48 written, 1 skipped"
    assert report.manifest.skipped[0].reason == "known bad clip of MagnaTagATune: no file"
    assert clip_id not in read_features(report.records_dir)
    split = report_split(DataConfig(annotations=own_audio.annotations))
    assert {part: found.clip_list_sha256 for part, found in split.parts.items()} == {
        part: counts.clip_list_sha256 for part, counts in report.manifest.splits.items()
    }


def test_clean_clips_and_merged_tags_are_named_in_the_manifest(audio: AudioSet, tmp_path: Path) -> None:
    (tmp_path / "synonyms.txt").write_text("soft, quiet, silent\n")
    chosen = {"clean": True, "synonyms": tmp_path / "synonyms.txt", "tags": ["soft", "low"]}
    manifest = prepare(make_config(audio, tmp_path / "data", **chosen)).manifest
    assert manifest.split.name == "folder-12-1-3-clean"
    assert manifest.synonyms == [["soft", "quiet"]]
    assert manifest.tags == ["soft", "low"]
    tagged = [row for row in range(48) if row % 3 == 0 or row % 2]  # quiet or low
    assert manifest.num_listed == manifest.num_written == len(tagged)
    assert manifest.splits["val"].positives == [4, 4]  # rows 9, 21, 33, 45
    assert f"clean: {48 - len(tagged)} clips with none of the 2 tags left out" in manifest.split.rule


def test_two_at_once_do_not_mix(audio: AudioSet, tmp_path: Path) -> None:
    config = make_config(audio, tmp_path / "data")
    with WorkFolder(tmp_path / "data").lock(), pytest.raises(DataError, match="another prepare is at work"):
        prepare(config)
    assert prepare(config).manifest.num_written == 48


def test_a_replacement_that_was_cut_short_is_undone(own_audio: AudioSet, tmp_path: Path) -> None:
    config = make_config(own_audio, tmp_path / "data")
    first = prepare(config)
    work = WorkFolder(tmp_path / "data")
    work.path.mkdir()
    (tmp_path / "data").rename(work.replaced)  # kill -9 between the two renames of publish
    with pytest.raises(DataError, match="--force"):
        prepare(override_config(config, data={"tags": 2}))
    assert load_manifest(tmp_path / "data") == first.manifest


def test_a_damaged_chunk_is_removed_and_computed_anew(audio: AudioSet, prepared: PrepareReport, tmp_path: Path) -> None:
    config = make_config(audio, tmp_path / "data", max_skipped_fraction=0.0)
    work = WorkFolder(tmp_path / "data")
    seen: list[Path] = []

    class Damage:
        """Cuts a chunk off after the features are done."""

        def start(self, what: str, total: int, done: int) -> None:
            if what == "shards":
                seen.extend(sorted(work.chunks.iterdir()))
                seen[0].write_bytes(seen[0].read_bytes()[:-100_000])

        def advance(self, num_clips: int) -> None:
            pass

    with pytest.raises(DataError, match="It was removed: run prepare again"):
        prepare(config, progress=Damage())
    assert not seen[0].exists()
    assert not (tmp_path / "data").exists()
    report = prepare(config)
    assert 0 < report.num_reused < 48
    assert read_features(report.records_dir) == read_features(prepared.records_dir)


def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(audio: AudioSet, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {mounted.stderr.strip()}")
    try:
        for size in ("400k", "1100k", "1500k"):  # too small for the features; for the shards beside them
            subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            with pytest.raises(DataError, match=r"disk/data.*(No space left on device|MindRecord cannot write)"):
                prepare(make_config(audio, disk / "data"))
            assert not (disk / "data").exists()
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        report = prepare(make_config(audio, disk / "data"))
        assert report.num_reused == 48
        assert len(read_features(report.records_dir)) == 48
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_clips_shorter_than_asked_are_padded(audio: AudioSet, tmp_path: Path) -> None:
    config = override_config(make_config(audio, tmp_path / "data"), mel={"clip_s": 2 * CLIP_S})
    feature = np.frombuffer(read_features(prepare(config).records_dir)[1000][1], np.float32).reshape(96, -1)
    assert feature.shape == (96, 94)
    assert (feature[:, 49:] == feature.min()).all()


def test_inputs_are_named_by_a_digest_only(prepared: PrepareReport) -> None:
    assert json.loads((prepared.records_dir / "inputs.json").read_text()).keys() == {"inputs_sha256"}
