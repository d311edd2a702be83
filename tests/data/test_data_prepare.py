"""prepare as a function: what it writes, what it leaves alone, what it refuses."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import joblib
import librosa
import numpy as np
import pytest
import soundfile
from audio_set import CLIP_S, RATE_HZ, AudioSet, make_audio_set, read_features

from fcn4dist.config import DataConfig, RunConfig, load_config, override_config
from fcn4dist.data.annotations.magnatagatune import KNOWN_BAD
from fcn4dist.data.dataset import open_dataset
from fcn4dist.data.manifest import LedgerClip, load_manifest
from fcn4dist.data.prepare import PrepareReport, SilentProgress, prepare
from fcn4dist.data.set_plan import count_shards, plan_data_set
from fcn4dist.data.shard_job import make_shard
from fcn4dist.data.shards import temporary_of
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
    config = override_config(load_config(), **audio.sections)
    return override_config(config, data={"records_dir": output, "num_workers": 1, **data})


@pytest.fixture(scope="module")
def prepared(audio: AudioSet, tmp_path_factory: pytest.TempPathFactory) -> PrepareReport:
    """The set, prepared in this process."""
    return prepare(make_config(audio, tmp_path_factory.mktemp("prepared") / "data"))


def test_manifest_tells_all(audio: AudioSet, prepared: PrepareReport) -> None:
    manifest = load_manifest(prepared.data.path)
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
    prepared.data.check("digest")
    lines = (prepared.data.path / "clips.tsv").read_text().splitlines()
    assert len(lines) == 49
    row = [
        str(991),
        "991",
        "val",
        audio.path(9),
        "artist_2-album-04-title_9",
        "artist_2-album",
        "artist_2",
        "1.000",
        "0 2",
    ]
    assert "\t".join(row) in lines
    assert not WorkFolder(prepared.data.path).path.exists()
    assert all(file.stat().st_mode & 0o400 for file in prepared.data.path.iterdir())


def test_features_are_librosas_and_labels_the_tables(audio: AudioSet, prepared: PrepareReport) -> None:
    stored = read_features(prepared.data.path)
    assert sorted(stored) == sorted(1000 - row for row in range(48))
    for row in (0, 9, 47):
        wave, _ = soundfile.read(audio.file(row), dtype="float32")
        power = librosa.feature.melspectrogram(y=wave, sr=RATE_HZ, n_fft=512, hop_length=256, n_mels=96)
        _, feature, label = stored[1000 - row]
        np.testing.assert_allclose(
            np.frombuffer(feature, np.float32).reshape(96, -1), librosa.amplitude_to_db(power), atol=0.01
        )
        assert np.frombuffer(label, np.int32).tolist() == [row % 2, 1 - row % 2, int(row % 3 == 0)]


def test_every_clip_is_told_once_as_shards_grow(audio: AudioSet, tmp_path: Path) -> None:
    class Count(SilentProgress):
        told: ClassVar[list[int]] = []

        def advance(self, num_clips: int) -> None:
            self.told.append(num_clips)

    report = prepare(make_config(audio, tmp_path / "data", num_consumer=1), progress=Count())
    assert report.manifest.num_written == sum(Count.told) == 48
    assert min(Count.told) > 0
    (job, *_) = plan_data_set(make_config(audio, tmp_path / "other", num_consumer=1)).jobs
    assert job.count_written() == 0
    in_work = temporary_of(job.file)
    in_work.parent.mkdir(parents=True)
    in_work.write_bytes(bytes(3 * job.row_format.row_bytes + 5))
    assert job.count_written() == 3
    in_work.write_bytes(bytes(1000 * job.row_format.row_bytes))
    assert job.count_written() == len(job.clips) == 40


@pytest.mark.parametrize("num_workers", [2])
def test_any_number_of_processes_gives_the_same_bytes(
    audio: AudioSet, prepared: PrepareReport, tmp_path: Path, num_workers: int
) -> None:
    report = prepare(make_config(audio, tmp_path / "data", num_workers=num_workers))
    assert read_features(report.data.path) == read_features(prepared.data.path)


def test_dask_carries_the_work(audio: AudioSet, prepared: PrepareReport, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")

    def has_worked() -> bool:
        return "fcn4dist.data.shards" in sys.modules

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
    assert read_features(report.data.path) == read_features(prepared.data.path)


def test_float16_halves_the_features(audio: AudioSet, prepared: PrepareReport, tmp_path: Path) -> None:
    half = read_features(prepare(make_config(audio, tmp_path / "data", feature_dtype="float16")).data.path)
    for clip_id, (_, feature, _) in read_features(prepared.data.path).items():
        expected = np.frombuffer(feature, np.float32).astype(np.float16)
        assert half[clip_id][1] == expected.tobytes()


def test_an_up_to_date_set_is_left_alone_and_another_needs_force(own_audio: AudioSet, tmp_path: Path) -> None:
    config = make_config(own_audio, tmp_path / "data")
    first = prepare(config)
    before = {file.name: file.stat().st_mtime_ns for file in first.data.path.iterdir()}
    again = prepare(config)
    assert again.is_up_to_date
    assert again.manifest == first.manifest
    assert before == {file.name: file.stat().st_mtime_ns for file in first.data.path.iterdir()}

    other = override_config(config, data={"tags": 2})
    with pytest.raises(DataError, match=r"made from other inputs.*--force"):
        prepare(other)
    assert load_manifest(first.data.path) == first.manifest
    assert prepare(other, force=True).manifest.tags == ["low", "high"]
    assert load_manifest(first.data.path).tags == ["low", "high"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "data"]

    own_audio.file(3).write_bytes(own_audio.file(5).read_bytes())  # the audio changed
    with pytest.raises(DataError, match="other inputs"):
        prepare(other)


def test_a_damaged_set_is_not_up_to_date(own_audio: AudioSet, tmp_path: Path) -> None:
    config = make_config(own_audio, tmp_path / "data")
    shard = prepare(config).data.path / "val.mindrecord0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert prepare(config).is_up_to_date  # only the size is looked at
    config = override_config(config, data={"verify": "digest"})
    with pytest.raises(DataError, match="or a damaged one; --force"):
        prepare(config)
    prepare(config, force=True).data.check("digest")


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
    assert not {991, 1000} & read_features(report.data.path).keys()
    assert "\n991\t" not in (report.data.path / "clips.tsv").read_text()


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
    assert (report.manifest.num_written, report.num_reused) == (48, 28)  # all but the shard of 20 that they are in


def test_a_clip_that_was_mended_is_tried_again(own_audio: AudioSet, tmp_path: Path) -> None:
    config = make_config(own_audio, tmp_path / "data", max_skipped_fraction=0.0)
    whole = own_audio.file(5).read_bytes()
    own_audio.file(5).write_bytes(whole[::-1])
    with pytest.raises(DataError, match="1 of 48 clips cannot be used"):
        prepare(config)
    own_audio.file(5).write_bytes(whole)
    report = prepare(config)
    assert (report.manifest.num_written, report.num_reused) == (48, 28)  # all but the shard that it is in


def test_an_empty_part_has_no_shards(audio: AudioSet, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("clip_id,split\n" + "".join(f"{1000 - i},train\n" for i in range(3)))
    report = prepare(make_config(audio, tmp_path / "data", split=f"file:{tmp_path}/s.csv", num_consumer=8))
    assert [(shard.file, shard.num_rows) for shard in report.manifest.shards] == [
        (f"train.mindrecord{i}", 1) for i in range(3)
    ]
    assert report.manifest.splits["val"].num_clips == 0
    assert report.manifest.num_listed == 3


def test_missing_keys_and_folders_are_named(audio: AudioSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no audio named"):
        prepare(load_config())
    with pytest.raises(DataError, match="no such audio folder"):
        prepare(make_config(audio, tmp_path / "data", audio_dir=tmp_path / "none"))
    with pytest.raises(DataError, match=r"none\.csv: no such file or folder"):
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
    assert clip_id not in read_features(report.data.path)
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


def test_a_file_that_could_not_be_read_is_tried_again_as_it_is(own_audio: AudioSet, tmp_path: Path) -> None:
    config = make_config(own_audio, tmp_path / "data", max_skipped_fraction=0.0)
    plan = plan_data_set(config)
    plan.work.shards.mkdir(parents=True)
    plan.work.notes.mkdir()
    for job in plan.jobs[:2]:
        make_shard(job, None)
    notes = json.loads(plan.jobs[0].notes.read_text())  # as after a share that was away for a moment
    notes["skipped"] = {str(notes["clip_ids"].pop()): "cannot be read: Input/output error"}
    plan.jobs[0].notes.write_text(json.dumps(notes))
    report = prepare(config)
    assert (report.manifest.num_written, report.num_reused) == (48, len(plan.jobs[1].clips))


def test_a_shard_without_a_usable_clip_leaves_no_gap(own_audio: AudioSet, tmp_path: Path) -> None:
    config = make_config(own_audio, tmp_path / "data", max_skipped_fraction=0.5, num_consumer=4)
    val = [row for row in range(48) if row % 12 == 9]
    own_audio.file(val[1]).write_bytes(b"not audio")  # the only clip of its shard
    manifest = prepare(config).manifest
    assert [shard.file for shard in manifest.shards if shard.split == "val"] == [f"val.mindrecord{i}" for i in range(3)]
    assert [clip.clip_id for clip in manifest.skipped] == [1000 - val[1]]
    data = open_dataset(tmp_path / "data")
    data.check("digest")
    assert sorted(data.split("val").clip_ids.tolist()) == sorted(1000 - row for row in val if row != val[1])


def test_a_clip_of_another_length_than_listed_is_used_and_noted(own_audio: AudioSet, tmp_path: Path) -> None:
    t = np.arange(4 * RATE_HZ) / RATE_HZ  # its path says 0 to 1 s
    soundfile.write(own_audio.file(4), 0.3 * np.sin(2 * np.pi * 440 * t), RATE_HZ)
    report = prepare(make_config(own_audio, tmp_path / "data"))
    assert report.summary == "48 listed, 48 written, 0 skipped, 1 noted"
    noted = LedgerClip(clip_id=996, mp3_path=own_audio.path(4), reason="long: 4.0 s decoded, 1.0 s listed")
    assert report.manifest.noted == [noted]


def test_missing_files_are_an_error_before_any_work(own_audio: AudioSet, tmp_path: Path) -> None:
    for row in range(5):
        own_audio.file(row).unlink()
    with pytest.raises(DataError) as error:
        prepare(make_config(own_audio, tmp_path / "data"))
    message = str(error.value)
    assert "5 of 48 clips have no file here" in message
    assert message.count(str(own_audio.folder / "0")) == 3
    assert "and 2 more" in message
    assert "Tried paths as the annotations say:" in message
    with pytest.raises(
        DataError, match=r"48 of 48 clips have no file here.*Tried data\.path_template 'wav/\{id\}\.wav'"
    ):
        prepare(make_config(own_audio, tmp_path / "data", path_template="wav/{id}.wav", split="random"))
    assert not list(tmp_path.glob("data*"))


def test_longer_pieces_are_stored_longer(own_audio: AudioSet, tmp_path: Path) -> None:
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    wave = (0.3 * np.sin(2 * np.pi * (300 + 200 * t) * t)).astype(np.float32)
    soundfile.write(own_audio.file(9), wave, RATE_HZ, subtype="FLOAT")
    config = override_config(make_config(own_audio, tmp_path / "data"), mel={"stored_s": 2.0})
    split = prepare(config).data.split("val")
    assert split.feature_shape == (1, 96, 94)
    assert split.num_frames == 47
    at = split.clip_ids.tolist().index(991)
    assert split.sound_frames.tolist() == [94 if place == at else 47 for place in range(4)]
    middle = wave[RATE_HZ // 2 : RATE_HZ // 2 + 2 * RATE_HZ]
    power = librosa.feature.melspectrogram(y=middle, sr=RATE_HZ, n_fft=512, hop_length=256, n_mels=96)
    np.testing.assert_allclose(split.read([at])[0, 0], librosa.amplitude_to_db(power), atol=0.01)


@pytest.mark.parametrize(
    ("num_clips", "wanted", "expected"),
    [(18_706, None, 37), (18_706, 4, 4), (100, None, 4), (3, None, 3), (3, 8, 3), (0, None, 0), (250_000, None, 489)],
)
def test_shards_follow_from_the_size_unless_the_user_says(num_clips: int, wanted: int | None, expected: int) -> None:
    assert count_shards(num_clips, 96 * 1366 * 4 + 50 * 4 + 128, wanted) == expected


def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(audio: AudioSet, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {mounted.stderr.strip()}")

    try:
        plan = plan_data_set(make_config(audio, disk / "data"))
        plan.work.shards.mkdir(parents=True)
        plan.work.notes.mkdir()
        make_shard(plan.jobs[0], None)  # the first of train's two shards is finished, then others fill the disk up
        with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        with pytest.raises(DataError, match=r"disk/data.*(No space left on device|MindRecord: .*make room)"):
            prepare(make_config(audio, disk / "data"))
        assert not (disk / "data").exists()
        (disk / "other").unlink()
        report = prepare(make_config(audio, disk / "data"))
        assert report.num_reused == 20  # the first shard
        assert len(read_features(report.data.path)) == 48
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_clips_shorter_than_asked_are_padded(audio: AudioSet, tmp_path: Path) -> None:
    config = override_config(make_config(audio, tmp_path / "data"), mel={"clip_s": 2 * CLIP_S})
    feature = np.frombuffer(read_features(prepare(config).data.path)[1000][1], np.float32).reshape(96, -1)
    assert feature.shape == (96, 94)
    assert (feature[:, 49:] == feature.min()).all()


def test_inputs_are_named_by_a_digest_only(prepared: PrepareReport) -> None:
    assert json.loads((prepared.data.path / "inputs.json").read_text()).keys() == {"inputs_sha256"}
