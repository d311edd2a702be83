from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from bare_set import make_bare_set

from fcn4dist.config import BatchPlan, RunConfig, format_config, load_config, override_config
from fcn4dist.data.shards import Row, RowFormat, write_shard
from fcn4dist.doctor.folders import config_to_be_used
from fcn4dist.errors import ConfigError, DataError
from fcn4dist.launch.resume import load_config_to_resume
from fcn4dist.launch.training_data import apply_under, check_data, forget_defaults, resolve_data
from fcn4dist.run.folder import RunDir


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A prepared data set of 10 clips to train on, written by hand."""
    shard, index = b"ten clips", b"where they are"
    (tmp_path / "train.mindrecord0").write_bytes(shard)
    (tmp_path / "train.mindrecord0.db").write_bytes(index)
    manifest = {
        "format_version": 1, "mel": {}, "feature_dtype": "float32", "feature_shape": [1, 96, 1366], "tags": ["drums"],
        "split": {"name": "random", "rule": "by seed", "seed": 1},
        "splits": {"train": {"num_clips": 10, "clip_list_sha256": "", "positives": [4]}},
        "shards": [{
            "file": "train.mindrecord0", "split": "train", "num_rows": 10, "num_bytes": len(shard),
            "sha256": sha256(shard), "index_sha256": sha256(index),
        }],
        "num_listed": 10, "num_written": 10, "skipped": [],
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def describe(data: Path, tags: list[str], split: str, **more: object) -> None:
    """Write in the manifest that the set was made in another way."""
    document = json.loads((data / "manifest.json").read_text())
    split_rule: dict[str, object] = {"name": split, "rule": "", "seed": None}
    (data / "manifest.json").write_text(json.dumps({**document, "tags": tags, "split": split_rule, **more}))


def check(data: Path, global_batch: int = 4, verify: str = "digest") -> int:
    config = load_config(overrides=[f"data.records_dir={data}", f"data.verify={verify}"])
    return check_data(config, BatchPlan(global_batch, 2)).num_rows("train")


def test_a_prepared_set_says_how_many_clips_it_has(data: Path) -> None:
    assert check(data) == 10
    assert check(data, global_batch=10) == 10


def test_less_than_one_step_an_epoch_is_refused(data: Path) -> None:
    with pytest.raises(DataError, match=r"10 clips to train on are fewer than one global batch of 12"):
        check(data, global_batch=12)


def test_a_flipped_bit_and_a_cut_shard_are_refused(data: Path) -> None:
    (data / "train.mindrecord0").write_bytes(b"ten clipS")
    with pytest.raises(DataError, match="damaged"):
        check(data)
    assert check(data, verify="size") == 10
    (data / "train.mindrecord0").write_bytes(b"ten")
    with pytest.raises(DataError, match="truncated"):
        check(data)


def test_modelzoos_shards_have_no_manifest_and_are_welcome(data: Path) -> None:
    (data / "manifest.json").unlink()
    rows = [Row(i, np.zeros((1, 8, 30), np.float32), np.zeros(2, np.int8)) for i in range(7)]
    write_shard(data / "train.mindrecord0", rows, 7, RowFormat((1, 8, 30), "float32", 2), ["train.mindrecord0"])
    assert check(data) == 7
    (data / "train.mindrecord0").unlink()
    with pytest.raises(DataError, match=r"neither manifest.json nor train.mindrecord0"):
        check(data)


def test_without_data_there_is_no_demo_by_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data named"):
        resolve_data(load_config(), RunDir(tmp_path), say=pytest.fail)


def test_half_named_audio_is_refused(tmp_path: Path) -> None:
    for given, missing in (("audio_dir", "annotations"), ("annotations", "audio_dir")):
        with pytest.raises(ConfigError, match=f"data.{missing}: not set"):
            resolve_data(load_config(overrides=[f"data.{given}=/x"]), RunDir(tmp_path), say=pytest.fail)


def test_a_named_data_set_is_used_as_it_is_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d").mkdir()
    make_bare_set(Path("d"))
    config = resolve_data(load_config(overrides=["data.records_dir=d"]), RunDir(tmp_path / "run"), say=pytest.fail)
    assert config.data.records_dir == tmp_path / "d"


def test_the_demos_values_go_under_the_users() -> None:
    demo = {"train": {"epochs": 3, "lr": 0.01}, "mel": {"clip_s": 5.0}}
    config = load_config(overrides=["train.lr=0.5", "mel.clip_s=29.12"])  # the second is the default, but was said
    config = override_config(config, launch={"devices": 2})
    merged = apply_under(config, demo)
    assert (merged.train.epochs, merged.train.lr, merged.mel.clip_s, merged.launch.devices) == (3, 0.5, 29.12, 2)


SEVEN = ["drums", "bass", "flute", "choir", "rain", "fast", "slow"]


def resolve(data: Path, *overrides: str) -> RunConfig:
    config = load_config(overrides=[f"data.records_dir={data}", *overrides])
    return resolve_data(config, RunDir(data / "run"), say=pytest.fail)


def test_a_run_has_the_tags_and_the_split_of_its_data(data: Path) -> None:
    describe(data, SEVEN, "folds:folds.csv:5-clean", feature_dtype="float16")
    config = resolve(data)
    assert (config.data.tags, config.data.split, config.data.clean) == (SEVEN, "folds:folds.csv:5", True)
    describe(data, SEVEN, "folder-12-1-3-clean", feature_dtype="float16")
    config = resolve(data)
    assert (config.data.tags, config.data.split, config.data.clean) == (SEVEN, "folder-12-1-3", True)
    assert config.data.feature_dtype == "float16"
    assert check_data(config, BatchPlan(4, 2)).tags == tuple(SEVEN)


@pytest.mark.parametrize(
    ("split", "given"),
    [
        ("folder-12-1-3", "data.tags=7"),
        ("folder-12-1-3", "data.tags=all"),
        ("folder-12-1-3", f"data.tags={SEVEN}"),
        ("folder-12-1-3", "data.split=folder-12-1-3"),
        ("folder-12-1-3-clean", "data.split=folder-12-1-3-clean"),
        ("folder-12-1-3-clean", "data.clean=true"),
        ("folds:f.csv:5-clean", "data.split=folds:f.csv:5"),
        ("file:/elsewhere/split.csv", "data.split=file:split.csv"),
    ],
)
def test_what_is_true_of_the_data_may_be_said(data: Path, split: str, given: str) -> None:
    describe(data, SEVEN, split)
    resolve(data, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("data.tags=10", r"data.tags: 10, but .* was prepared with 7 tags; prepare again, or leave data.tags out"),
        ("data.tags=[drums, harp]", r"prepared with 7 tags, 'harp' not among them"),
        (f"data.tags={SEVEN[::-1]}", r"the same tags in another order: tag 0 is 'drums'"),
        ("data.split=random", r"data.split: random, but .* was prepared with folder-12-1-3"),
        ("data.split=folder-12-1-3-clean", r"data.split: folder-12-1-3-clean, but .* with folder-12-1-3;"),
        ("data.clean=true", r"data.clean: True, but .* was prepared with False"),
        ("data.feature_dtype=float16", r"data.feature_dtype: float16, but .* was prepared with float32"),
        ("mel.clip_s=5", r"mel.clip_s: 5.0, but .* was prepared with 29.12"),
    ],
)
def test_a_key_that_contradicts_the_data_is_refused(data: Path, given: str, message: str) -> None:
    describe(data, SEVEN, "folder-12-1-3")
    with pytest.raises(ConfigError, match=message):
        resolve(data, given)
    config = load_config(overrides=[f"data.records_dir={data}", given])
    with pytest.raises(ConfigError, match=message):  # as the dry run looks at it
        check_data(config, None)
    with pytest.raises(ConfigError, match=message):
        config_to_be_used(config, data / "run")


def test_an_older_run_that_wrote_the_defaults_goes_on(data: Path) -> None:
    """Older config.yaml files have every key, the default tags and split among them, whatever the data set has."""
    describe(data, SEVEN, "folds:folds.csv:5")
    run = data / "run"
    run.mkdir()
    older = override_config(RunConfig(), data={"records_dir": data}, train={"lr": 0.25})
    (run / "config.yaml").write_text(format_config(older))
    config = forget_defaults(load_config_to_resume(RunDir(run), None, ()))
    resolved = resolve_data(config, RunDir(run), say=pytest.fail)
    assert (resolved.data.tags, resolved.data.split, resolved.train.lr) == (SEVEN, "folds:folds.csv:5", 0.25)
    (run / "config.yaml").write_text(format_config(resolved))
    again = forget_defaults(load_config_to_resume(RunDir(run), None, ()))
    assert resolve_data(again, RunDir(run), say=pytest.fail) == resolved


DEMO = {"data": {"records_dir": Path("/cache/demo-records"), "num_consumer": 2}, "train": {"global_batch": 16}}


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("fcn4dist.data.demo")
    monkeypatch.setattr(module, "demo_config", lambda demo_set: {section: dict(keys) for section, keys in DEMO.items()})  # type: ignore[call-overload]
    monkeypatch.setattr(pytest.importorskip("fcn4dist.data.prepare"), "prepare", lambda config, progress: None)


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize(("devices", "global_batch"), [(1, 16), (2, 16), (3, 18), (8, 16), (24, 24)])
def test_the_demos_global_batch_fits_any_number_of_ranks(tmp_path: Path, devices: int, global_batch: int) -> None:
    said: list[str] = []
    config = load_config(overrides=[f"launch.devices={devices}"])
    resolved = resolve_data(config, RunDir(tmp_path), said.append, demo=True)
    assert resolved.train.global_batch == global_batch
    assert resolved.data.records_dir == Path("/cache/demo-records")
    assert "embedded demo set" in said[0]


@pytest.mark.usefixtures("demo")
def test_a_demo_made_differently_is_prepared_into_the_run(tmp_path: Path) -> None:
    config = load_config(overrides=["data.num_consumer=3", "train.global_batch=12"])
    resolved = resolve_data(config, RunDir(tmp_path), lambda text: None, demo=True)
    assert resolved.data.records_dir == tmp_path / "data"
    assert (resolved.data.num_consumer, resolved.train.global_batch) == (3, 12)


def test_audio_is_prepared_into_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[RunConfig] = []
    monkeypatch.setattr(
        pytest.importorskip("fcn4dist.data.prepare"), "prepare", lambda config, progress: prepared.append(config)
    )
    (tmp_path / "clips.csv").touch()
    config = load_config(overrides=[f"data.audio_dir={tmp_path}", f"data.annotations={tmp_path / 'clips.csv'}"])
    resolved = resolve_data(config, RunDir(tmp_path), lambda text: None)
    assert resolved.data.records_dir == tmp_path / "data"
    assert prepared == [resolved]
