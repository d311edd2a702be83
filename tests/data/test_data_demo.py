"""The embedded demo set: tags in every fold, audio that bears them, one folder that appears whole."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from pathlib import Path

import librosa.onset
import numpy as np
import pytest
import soundfile

from fcn4dist.config import DataConfig, load_config, override_config
from fcn4dist.data import demo
from fcn4dist.data.annotations import Annotations, load_annotations
from fcn4dist.data.leaks import find_leaks
from fcn4dist.data.splits import split_clips
from fcn4dist.data.synth import MELODIC, RATE_HZ


@pytest.fixture(scope="module")
def demo_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.ensure_demo_set(tmp_path_factory.mktemp("cache"))


def read_table(demo_set: Path) -> Annotations:
    return load_annotations(DataConfig(annotations=demo_set / "annotations_final.csv"))


def test_every_tag_has_positives_and_negatives_in_every_fold() -> None:
    pieces = demo.plan_pieces()
    assert Counter(piece.fold for piece in pieces) == dict.fromkeys(range(1, 6), 20)
    for fold in range(1, 6):
        here = [piece for piece in pieces if piece.fold == fold]
        for tag in demo.TAGS:
            assert 6 <= sum(tag in piece.tags for piece in here) <= 12, (fold, tag)
    assert pieces == demo.plan_pieces()


def test_the_set_is_laid_out_like_magnatagatune(demo_set: Path) -> None:
    lines = (demo_set / "annotations_final.csv").read_text().splitlines()
    assert lines[0].split("\t") == [f'"{name}"' for name in ("clip_id", *demo.TAGS, "mp3_path")]
    assert all(re.fullmatch(r'"\d+"(\t"[01]"){10}\t"[^"]+"', line) for line in lines[1:])
    table = read_table(demo_set)
    assert table.num_clips == 300
    files = [demo_set / path for path in table.paths]
    assert sum(file.stat().st_size for file in files) < 8e6
    info = soundfile.info(files[0])
    assert (info.samplerate, info.channels, info.frames) == (12_000, 1, 48_000)
    with (demo_set / "folds.csv").open() as text:
        fold_of = {row["path"]: row["fold"] for row in csv.DictReader(text)}
    assert set(fold_of) == set(table.paths)
    for level in ("track", "artist"):  # a piece, and even an ensemble, is in one fold
        pairs = set(zip(table.groups[level], (fold_of[path] for path in table.paths), strict=True))
        assert len(pairs) == len({name for name, _ in pairs}) == {"track": 100, "artist": 25}[level]


def test_the_config_of_the_demo_fits_it(demo_set: Path) -> None:
    config = override_config(load_config(), **demo.demo_config(demo_set))
    assert config.data.audio_dir == demo_set
    assert config.mel.num_frames == 188
    table = read_table(demo_set)
    split = split_clips(table, config.data.split)
    assert {part: len(rows) for part, rows in split.parts.items()} == {"train": 240, "val": 60, "test": 0}
    assert [found.num_shared for found in find_leaks(split.parts, table.groups).levels.values()] == [0, 0, 0]


def test_other_versions_of_the_features_have_a_folder_of_their_own(
    demo_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an older fcn4dist left in the cache must not be in the way of a newer one."""
    before = demo.demo_config(demo_set)["data"]["records_dir"]
    monkeypatch.setattr("fcn4dist.data.shard_job.FEATURE_VERSION", 99)
    assert demo.demo_config(demo_set)["data"]["records_dir"] != before


def test_loudness_and_tempo_can_be_heard(demo_set: Path) -> None:
    table = read_table(demo_set)
    waves = [soundfile.read(demo_set / path, dtype="float32")[0] for path in table.paths]
    rms_db = np.array([20 * np.log10(np.sqrt(np.mean(np.square(wave)))) for wave in waves])
    quiet, loud = (table.labels[:, table.tags.index(tag)] == 1 for tag in ("quiet", "loud"))
    assert np.median(rms_db[quiet]) < -32 < np.median(rms_db[~quiet & ~loud]) < -19 < np.median(rms_db[loud])
    # Vorbis overshoots a little
    assert all(np.abs(wave).max() < 1.2 for wave in waves)
    drums, fast, slow = (table.labels[:, table.tags.index(tag)] == 1 for tag in ("drums", "fast", "slow"))
    onsets = [
        [len(librosa.onset.onset_detect(y=waves[i], sr=RATE_HZ)) for i in np.flatnonzero(drums & tempo)[:9]]  # type: ignore[attr-defined]
        for tempo in (slow, fast)
    ]
    assert np.mean(onsets[1]) > 1.3 * np.mean(onsets[0])


@pytest.mark.parametrize("name", sorted(MELODIC))
def test_instruments_play_the_note_asked(name: str) -> None:
    shift = {"bass": -24, "guitar": -7, "strings": 0, "flute": 12, "bells": 12}[name]
    sound = MELODIC[name](60, 2.0, np.random.default_rng(0))
    assert sound.dtype == np.float32
    assert len(sound) == 2 * RATE_HZ
    assert (sound[0], sound[-1]) == (0, 0)
    expected_hz = 261.626 * 2 ** (shift / 12)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    near = (hz > 0.7 * expected_hz) & (hz < 1.4 * expected_hz)
    assert hz[near][spectrum[near].argmax()] == pytest.approx(expected_hz, rel=0.02)


def test_a_piece_is_the_same_each_time_and_differs_from_others() -> None:
    first, second = demo.plan_pieces()[:2]
    np.testing.assert_array_equal(demo.render_piece(first), demo.render_piece(first))
    assert not np.array_equal(demo.render_piece(first), demo.render_piece(second))


def test_the_set_is_made_once_and_again_where_files_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = demo.plan_pieces()[:3]
    monkeypatch.setattr(demo, "plan_pieces", lambda: pieces)
    folder = demo.ensure_demo_set(tmp_path)
    audio = folder / pieces[2].mp3_path(1)
    before = audio.stat().st_mtime_ns
    assert demo.ensure_demo_set(tmp_path) == folder
    assert audio.stat().st_mtime_ns == before
    wave, _ = soundfile.read(audio)
    audio.unlink()
    assert demo.ensure_demo_set(tmp_path) == folder
    np.testing.assert_array_equal(soundfile.read(audio)[0], wave)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_the_cache_is_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert demo.default_cache_dir() == tmp_path / "xdg" / "fcn4dist"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert demo.default_cache_dir() == tmp_path / "home" / ".cache" / "fcn4dist"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert demo.default_cache_dir() == tmp_path / f"fcn4dist-{os.getuid()}"
