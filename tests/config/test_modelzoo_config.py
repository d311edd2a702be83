"""ModelZoo's configs as ours: every key has a fate, bad files are refused in one message, nothing is executed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from fcn4dist.cli.config import config as command
from fcn4dist.config import RunConfig, load_config
from fcn4dist.config.modelzoo_mapping import SAME, Imported, import_modelzoo
from fcn4dist.config.modelzoo_show import format_notes, format_yaml
from fcn4dist.config.modelzoo_tags import MODELZOO_TAGS
from fcn4dist.errors import ConfigError

# the keys of ModelZoo's file, with values that are not its defaults
RUN = """
enable_modelarts: False
data_url: ""
train_url: ""
checkpoint_url: ""
data_path: "/cache/data"
output_path: "/cache/train"
load_path: "/cache/checkpoint_path"
device_target: Ascend
enable_profiling: False
num_classes: 40
num_consumer: 3
get_npy: 1
get_mindrecord: 1
audio_path: "/music/mp3"
npy_path: "/music/npy"
info_path: "/music"
info_name: 'table.csv'
device_id: 5
mr_path: "/music/mr"
mr_name: ['train', 'val']
pre_trained: False
lr: 0.002
batch_size: 24
epoch_size: 7
loss_scale: 512.0
mixed_precision: True
train_filename: 'train.mindrecord0'
val_filename: 'val.mindrecord0'
data_dir: "/music/mr"
keep_checkpoint_max: 4
save_step: 300
checkpoint_path: "/models"
prefix: 'Tagger'
model_name: 'Tagger-7_300.ckpt'
file_name: "fcn-4"
file_format: "MINDIR"
pre_result_path: "in"
post_result_path: "out"
label_path: "in/labels.npy"
"""
THREE = (
    RUN + "\n---\nlr: 'learning rate'\nunlisted: 'help without a key'\n---\ndevice_target: ['Ascend', 'GPU', 'CPU']\n"
)
PYTHON = """
import os
from easydict import EasyDict as edict
os.mkdir('executed')
data_cfg = edict({'num_classes': 40, 'num_consumer': 3, 'audio_path': '/music/mp3', 'npy_path': '/music/npy',
    'info_path': '/music', 'info_name': 'table.csv', 'device_target': 'Ascend', 'device_id': 5,
    'mr_path': os.path.join('/music', 'mr'), 'mr_name': ['train', 'val']})
