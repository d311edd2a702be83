"""What every key of ModelZoo's FCN-4 becomes here, or why it does not come along (docs/modelzoo.md has the table)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fcn4dist.config import build_config
from fcn4dist.config.modelzoo_source import NOT_LITERAL, Source, load_source
from fcn4dist.config.modelzoo_tags import MODELZOO_TAGS
from fcn4dist.errors import ConfigError, quoted

# ModelZoo's key -> our section and key, the value as it is
SAME = {
    "num_consumer": "data.num_consumer",
    "lr": "train.lr",
    "batch_size": "train.global_batch",
    "epoch_size": "train.epochs",
    "loss_scale": "train.loss_scale",
    "keep_checkpoint_max": "checkpoint.keep",
    "save_step": "checkpoint.every_steps",
    "prefix": "checkpoint.prefix",
}
_MODELARTS = "of Huawei's ModelArts, which copied folders in and out around the job"
_INFER_310 = "of the inference on Ascend 310: use `fcn4dist export` and `fcn4dist tag`"
_SHARD_NAMES = "shards are found by their names, train.mindrecord0 and val.mindrecord0"
REASONS = {
    "device_id": "of one machine: `launch` gives each rank its device; ASCEND_RT_VISIBLE_DEVICES or a rank table chooses",
    "enable_modelarts": _MODELARTS,
    "data_url": _MODELARTS,
    "train_url": _MODELARTS,
    "checkpoint_url": _MODELARTS,
    "data_path": _MODELARTS,
    "output_path": _MODELARTS,
    "load_path": _MODELARTS,
    "distribute": "`launch --devices N` decides; ModelZoo's code never read it",
    "enable_profiling": "ModelZoo's code never read it",
    "config_path": "the option that named the config file: --config",
    "mr_name": _SHARD_NAMES,
    "train_filename": _SHARD_NAMES,
    "val_filename": _SHARD_NAMES,
    "get_npy": "decides whether clips come from audio (data.audio_dir) or from .npy files (data.npy_dir)",
    "get_mindrecord": "`fcn4dist prepare` writes shards, `launch` reads them",
    "file_name": "an option of the command: `fcn4dist export --output FILE`",
    "file_format": "an option of the command: `fcn4dist export --format mindir|onnx|air`",
    "ckpt_file": "an option of the command: `fcn4dist export --checkpoint FILE`",
    "pre_result_path": _INFER_310,
    "post_result_path": _INFER_310,
    "result_path": _INFER_310,
    "label_path": _INFER_310,
}
TAG_FILES = ("src/tag.txt", "tag.txt", "infer/data/config/tag.txt")  # beside the config, where ModelZoo keeps it


@dataclass
class Imported:
    """A config of ModelZoo as ours."""

    source: Source
    values: dict[str, dict[str, Any]] = field(default_factory=dict)  # section -> key -> value
    origins: dict[str, str] = field(default_factory=dict)  # "train.lr" -> "lr"
    dropped: dict[str, str] = field(default_factory=dict)  # key -> why it is not carried over
    unknown: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what to know before using it

    def carry(self, target: str, value: Any, *keys: str) -> None:
        """Set `target`, which says what ModelZoo's `keys` said."""
        section, name = target.split(".")
        self.values.setdefault(section, {})[name] = value
        self.origins[target] = ", ".join(keys)


def import_modelzoo(file: Path) -> Imported:
    """Read a config of ModelZoo's FCN-4 and return it as ours; every key is carried over, dropped with a reason, or unknown.

    Raises ConfigError when the file cannot be read, or a value is not one that ours may have.
    """
    whole = load_source(file)
    computed = [key for key, entry in whole.entries.items() if entry.obstacle == NOT_LITERAL]
    source = replace(whole, entries={key: entry for key, entry in whole.entries.items() if key not in computed})
    result = Imported(source)
    _carry_same(result)
    _carry_data(result)
    _carry_shards(result)
    _carry_tags(result)
    _carry_training(result)
    for key in source.entries:
        if key in REASONS:
            result.dropped[key] = REASONS[key]
    result.source = whole
    result.dropped |= dict.fromkeys(computed, NOT_LITERAL)
    used = {name for keys in result.origins.values() for name in keys.split(", ")}
    result.unknown = [key for key in whole.entries if key not in used | result.dropped.keys()]
    origin = {target: source.place(keys.split(", ")[0]) for target, keys in result.origins.items()}
    build_config(result.values, where=str(file), origin=origin)
    return result


def _carry_same(result: Imported) -> None:
    for key, target in SAME.items():
        if key in result.source.entries:
            value = _scalar(result.source, key)
            if isinstance(value, bool):
                raise ConfigError(f"{result.source.place(key)}: expected a number or a text, found {value}")
            result.carry(target, value, key)


def _carry_data(result: Imported) -> None:
    """Carry the clips: audio or .npy files, and the annotations."""
    source = result.source
    if _is_true(source, "get_npy", default=True):
        _carry_text(result, "audio_path", "data.audio_dir")
        _drop_present(
            result, ("npy_path",), "a stage in between, which prepare does without; data.npy_dir reads such files"
        )
    else:
        _carry_text(result, "npy_path", "data.npy_dir")
        _drop_present(result, ("audio_path",), "get_npy is 0: features are those in npy_path")
    info_path, info_name = _text(source, "info_path"), _text(source, "info_name")
    if info_path and info_name:
        result.carry("data.annotations", str(PurePosixPath(info_path, info_name)), "info_path", "info_name")
    else:
        _drop_present(result, ("info_path", "info_name"), "only together they name the annotation table")


