"""prepare from ModelZoo's folder of .npy mels: the same shards as from the audio, and a ledger of what is not usable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_set import AudioSet, make_audio_set, read_features

from fcn4dist.config import RunConfig, load_config, override_config
from fcn4dist.data.prepare import PrepareReport, prepare
from fcn4dist.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> AudioSet:
    return make_audio_set(tmp_path_factory.mktemp("audio"))


def make_config(audio: AudioSet, output: Path, **data: object) -> RunConfig:
    config = override_config(load_config(), **audio.sections)
    return override_config(config, data={"records_dir": output, "num_workers": 1, **data})


@pytest.fixture(scope="module")
def from_audio(audio: AudioSet, tmp_path_factory: pytest.TempPathFactory) -> PrepareReport:
    return prepare(make_config(audio, tmp_path_factory.mktemp("a") / "data"))


@pytest.fixture
def npy_dir(audio: AudioSet, from_audio: PrepareReport, tmp_path: Path) -> Path:
    """The features as ModelZoo names and shapes them: 0/clip.npy for 0/clip.mp3, (1, 1, bands, frames)."""
    features = read_features(from_audio.data.path)
    for row in range(audio.num_clips):
        file = (tmp_path / "npy" / audio.path(row)).with_suffix(".npy")
        file.parent.mkdir(parents=True, exist_ok=True)
        mel_db = np.frombuffer(features[1000 - row][1], np.float32).reshape(1, 1, 96, -1)
        np.save(file, mel_db.astype(np.float64) if row == 3 else mel_db)  # float64 where it padded a short clip
    return tmp_path / "npy"


def test_the_same_shards_come_out(audio: AudioSet, from_audio: PrepareReport, npy_dir: Path, tmp_path: Path) -> None:
    config = make_config(audio, tmp_path / "data", audio_dir=None, npy_dir=npy_dir)
    report = prepare(config)
    assert read_features(report.data.path) == read_features(from_audio.data.path)
    assert report.manifest.splits == from_audio.manifest.splits
    for part, table in report.data.tables.items():
        assert set(report.data.split(part).sound_frames.tolist()) == {47}  # all that is stored
        assert table.paths == from_audio.data.tables[part].paths
        assert np.isnan(table.durations_s).all()  # a .npy file does not say how long its clip is
    assert prepare(config).is_up_to_date


def test_what_is_not_usable_goes_to_the_ledger(audio: AudioSet, npy_dir: Path, tmp_path: Path) -> None:
    files = {row: (npy_dir / audio.path(row)).with_suffix(".npy") for row in range(4)}
    files[0].unlink()
    files[1].write_bytes(b"text")
    np.save(files[2], np.load(files[2])[..., :-1])
    np.save(files[3], np.load(files[3]) * np.nan)
    config = make_config(audio, tmp_path / "data", audio_dir=None, npy_dir=npy_dir)
    with pytest.raises(DataError, match=r"npy: 1 of 48 clips have no file here"):
        prepare(config)
    skipped = prepare(override_config(config, data={"max_skipped_fraction": 0.2})).manifest.skipped
    reasons = {clip.mp3_path: clip.reason for clip in skipped}
    assert reasons[audio.path(0)] == "no such file"
    assert reasons[audio.path(1)].startswith("not a .npy file of numbers")
    assert reasons[audio.path(2)] == "shape (1, 1, 96, 46), expected (1, 96, 47) or (96, 47)"
    assert reasons[audio.path(3)] == "holds NaN or infinite values"


def test_a_wrong_source_is_one_message(audio: AudioSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data: audio_dir and npy_dir are both set"):
        make_config(audio, tmp_path / "data", npy_dir=tmp_path)
    with pytest.raises(DataError, match=r"no such folder of \.npy files \(data\.npy_dir\)"):
        prepare(make_config(audio, tmp_path / "data", audio_dir=None, npy_dir=tmp_path / "none"))
    table = tmp_path / "twice.csv"
    table.write_text("clip_id\tlow\tmp3_path\n1\t0\ta/b.mp3\n2\t1\ta/b.wav\n")
    with pytest.raises(DataError, match=r"twice\.csv:3: a/b\.npy is also the file of .*twice\.csv:2"):
        prepare(make_config(audio, tmp_path / "data", audio_dir=None, npy_dir=tmp_path, annotations=table, tags=1))
