from __future__ import annotations

import itertools
import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from fcn4dist.config import (
    RunConfig,
    TrainConfig,
    check_precision,
    format_config,
    load_config,
    override_config,
    plan_batches,
)
from fcn4dist.config.keys import OTHER_NAMES, list_keys
from fcn4dist.errors import ConfigError

# nine lists of nine times the one before: written out, it would be 387 million letters
BOMB = "a: &a [z,z,z,z,z,z,z,z,z]\n"
BOMB += "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi"))
BOMB += "train: {lr: *i}\n"


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


@pytest.mark.usefixtures("usual_limits")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lrr=1", r"train\.lrr: unknown key; did you mean train\.lr\?"),
        ("trian.lr=1", r"--set trian\.lr=1: trian\.lr: unknown key; did you mean train\.lr\?"),
        ("train.batch_size=8", r"train\.batch_size: unknown key; did you mean train\.global_batch\?"),
        ("trainer.max_epochs=8", r"trainer\.max_epochs: unknown key; did you mean train\.epochs\?"),
        ("batch_size=8", r"--set batch_size=8: expected section\.key=value; did you mean train\.global_batch\?"),
        ("learning-rate=1", r"did you mean train\.lr\?"),
        ("evaluate.bach=8", r"did you mean evaluate\.batch\?"),
        ("train.zzz=1", r"train\.zzz: unknown key; train has epochs, max_steps, "),
        ("zzz.y=1", r"zzz\.y: unknown key; sections are data, mel, "),
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
        # PyYAML's own errors are not the only ones that it raises
        ("train.lr=" + "[" * 3000, r"not YAML: RecursionError"),
        ("train.lr=!!bool x", r"not YAML: KeyError"),
        ("train.lr=!!timestamp 1", r"not YAML: AttributeError"),
        ("train.lr=2021-02-31", r"not YAML: ValueError"),
        ("train.lr=0x" + "f" * 5000, r"found a number of too many digits"),
        ("train.epochs=0x" + "f" * 5000, r"less than 9223372036854775808, found a number of too many digits"),
        ("model.channels=[4, 4, 4, 0x" + "f" * 5000 + "]", r"less than 9223372036854775808"),
        ("mo\udcc4el.pools=1", r"^--set: .*raw data"),
        ("model.pools=[[2,2],[2147483648,2],[2,2]]", r"^--set: model\.pools .* leave nothing"),
    ],
)
def test_a_wrong_override_is_one_clear_message(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


@pytest.mark.usefixtures("usual_limits")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected sections"),
        ("batch_size: 4\n", r"run.yaml: batch_size: unknown key; did you mean train.global_batch\?"),
        ("trainer: {precision: 16}\n", r"run.yaml: trainer.precision: unknown key; did you mean train.amp\?"),
        ("tarin: 4\n", r"run.yaml: tarin: unknown key; did you mean train\?"),
        ("a: [", "not a YAML file"),
        ("a: " + "[" * 3000, "run.yaml: not a YAML file: RecursionError"),
        (BOMB, r"train\.lr: input should be a valid number, found \[\[\["),
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


def test_names_to_choose_from_may_be_in_any_case() -> None:
    config = load_config(
        None, ["launch.device_target=cpu", "train.amp=o2", "train.loss_scale=Dynamic", "data.tags=ALL"]
    )
    assert (config.launch.device_target, config.train.amp, config.train.loss_scale) == ("CPU", "O2", "dynamic")
    assert config.data.tags == Path("ALL")  # may be a file
    with pytest.raises(ConfigError, match="'auto', 'Ascend' or 'CPU', found 'gpu'"):
        load_config(None, ["launch.device_target=gpu"])


def test_names_of_other_programs_lead_to_keys_that_exist() -> None:
    keys = {f"{section}.{key}" for section, values in RunConfig().model_dump().items() for key in values}
    assert set(OTHER_NAMES.values()) <= keys
    assert all(name == name.lower() for name in OTHER_NAMES)
    assert {key.name for key in list_keys()} == keys
    assert [key.name for key in list_keys() if not key.description] == []


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
        (1, 33, 32, (33, 33, 11, 3)),
        (1, 37, None, (37, 37, 37, 1)),
        (1, 13, 1, (13, 13, 1, 13)),  # one clip at a time is what was asked for
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


@pytest.mark.parametrize(
    ("world_size", "global_batch", "device_batch", "message"),
    [
        (1, 37, 32, "37 clips a rank in equal parts of at most 32 are 37 of 1, .*train.global_batch 36 or 38, .*device_batch 37"),
        (2, 74, 32, "37 of 1, too few for batch norm; use train.global_batch 72 or 76, or train.device_batch 37"),
        (1, 26, 12, "13 of 2, too few for batch norm; use train.global_batch 24 or 27, or train.device_batch 13"),
        (2, 6, 2, "3 clips a rank .* are 3 of 1, .*use train.global_batch 4 or 8, or train.device_batch 3"),
    ],
)  # fmt: skip
def test_a_prime_batch_does_not_become_micro_batches_of_one_clip(
    world_size: int, global_batch: int, device_batch: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_batches(TrainConfig(global_batch=global_batch, device_batch=device_batch), world_size)
    for named in re.findall(r"global_batch (\d+) or (\d+)", message)[0]:  # what the message names is accepted
        plan_batches(TrainConfig(global_batch=int(named), device_batch=device_batch), world_size)
    named = int(message.rsplit(" ", 1)[1])
    if message.endswith(f"device_batch {named}"):
        plan_batches(TrainConfig(global_batch=global_batch, device_batch=named), world_size)
    frozen = TrainConfig(global_batch=global_batch, device_batch=device_batch, freeze_batch_norm=True)
    assert plan_batches(frozen, world_size).micro_batch < 3  # nobody takes statistics of them


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.dropout=1"], "model.dropout: .*less than 1"),
        (["model.input_norm=layer"], "'none' or 'batch'"),
        (["model.first_block=pooled", "model.input_norm=batch"], "first_block pooled needs input_norm none, found batch"),
        (["model.first_block=pooled", "train.amp=O3"], "statistics in float32, which train.amp O3 does not leave it"),
        (["train.ema_decay=1.0"], "train.ema_decay: .*less than 1"),
        (["train.ema_decay=0"], "train.ema_decay: .*greater than 0"),
        (["train.clip_norm=0"], "train.clip_norm: .*greater than 0"),
        (["train.weight_decay=-1"], "train.weight_decay: .*greater than or equal to 0"),
        (["train.optimizer=lamb"], "'adam', 'adamw' or 'sgd'"),
        (["train.max_overflows=0"], "train.max_overflows: .*greater than 0"),
        (["train.plateau_factor=1"], "train.plateau_factor: .*less than 1"),
        (["train.amp_dtype=bfloat16"], "amp_dtype is bfloat16, but amp is O0"),
        (["augment.mixup=inf"], "augment.mixup"),
        (["augment.time_masks=1", "augment.time_mask_frames=1366"], "1 of them may blank 1366 frames, a clip has 1366"),
        (["augment.time_masks=2", "augment.time_mask_frames=700"], "2 of them may blank 1400 frames, a clip has 1366"),
        (["augment.frequency_masks=1", "augment.frequency_mask_bins=96"], "1 of them may blank 96 mel bands"),
        (["train.schedule=plateau", "evaluate.split=test"], "plateau goes by the validation part, .*evaluate.split is test"),
        (["train.schedule=plateau", "evaluate.every_epochs=11"], "plateau goes by evaluations, .*every_epochs is 11, for 10"),
        (["train.early_stop_epochs=4", "evaluate.split=train"], "early_stop_epochs goes by the validation part"),
        (["train.early_stop_epochs=4", "evaluate.every_epochs=5"], "every_epochs is 5, .* a patience of 4"),
    ],
)  # fmt: skip
def test_switches_that_contradict_are_refused_where_the_config_is_loaded(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides)


