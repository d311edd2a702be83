"""The keys of a config: their types, defaults and one line each, and the names that other programs have for them."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from fcn4dist.config.schema import MOST, RunConfig, Section, list_names

# What ModelZoo's FCN-4, PyTorch, Lightning, Hugging Face, Keras and timm call it, in lower case, and what it is here.
# ModelZoo's keys are also in modelzoo_mapping.py, which carries a whole config over.
OTHER_NAMES = {
    "accelerator": "launch.device_target",
    "accumulate_grad_batches": "train.device_batch",
    "adam_weight_decay": "train.weight_decay",
    "amp_level": "train.amp",
    "annotation_file": "data.annotations",
    "audio_path": "data.audio_dir",
    "auto_mixed_precision": "train.amp",
    "batch": "train.global_batch",
    "batch_size": "train.global_batch",
    "bf16": "train.amp_dtype",
    "bs": "train.global_batch",
    "check_val_every_n_epoch": "evaluate.every_epochs",
    "ckpt_path": "train.init_from",
    "classes": "data.tags",
    "clip_grad": "train.clip_norm",
    "clip_grad_norm": "train.clip_norm",
    "data_dir": "data.records_dir",
    "data_path": "data.records_dir",
    "dataloader_num_workers": "data.num_workers",
    "dataset_path": "data.records_dir",
    "device": "launch.device_target",
    "device_num": "launch.devices",
    "drop_rate": "model.dropout",
    "early_stopping_patience": "train.early_stop_epochs",
    "ema": "train.ema_decay",
    "epoch_num": "train.epochs",
    "epoch_size": "train.epochs",
    "eval_batch_size": "evaluate.batch",
    "eval_split": "evaluate.split",
    "every_n_epochs": "evaluate.every_epochs",
    "every_n_train_steps": "checkpoint.every_steps",
    "fp16": "train.amp",
    "grad_accum_steps": "train.device_batch",
    "grad_clip": "train.clip_norm",
    "gradient_accumulation_steps": "train.device_batch",
    "gradient_clip_val": "train.clip_norm",
    "hop_length": "mel.hop_samples",
    "info_path": "data.annotations",
    "init_scale": "train.loss_scale",
    "initial_lr": "train.lr",
    "keep_checkpoint_max": "checkpoint.keep",
    "label_list": "data.tags",
    "learning_rate": "train.lr",
    "loss_scale_value": "train.loss_scale",
    "lr_scheduler": "train.schedule",
    "lr_scheduler_type": "train.schedule",
    "max_epoch": "train.epochs",
    "max_epochs": "train.epochs",
    "max_grad_norm": "train.clip_norm",
    "micro_batch_size": "train.device_batch",
    "mixed_precision": "train.amp",
    "mixup_alpha": "augment.mixup",
    "mr_path": "data.records_dir",
    "n_epochs": "train.epochs",
    "n_gpus": "launch.devices",
    "nproc_per_node": "launch.devices",
    "npy_path": "data.npy_dir",
    "num_classes": "data.tags",
    "num_devices": "launch.devices",
    "num_epochs": "train.epochs",
    "num_gpus": "launch.devices",
    "num_labels": "data.tags",
    "num_mels": "mel.n_mels",
    "num_parallel_workers": "data.num_workers",
    "num_train_epochs": "train.epochs",
    "num_warmup_steps": "train.warmup_steps",
    "opt": "train.optimizer",
    "optim": "train.optimizer",
    "patience": "train.early_stop_epochs",
    "per_device_eval_batch_size": "evaluate.batch",
    "per_device_train_batch_size": "train.device_batch",
    "pre_trained": "train.init_from",
    "precision": "train.amp",
    "pretrained": "train.init_from",
    "random_seed": "train.seed",
    "random_state": "train.seed",
    "sample_rate": "mel.sample_rate_hz",
    "save_checkpoint_steps": "checkpoint.every_steps",
    "save_step": "checkpoint.every_steps",
    "save_steps": "checkpoint.every_steps",
    "save_top_k": "checkpoint.keep",
    "save_total_limit": "checkpoint.keep",
    "scheduler": "train.schedule",
    "seed": "train.seed",
    "sr": "mel.sample_rate_hz",
    "target": "launch.device_target",
    "train_batch_size": "train.global_batch",
    "val_check_interval": "evaluate.every_epochs",
    "warmup": "train.warmup_steps",
    "wd": "train.weight_decay",
    "win_length": "mel.n_fft",
    "workers": "data.num_workers",
}
CLOSE, CLOSER = 0.75, 0.85  # of difflib: a key among those of its section; a name among all, where chance finds more


@dataclass(frozen=True)
class Key:
    """One key of the config."""

    name: str  # "train.lr"
    type: str  # in words: "number > 0"
    default: Any  # a JSON value
    description: str
    choices: tuple[str, ...]  # the names that it may have, where it has some

    @property
    def text(self) -> str:
        """Name and line in lower case, to look for words in."""
        return f"{self.name} {self.description}".lower()

    @property
    def shown_default(self) -> str:
        """The default as a YAML file has it."""
        return (
            "null"
            if self.default is None
            else self.default
            if isinstance(self.default, str)
            else json.dumps(self.default)
        )


def list_keys() -> list[Key]:
    """Return all keys, section by section, in the order of `config show`."""
    defaults = RunConfig().model_dump(mode="json")
    return [
        Key(
            f"{section}.{name}",
            _describe_type(field.annotation, field.metadata),
            defaults[section][name],
            field.description or "",
            _choices(field),
        )
        for section, fields in _sections().items()
        for name, field in fields.items()
    ]


def format_keys(keys: list[Key]) -> str:
    """Return the keys as text: a line with type and default, and one that says what it is."""
    lines = []
    for key in keys:
        lines += [f"{key.name} = {key.shown_default}  ({key.type})", f"    {key.description}"]
    return "\n".join(lines)


def to_json(keys: list[Key]) -> list[dict[str, Any]]:
    """Return the keys as JSON values."""
    return [asdict(key) for key in keys]


def format_markdown(keys: list[Key]) -> str:
    """Return docs/configuration.md: a table a section."""
    lines = HEAD.splitlines()
    section = ""
    for key in keys:
        if (own := key.name.partition(".")[0]) != section:
            section = own
            about = (RunConfig.model_fields[own].annotation.__doc__ or "").splitlines()[0]
            lines += ["", f"## {own}", "", about, "", "| key | type | default | |", "|---|---|---|---|"]
        kind = key.type.replace("|", "\\|")
        lines.append(f"| `{key.name}` | {kind} | `{key.shown_default}` | {key.description} |")
    return "\n".join(lines) + "\n"


HEAD = """\
# Configuration