def _carry_shards(result: Imported) -> None:
    """Carry the folder of shards: where ModelZoo's training reads them, which is most often where it wrote them."""
    source = result.source
    read, written = _text(source, "data_dir"), _text(source, "mr_path")
    folder = read or written
    if folder is None:
        _drop_present(result, ("data_dir", "mr_path"), "empty")
        return
    keys = [key for key, value in (("data_dir", read), ("mr_path", written)) if value == folder]
    result.carry("data.records_dir", folder, *keys)
    if "mr_path" not in keys:
        reason = "shards were written there; data.records_dir is where training reads them, data_dir"
        _drop_present(result, ("mr_path",), reason)
    if "data_dir" not in keys:
        _drop_present(result, ("data_dir",), "empty")
    others = [_text(source, key) for key in ("audio_path", "npy_path", "info_path")]
    if folder in others and _is_true(source, "get_mindrecord", default=True):
        result.remarks.append(
            f"{quoted(folder)} holds more than shards: those of ModelZoo in it train as they are (`launch --data`), but "
            "`fcn4dist prepare` writes a folder of its own: give it --output"
        )


def _carry_tags(result: Imported) -> None:
    if "num_classes" not in result.source.entries:
        return
    number = _scalar(result.source, "num_classes")
    if (found := _find_tag_file(result.source.file, number)) is not None:
        tag_file, tags = found
        result.carry("data.tags", str(tag_file), "num_classes")
        result.remarks.append(f"data.tags is {quoted(str(tag_file))}, {_describe_order(tags)}")
    else:
        result.carry("data.tags", number, "num_classes")
        result.remarks.append(
            "data.tags as a number puts the most frequent tag first, ModelZoo's tag.txt the rarest; its checkpoints and shards "
            "need that file: --set data.tags=…/tag.txt"
        )
    result.remarks.append(
        "the split is ours, folder-12-1-3: ModelZoo's is unseeded random rows, in which 95 % of MagnaTagATune's validation clips "
        "share a piece with training clips (data.split: random is like it, with a seed)"
    )


def _find_tag_file(file: Path, number: object) -> tuple[Path, list[str]] | None:
    """Return the file of so many tags beside ModelZoo's config, and its tags; a file that names one twice is none."""
    for name in TAG_FILES:
        found = file.parent / name
        try:
            lines = found.read_text(encoding="utf-8-sig").splitlines() if found.is_file() else []
        except (OSError, UnicodeDecodeError):
            continue
        tags = [tag for line in lines if (tag := line.strip())]
        if len(tags) == len(set(tags)) == number:
            return found, tags
    return None


def _describe_order(tags: list[str]) -> str:
    """Say what is known of the order of `tags`: a list is ModelZoo's own only where it is that, name by name."""
    if tags == list(MODELZOO_TAGS):
        return "in the order of ModelZoo's labels and outputs: the rarest tag first"
    if set(tags) == set(MODELZOO_TAGS):
        return "the tags of ModelZoo's tag.txt in ANOTHER order: its checkpoints and shards need those of the original file"
    return (
        "not ModelZoo's own tags: they must stand in the order of the labels and outputs, which nobody can check here"
    )


def _carry_training(result: Imported) -> None:
    source = result.source
    if "mixed_precision" in source.entries:
        is_mixed = _is_true(source, "mixed_precision", default=False)
        result.carry("train.amp", "auto" if is_mixed else "O0", "mixed_precision")
    folder, model = _text(source, "checkpoint_path"), _text(source, "model_name")
    if _is_true(source, "pre_trained", default=False):
        if not (folder and model):
            raise ConfigError(
                f"{source.place('pre_trained')}: true, but checkpoint_path and model_name do not name a file"
            )
        result.carry(
            "train.init_from", str(PurePosixPath(folder, model)), "pre_trained", "checkpoint_path", "model_name"
        )
    else:
        _drop_present(result, ("pre_trained",), "false: training starts from nothing, as without train.init_from")
        _drop_present(result, ("checkpoint_path",), "checkpoints go into the run's folder: `launch --run-dir DIR`")
        _drop_present(
            result, ("model_name",), "used with pre_trained; a checkpoint is named to `evaluate --checkpoint FILE`"
        )
    if "device_target" in source.entries:
        target = _text(source, "device_target")
        if target == "GPU":
            result.dropped["device_target"] = "GPU: fcn4dist runs on Ascend and CPU, and takes what it finds"
        else:
            result.carry("launch.device_target", target, "device_target")


def _carry_text(result: Imported, key: str, target: str) -> None:
    if value := _text(result.source, key):
        result.carry(target, value, key)
    else:
        _drop_present(result, (key,), "empty")


def _drop_present(result: Imported, keys: tuple[str, ...], reason: str) -> None:
    """Note why the keys that the file has are not carried over; the first reason counts."""
    for key in keys:
        if key in result.source.entries:
            result.dropped.setdefault(key, reason)


def _scalar(source: Source, key: str) -> Any:
    entry = source.entries[key]
    if entry.obstacle or isinstance(entry.value, list):
        raise ConfigError(f"{source.place(key)}: expected one value, found {entry.obstacle or 'a list'}")
    return entry.value


def _text(source: Source, key: str) -> str | None:
    """Return the text of `key`; None where it is not there, or empty."""
    if key not in source.entries:
        return None
    value = _scalar(source, key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError(f"{source.place(key)}: expected a text, found {quoted(str(value))}")
    return value


def _is_true(source: Source, key: str, *, default: bool) -> bool:
    """Return a switch, which is True, False, 1, 0, or one of them in quotes."""
    if key not in source.entries:
        return default
    value = _scalar(source, key)
    switches: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
    if (found := switches.get(str(value).lower())) is None:
        raise ConfigError(f"{source.place(key)}: expected True or False, found {quoted(str(value))}")
    return found
