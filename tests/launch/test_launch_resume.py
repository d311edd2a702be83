"""What --resume accepts and refuses; state.json files written here stand for a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fcn4dist.config import MelConfig, ModelConfig, format_config, load_config
from fcn4dist.data.dataset import open_dataset
from fcn4dist.errors import CheckpointError, ConfigError, DataError
from fcn4dist.files import digest_file
from fcn4dist.launch.resume import check_resumable, load_config_to_resume
from fcn4dist.run.checkpoints import ModelCard, Origin, Progress, State, format_state
from fcn4dist.run.folder import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Return a run of 2 epochs of 5 steps, interrupted after step 7."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.mindrecord0").write_bytes(b"forty clips")
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    config = load_config(overrides=["train.epochs=2", "train.global_batch=8", f"data.records_dir={data}"])
    run.config.write_text(format_config(config))
    write_checkpoint(run, data, step=7)
    return run


def write_checkpoint(run: RunDir, data: Path, step: int, *, is_evaluated: bool = True, **changes: Any) -> Path:
    folder = run.checkpoints / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    state = State(
        format_version=changes.get("format_version", 2),
        fcn4dist="0",
        mindspore="0",
        config_digest="",
        card=ModelCard(name="x", model=ModelConfig(), mel=MelConfig(), tags=["a"], split_name="s"),
        progress=Progress(step=step, global_batch=8, seed=1, is_evaluated=is_evaluated),
        origin=Origin(train_clips=open_dataset(data).train_checksum(), steps_per_epoch=5, world_size=2),
        sha256={"weights.safetensors": digest_file(folder / "weights.safetensors")},
    )
    (folder / "state.json").write_text(format_state(state))
    return folder


def resume(run: RunDir, *overrides: str, force: bool = False, file: Path | None = None) -> State | None:
    config = load_config_to_resume(run, file, overrides, force=force)
    assert config.data.records_dir is not None
    return check_resumable(run, config, open_dataset(config.data.records_dir))


def test_an_interrupted_run_goes_on_from_its_newest_checkpoint(run: RunDir) -> None:
    state = resume(run)
    assert state is not None
    assert state.progress.step == 7


def test_a_run_without_a_checkpoint_starts_anew(run: RunDir, tmp_path: Path) -> None:
    (run.checkpoints).rename(tmp_path / "elsewhere")
    assert resume(run) is None


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--resume .*: no run here \(no config.yaml\)"):
        load_config_to_resume(RunDir(tmp_path), None, [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"finished: 10 of 10 steps, last checkpoint step-00000010; .*--set train.epochs=N"),
        (["train.max_steps=10"], r"finished: 10 of 10 steps, .*--set train.max_steps=N"),
        (
            ["train.max_steps=9"],
            r"train\.max_steps 9 is less than the 10 steps that are done; leave it out, or raise it",
        ),
        (
            ["train.epochs=1"],
            r"train\.epochs 1 is less than the 2 that are done \(10 steps\); leave it out, or raise it",
        ),
        (["train.epochs=1", "train.max_steps=8"], r"train\.epochs 1 is less than the 2 that are done"),
    ],
)
def test_a_finished_run(run: RunDir, tmp_path: Path, overrides: list[str], message: str) -> None:
    write_checkpoint(run, tmp_path / "data", step=10)
    with pytest.raises(ConfigError, match=message):
        resume(run, *overrides)
    assert resume(run, "train.epochs=3") is not None  # there is more to do now


def test_fewer_epochs_than_are_begun_are_said(run: RunDir) -> None:
    """After step 7 of epochs of 5 steps, also where nothing was evaluated yet."""
    with pytest.raises(
        ConfigError, match=r"train\.epochs 1 is less than the 1 and 2 of 5 steps that are done \(7 steps\)"
    ):
        resume(run, "train.epochs=1")


def test_a_run_killed_in_its_last_evaluation_is_not_finished(run: RunDir, tmp_path: Path) -> None:
    write_checkpoint(run, tmp_path / "data", step=10, is_evaluated=False)
    assert resume(run) is not None


@pytest.mark.parametrize(
    "override",
    ["train.epochs=9", "train.max_steps=99", "evaluate.batch=3", "checkpoint.keep=2", "launch.devices=1",
     "train.early_stop_epochs=9", "train.max_overflows=5", "train.max_diverged_steps=5"],
)  # fmt: skip
def test_harmless_keys_may_change(run: RunDir, override: str) -> None:
    assert resume(run, override) is not None


def test_other_keys_are_all_listed_and_taken_with_force(run: RunDir) -> None:
    with pytest.raises(ConfigError) as caught:
        resume(run, "train.lr=0.1", "train.schedule=cosine", "train.epochs=9")
    assert "train.lr: the run has 0.0005, asked for is 0.1" in str(caught.value)
    assert "train.schedule: the run has 'constant', asked for is 'cosine'" in str(caught.value)
    assert "--force" in str(caught.value)
    assert "epochs" not in str(caught.value)
    assert load_config_to_resume(run, None, ["train.lr=0.1"], force=True).train.lr == 0.1


@pytest.mark.parametrize(
    "override",
    ["train.weight_decay=0.1", "train.clip_norm=1.0", "train.momentum=0.5", "model.dropout=0.5", "augment.mixup=0.2",
     "augment.time_masks=1", "train.schedule=plateau", "train.plateau_patience=4", "train.loss_scale=dynamic"],
)  # fmt: skip
def test_what_changes_the_course_alone_is_taken_with_force(run: RunDir, override: str) -> None:
    with pytest.raises(ConfigError, match=f"--force .*\n  {override.split('=')[0]}: the run has"):
        resume(run, override)
    assert resume(run, override, force=True) is not None


def test_other_epochs_under_cosine_need_force_since_the_rate_would_jump(run: RunDir) -> None:
    """The last rate of a finished run went from nearly 0 to 7.6e-4, without a word, when epochs were raised."""
    config = load_config(run.config, ["train.schedule=cosine"])
    run.config.write_text(format_config(config))
    with pytest.raises(
        ConfigError, match=r"train\.epochs: the run has 2, asked for is 9; its cosine schedule ends with"
    ):
        resume(run, "train.epochs=9")
    assert resume(run, "train.epochs=9", force=True) is not None
    assert resume(run, "train.max_steps=8") is not None  # cuts the run, its schedule is as it was


def test_other_evaluations_under_plateau_need_force_since_the_rate_goes_by_them(run: RunDir) -> None:
    run.config.write_text(format_config(load_config(run.config, ["train.schedule=plateau"])))
    with pytest.raises(
        ConfigError, match=r"evaluate\.every_epochs: the run has 1, asked for is 2; its plateau schedule"
    ):
        resume(run, "evaluate.every_epochs=2")
    assert resume(run, "evaluate.every_epochs=2", force=True) is not None
    assert resume(run, "evaluate.batch=2", "train.epochs=9") is not None


def test_a_moving_average_may_decay_otherwise_but_not_come_or_go(run: RunDir) -> None:
    with pytest.raises(ConfigError, match=r"its own values.*\n  train\.ema_decay: the run has None"):
        resume(run, "train.ema_decay=0.99", force=True)
    run.config.write_text(format_config(load_config(run.config, ["train.ema_decay=0.99"])))
    with pytest.raises(
        ConfigError, match=r"its own values.*\n  train\.ema_decay: the run has 0\.99, asked for is None"
    ):
        resume(run, "train.ema_decay=null", force=True)
    assert resume(run, "train.ema_decay=0.9", force=True) is not None


@pytest.mark.parametrize(
    "override",
    ["train.global_batch=16", "train.seed=2", "model.channels=[1, 2, 3, 4]", "model.input_norm=batch", "train.optimizer=sgd",
     "mel.n_mels=48"],
)  # fmt: skip
def test_what_would_make_it_another_run_is_refused_with_force_too(run: RunDir, override: str) -> None:
    with pytest.raises(ConfigError, match=f"its own values.*\n  {override.split('=')[0]}: the run has"):
        resume(run, override, force=True)


def test_only_what_a_config_file_says_is_compared(run: RunDir, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train: {epochs: 4}\n")
    assert load_config_to_resume(run, file, []).train.global_batch == 8
    file.write_text("train: {lr: 0.25}\n")
    with pytest.raises(ConfigError, match=r"train\.lr"):
        load_config_to_resume(run, file, [])


def test_another_data_set_is_refused_a_copy_is_not(run: RunDir, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    for folder, content in ((copy, b"forty clips"), (other, b"forty-one clips")):
        folder.mkdir()
        (folder / "train.mindrecord0").write_bytes(content)
    assert resume(run, f"data.records_dir={copy}") is not None
    with pytest.raises(DataError, match=r"other: not the data set that .*run trained on"):
        resume(run, f"data.records_dir={other}")


def test_a_newer_format_is_refused_not_passed_over(run: RunDir, tmp_path: Path) -> None:
    write_checkpoint(run, tmp_path / "data", step=8, format_version=3)
    with pytest.raises(CheckpointError, match="format_version 3; this fcn4dist reads 2"):
        resume(run)


def test_a_damaged_newest_checkpoint_is_passed_over(run: RunDir, tmp_path: Path) -> None:
    (write_checkpoint(run, tmp_path / "data", step=8) / "weights.safetensors").write_bytes(b"Weights")
    state = resume(run)
    assert state is not None
    assert state.progress.step == 7


@pytest.mark.parametrize("change", ["clips", "tags", "rows"])
def test_the_identity_of_a_prepared_set_is_its_clips_tags_and_shards(tmp_path: Path, change: str) -> None:
    def manifest(folder: Path, **changes: Any) -> Path:
        folder.mkdir()
        rows = changes.get("rows", [3, 2])
        shards = [
            {"file": f"train.mindrecord{i}", "split": "train", "num_rows": n, "num_bytes": 1, "sha256": str(changes),
             "index_sha256": ""}
            for i, n in enumerate(rows)
        ]  # fmt: skip
        counts = {"num_clips": 5, "clip_list_sha256": changes.get("clips", "abc"), "positives": [1]}
        document = {
            "format_version": 1, "mel": {}, "feature_dtype": "float32", "feature_shape": [1, 96, 1366],
            "tags": changes.get("tags", ["rock"]), "split": {"name": "s", "rule": "r"}, "splits": {"train": counts},
            "shards": shards, "num_listed": 5, "num_written": 5, "skipped": [],
        }  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(document))
        return folder

    first = open_dataset(manifest(tmp_path / "one")).train_checksum()
    assert open_dataset(manifest(tmp_path / "two", features="prepared again")).train_checksum() == first
    other = {"clips": "abd", "tags": ["pop"], "rows": [2, 3]}[change]
    assert open_dataset(manifest(tmp_path / "three", **{change: other})).train_checksum() != first