music_cfg = edict({'lr': 0.002, 'num_consumer': 3, 'data_dir': '/music/mr', 'device_target': 'Ascend'})
music_cfg.batch_size = 24
music_cfg['epoch_size'] = 7
"""


def write(folder: Path, text: str, name: str = "default_config.yaml") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def as_config(imported: Imported, folder: Path) -> RunConfig:
    return load_config(write(folder, format_yaml(imported), "ours.yaml"))


def test_every_key_is_carried_over_or_has_a_reason(tmp_path: Path) -> None:
    imported = import_modelzoo(write(tmp_path, THREE))
    config = as_config(imported, tmp_path)
    assert config.data.audio_dir == Path("/music/mp3")
    assert config.data.annotations == Path("/music/table.csv")
    assert config.data.records_dir == Path("/music/mr")
    assert (config.data.tags, config.data.num_consumer, config.data.npy_dir) == (40, 3, None)
    assert (config.train.lr, config.train.global_batch, config.train.epochs) == (0.002, 24, 7)
    assert (config.train.loss_scale, config.train.amp, config.train.init_from) == (512.0, "auto", None)
    assert (config.checkpoint.keep, config.checkpoint.every_steps, config.checkpoint.prefix) == (4, 300, "Tagger")
    assert config.launch.device_target == "Ascend"
    notes = "\n".join(format_notes(imported))
    carried = {key for keys in imported.origins.values() for key in keys.split(", ")}
    assert imported.unknown == []
    for key in yaml.safe_load(RUN):
        assert (key in carried) != (key in imported.dropped), key
        if key in imported.dropped:
            assert key in notes
    assert "device_id: of one machine" in notes
    assert "unseeded random rows" in notes
    assert set(SAME) <= carried


def test_the_python_file_says_the_same_and_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    imported = import_modelzoo(write(tmp_path, PYTHON, "src/config.py"))
    config = as_config(imported, tmp_path)
    assert not (tmp_path / "executed").exists()
    assert (config.train.lr, config.train.global_batch, config.train.epochs) == (0.002, 24, 7)
    assert config.data.records_dir == Path("/music/mr")
    assert "computed" in imported.dropped["mr_path"]
    assert (config.data.annotations, config.data.tags) == (Path("/music/table.csv"), 40)
    assert imported.unknown == []


@pytest.mark.parametrize(("text", "name"), [(THREE, "default_config.yaml"), (PYTHON, "config.py")])
def test_given_as_our_config_it_is_pointed_to_the_import(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(ConfigError, match=r"fcn4dist config import-modelzoo .*makes it ours"):
        load_config(write(tmp_path, text, name))


def test_weights_to_start_from_and_npy_files(tmp_path: Path) -> None:
    text = RUN.replace("pre_trained: False", "pre_trained: True").replace("get_npy: 1", "get_npy: 0")
    config = as_config(import_modelzoo(write(tmp_path, text)), tmp_path)
    assert config.train.init_from == Path("/models/Tagger-7_300.ckpt")
    assert (config.data.npy_dir, config.data.audio_dir) == (Path("/music/npy"), None)


def test_its_tag_file_is_found_and_used(tmp_path: Path) -> None:
    write(tmp_path, "".join(f"tag {i}\n" for i in range(40)), "zoo/src/tag.txt")
    config = as_config(import_modelzoo(write(tmp_path, RUN, "zoo/default_config.yaml")), tmp_path)
    assert config.data.tags == tmp_path / "zoo" / "src" / "tag.txt"
    write(tmp_path, "rock\n" * 40, "twice/tag.txt")  # 40 lines, one tag
    assert as_config(import_modelzoo(write(tmp_path, RUN, "twice/default_config.yaml")), tmp_path).data.tags == 40
    other = write(tmp_path, RUN.replace("num_classes: 40", "num_classes: 50"), "zoo/other.yaml")
    assert as_config(import_modelzoo(other), tmp_path).data.tags == 50


def test_gpu_and_two_shard_folders_are_explained(tmp_path: Path) -> None:
    text = RUN.replace("device_target: Ascend", "device_target: GPU").replace('data_dir: "/music/mr"', 'data_dir: "/x"')
    imported = import_modelzoo(write(tmp_path, text))
    config = as_config(imported, tmp_path)
    assert (config.launch.device_target, config.data.records_dir) == ("auto", Path("/x"))
    assert "GPU" in imported.dropped["device_target"]
    assert "mr_path" in imported.dropped


HOSTILE = [
    "<script>alert(1)</script>",
    "../../etc",
    "a\nb: c",
    "\x1b[31mred",
    "'\"",
    "x" * 10_000,
    "{{",
    "# no comment",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_names(tmp_path: Path, name: str) -> None:
    text = yaml.safe_dump({"lr": 0.1, name: "value", "prefix": name, "audio_path": name, "data_dir": name})
    imported = import_modelzoo(write(tmp_path, text))
    assert imported.unknown == [name]
    config = as_config(imported, tmp_path)
    assert config.checkpoint.prefix == name
    assert config.data.audio_dir == Path(name)
    notes = format_notes(imported)
    assert all(line.isprintable() and len(line) < 400 for line in notes)


@pytest.mark.usefixtures("usual_limits")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no key found"),
        ("- lr\n", "document 1: expected keys such as"),
        ("lr: 1\n---\n- a\n", "document 2: expected keys"),
        ("lr: 1\n---\na: b\n---\nc: d\n---\ne: f\n", "4 YAML documents; ModelZoo has at most 3"),
        ("lr: [\n", "not a YAML file: while parsing"),
        ("lr: !!timestamp 1\n", "cannot be read as a config: AttributeError"),
        ("lr: !!python/object/apply:os.mkdir [executed]\n", r"yaml:1: lr: expected one value, found a list"),
        ("lr: !!python/name:os.mkdir executed\n", "not a YAML file: could not determine a constructor"),
        ("lr: fast\n", r"default_config\.yaml:1: lr: train\.lr: .*found 'fast'"),
        ("a: 1\nlr: True\n", r"yaml:2: lr: expected a number or a text, found True"),
        ("batch_size: {a: 1}\n", "batch_size: expected one value, found nested values"),
        ("batch_size: 0\n", r"batch_size: train\.global_batch: .*greater than 0"),
        ("save_step: 2.5\n", r"save_step: checkpoint\.every_steps"),
        ("pre_trained: maybe\n", "pre_trained: expected True or False, found 'maybe'"),
        ("pre_trained: True\n", "checkpoint_path and model_name do not name a file"),
        ("audio_path: 7\n", "audio_path: expected a text, found '7'"),
        ("device_target: TPU\n", r"launch\.device_target: .*'TPU'"),
        ("[" * 1000, "cannot be read as a config"),
        ("a: &a [x, x]\nlr: &b [*a, *a]\n", "lr: expected one value"),
        ("x: " + "y" * (1 << 20), "more than 1048576 bytes"),
    ],
)
def test_a_bad_file_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        import_modelzoo(write(tmp_path, text))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (", r"config\.py:1: not a Python file"),
        ("import os\n", "no key found"),
        ("cfg = {'lr': {'a': 1}}\n", r"config\.py:1: lr: expected one value, found nested values"),
        ("x\0y", "not a Python file"),
        ("cfg = {'lr': 0x" + "f" * 5000 + "}\n", r"config\.py:1: 'lr': a number of too many digits"),
        ("cfg[0x" + "f" * 5000 + "] = 0x" + "f" * 5000 + "\n", "a key that is no text': a number of too many digits"),
        ("cfg = edict[0x" + "f" * 5000 + "]({'lr': 1})\n", "no key found"),
    ],
)
def test_a_bad_python_file_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        import_modelzoo(write(tmp_path, text, "config.py"))


@pytest.mark.parametrize(
    "value", ["open('/etc/passwd').read()", "'a' * 10**10", "f'{1}'", "(" * 90 + "1" + ")" * 90 + "+x"]
)
def test_what_python_would_compute_is_left_to_the_user(tmp_path: Path, value: str) -> None:
    imported = import_modelzoo(write(tmp_path, f"cfg = dict(lr={value}, save_step=3)\n", "config.py"))
    assert imported.values == {"checkpoint": {"every_steps": 3}}
    assert any(line.startswith("  lr: computed") for line in format_notes(imported))


def test_repeated_and_missing(tmp_path: Path) -> None:
    imported = import_modelzoo(write(tmp_path, "a = {'lr': 0.1}\nb = {'lr': 0.2, 'save_step': 3}\n", "config.py"))
    assert imported.values["train"]["lr"] == 0.2
    assert any("given twice" in line and "'lr'" in line for line in format_notes(imported))
    with pytest.raises(ConfigError, match="No such file"):
        import_modelzoo(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"lr: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        import_modelzoo(tmp_path / "bytes.yaml")


def test_the_command_writes_yaml_to_stdout_or_a_file_and_the_rest_to_stderr(tmp_path: Path) -> None:
    file = write(tmp_path, THREE + "\n")
    shown = CliRunner().invoke(command, ["import-modelzoo", str(file)])
    assert shown.exit_code == 0
    assert "not carried over" not in shown.stdout
    assert "not carried over" in shown.stderr
    assert yaml.safe_load(shown.stdout)["train"]["lr"] == 0.002
    written = CliRunner().invoke(command, ["import-modelzoo", str(file), "--output", str(tmp_path / "o.yaml")])
    assert (written.exit_code, written.stdout) == (0, "")
    assert (tmp_path / "o.yaml").read_text() == shown.stdout
    refused = CliRunner().invoke(command, ["import-modelzoo", str(file), "--output", str(tmp_path / "no" / "o.yaml")])
    assert isinstance(refused.exception, ConfigError)


def test_its_tag_file_is_recognised_by_its_content(tmp_path: Path) -> None:
    """The usual list of the same 50 tags, turned around, is not ModelZoo's: "pop" and "no vocal" change places."""
    config = write(tmp_path, RUN.replace("num_classes: 40", "num_classes: 50"), "zoo/default_config.yaml")
    order = list(MODELZOO_TAGS)
    for tags, remark in (
        (order, "in the order of ModelZoo's labels and outputs"),
        ([*order[:20], "pop", "no vocal", *order[22:]], "in ANOTHER order"),
        ([*order[:49], "banjo"], "not ModelZoo's own tags"),
    ):
        write(tmp_path, "\n".join(tags), "zoo/tag.txt")
        (said,) = [line for line in import_modelzoo(config).remarks if line.startswith("data.tags is")]
        assert remark in said
