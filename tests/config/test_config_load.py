from __future__ import annotations

from pathlib import Path

import pytest

from fcn4dist.config import RunConfig, TrainConfig, format_config, load_config, override_config, plan_batches
from fcn4dist.errors import ConfigError


def test_defaults_are_those_of_the_paper() -> None:
    config = RunConfig()
    assert config.mel.num_samples == 349_440
    assert config.mel.num_frames == 1366
    assert (config.train.lr, config.train.epochs, config.train.loss_scale) == (0.0005, 10, 1024.0)


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("train:\n  lr: 1e-2\n  epochs: 3\n")
    config = load_config(file, ["train.lr=5e-3", "data.tags=[rock, pop]"])
    assert (config.train.lr, config.train.epochs, config.data.tags) == (0.005, 3, ["rock", "pop"])


def test_a_dumped_config_reads_back(tmp_path: Path) -> None:
    config = load_config(None, ["train.loss_scale=dynamic", "data.audio_dir=/audio", "data.tags=tags.txt"])
    file = tmp_path / "config.yaml"
    file.write_text(format_config(config))
    assert load_config(file) == config
    assert load_config(file).digest == config.digest


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lrr=1", r"train\.lrr: unknown key; did you mean train\.lr\?"),
        ("trian.lr=1", r"trian: unknown key; did you mean train\?"),
        ("model.lr=1", r"did you mean train\.lr\?"),
        ("train.epochs=many", r"--set train\.epochs=many: train\.epochs: .*found 'many'"),
        ("train.epochs=0", r"greater than 0"),
        ("train.loss_scale=big", r"train\.loss_scale"),
        ("train.amp=O9", r"'O0', 'O2', 'O3' or 'auto'"),
        ("model.channels=[1,2]", r"4 numbers of channels; found 2"),
        ("mel.clip_s=0.5", r"leave nothing of 96 mel bands x 24 frames"),
        ("lr=1", r"expected section\.key=value"),
        ("train.lr", r"expected section\.key=value"),
        ("train.lr=[", r"not YAML"),
    ],
)
def test_a_wrong_override_is_one_clear_message(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected sections"),
        ("a: [", "not a YAML file"),
        ("train: 3\n", "train"),
        ("\xff\xfe", "run.yaml"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=message):
        load_config(file)
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "other.yaml")


def test_override_config_keeps_the_rest_and_what_was_set() -> None:
    config = override_config(load_config(None, ["train.epochs=3"]), train={"seed": 7})
    assert (config.train.epochs, config.train.seed) == (3, 7)
    assert config.train.model_fields_set == {"epochs", "seed"}


@pytest.mark.parametrize(
    ("world_size", "global_batch", "device_batch", "expected"),
    [
        (2, None, None, (64, 32, 32, 1)),
        (4, 16, None, (16, 4, 4, 1)),
        (1, 16, 4, (16, 16, 4, 4)),
        (2, 12, 4, (12, 6, 3, 2)),
    ],
)
def test_batches_are_divided(
    world_size: int, global_batch: int | None, device_batch: int | None, expected: tuple[int, ...]
) -> None:
    plan = plan_batches(TrainConfig(global_batch=global_batch, device_batch=device_batch), world_size)
    assert (plan.global_batch, plan.rank_batch, plan.micro_batch, plan.accumulation) == expected


def test_a_global_batch_that_ranks_do_not_divide_is_refused_with_what_would_do() -> None:
    with pytest.raises(ConfigError, match="16 clips cannot be divided among 3 ranks; use 15 or 18"):
        plan_batches(TrainConfig(global_batch=16), 3)