def test_a_recipe_is_off_unless_it_is_asked_for_and_loads_whole() -> None:
    config = RunConfig()
    assert (config.model.input_norm, config.model.dropout, config.train.optimizer) == ("none", 0, "adam")
    assert (config.train.weight_decay, config.train.clip_norm, config.train.ema_decay) == (0, None, None)
    assert (config.augment.time_masks, config.augment.frequency_masks, config.augment.mixup) == (0, 0, 0)
    wanted = [
        "model.input_norm=batch", "model.dropout=0.5", "train.optimizer=sgd", "train.weight_decay=1e-4", "train.clip_norm=1",
        "train.ema_decay=0.999", "train.schedule=plateau", "train.early_stop_epochs=20", "train.amp=O2",
        "train.amp_dtype=bfloat16", "augment.time_masks=2", "augment.frequency_masks=2", "augment.mixup=0.2",
    ]  # fmt: skip
    assert load_config(None, wanted).train.ema_decay == 0.999


@pytest.mark.parametrize(
    ("target", "chip", "message"),
    [("CPU", None, "the CPU trains in float32"), ("Ascend", "910", "this NPU is an Ascend 910;"), ("Ascend", "910b", None),
     ("Ascend", "a3", None), ("Ascend", None, None)],
)  # fmt: skip
def test_bfloat16_is_refused_where_the_device_has_none(target: str, chip: str | None, message: str | None) -> None:
    train = TrainConfig(amp="O2", amp_dtype="bfloat16")
    check_precision(TrainConfig(amp="O2"), target, chip)
    with pytest.raises(ConfigError, match=f"amp_dtype: bfloat16, .*{message}") if message else nullcontext():
        check_precision(train, target, chip)