<!-- Written by `fcn4dist config keys --markdown >docs/configuration.md`; change fcn4dist/config/schema.py instead. -->

Every key, its type, its default and one line. A config is a YAML file of sections (`--config FILE`); `--set section.key=value`
changes one key, and the options of a command come last. `null` means not set. Names to choose from may be written in any case.
A path is relative to the working directory.

    fcn4dist config show --config my.yaml --set train.lr=0.001    # what would be used
    fcn4dist config keys                                          # this list; --json for programs

A key that does not exist is refused with the one that was probably meant, also where it is the name of ModelZoo, PyTorch
Lightning or another program: `batch_size` is `train.global_batch`."""


def suggest(path: list[str]) -> str:
    """Return what to say after "unknown key" of a section, or of section and key: what was probably meant, or what there is."""
    sections = _sections()
    near = difflib.get_close_matches(path[0].lower(), sections, n=1)
    if len(path) == 1 and near:
        return f"; did you mean {near[0]}?"
    if found := find_key(".".join(path)):
        return f"; did you mean {found}?"
    known = sections.get(path[0])
    return f"; {path[0]} has {', '.join(known)}" if known else f"; sections are {', '.join(sections)}"


def find_key(text: str) -> str | None:
    """Return the key that was probably meant by `text`, "section.key" or a key alone; none where nothing is near."""
    section, _, name = text.lower().replace("-", "_").rpartition(".")
    full = f"{section}.{name}"
    keys = {f"{own}.{key}": key for own, fields in _sections().items() for key in fields}
    same = [key for key, own in keys.items() if own == name]
    if name in OTHER_NAMES and not (section and same):
        return OTHER_NAMES[name]
    if same:
        return difflib.get_close_matches(full, same, n=1, cutoff=0)[0]
    here = [key for key in keys if key.startswith(f"{section}.")]
    if near := difflib.get_close_matches(full, here, n=1, cutoff=CLOSE):
        return near[0]
    others = OTHER_NAMES if here else {own: key for key, own in keys.items()} | OTHER_NAMES
    theirs = difflib.get_close_matches(name, others, n=1, cutoff=CLOSER)
    return others[theirs[0]] if theirs else None


def _sections() -> dict[str, dict[str, FieldInfo]]:
    """Return section -> key -> field."""
    types: dict[str, type[Section]] = {name: field.annotation for name, field in RunConfig.model_fields.items()}  # type: ignore[misc]
    return {name: kind.model_fields for name, kind in types.items()}


def _choices(field: FieldInfo) -> tuple[str, ...]:
    if field.annotation is bool:
        return ("true", "false")
    return list_names(field.annotation)


NAMES: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true|false",
    Path: "path",
    NoneType: "null",
}


def _describe_type(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    """Return a type in words: "integer > 0 or null", "auto|Ascend|CPU"."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe_type(parts[0], parts[1:])
    if origin is Literal:
        return "|".join(map(str, parts))
    if origin in (Union, UnionType):
        names = [str(name) for part in parts if get_origin(part) is Literal for name in get_args(part)]
        others = [_describe_type(part) for part in parts if get_origin(part) is not Literal]
        return " or ".join(["|".join(names)] * bool(names) + others)
    if origin is list:
        return f"list of {_describe_type(parts[0])}"
    if origin is tuple:
        return f"[{', '.join(_describe_type(part) for part in parts)}]"
    return NAMES[annotation] + ",".join(bound for item in metadata if (bound := _describe_bound(item)))


def _describe_bound(item: Any) -> str:
    """Return a bound in words; nothing for other constraints, and for what any whole number of 64 bits keeps."""
    if isinstance(item, FieldInfo):
        return ",".join(bound for inner in item.metadata if (bound := _describe_bound(inner)))
    signs = ((Gt, ">", "gt"), (Ge, ">=", "ge"), (Lt, "<", "lt"), (Le, "<=", "le"))
    found = [(sign, getattr(item, attribute)) for kind, sign, attribute in signs if isinstance(item, kind)]
    return "".join(f" {sign} {bound}" for sign, bound in found if abs(bound) != MOST)
