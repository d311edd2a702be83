"""What a config says that a run trains on: a prepared set, audio to prepare, or the embedded demo set. No NumPy here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fcn4dist.config import RunConfig
from fcn4dist.errors import ConfigError, DataError

Source = Literal["shards", "audio", "demo"]
NAMING = ("records_dir", "audio_dir", "npy_dir", "annotations")  # the keys of `data` that name data
NOT_NAMED = (
    "no data named: give --data DIR, or data.audio_dir and data.annotations; or --demo for the embedded demo set"
)

NOTHING_TO_PREPARE = "no audio named: give --audio-dir DIR (or --npy-dir DIR) and --annotations PLACE"
OPTIONS = {"data.audio_dir": "--audio-dir DIR (or --npy-dir DIR)", "data.annotations": "--annotations PLACE"}


def says_nothing_of_data(config: RunConfig) -> bool:
    """Return whether no key of `data` or `model` was given, so that a run without a config file may be the demo."""
    return not (config.data.model_fields_set or config.model.model_fields_set)


def check_source(config: RunConfig, *, demo: bool = False, num_hosts: int = 1, is_preparing: bool = False) -> Source:
    """Return what the config trains on; `demo`: the embedded demo set, since the user asked for it or gave nothing at all.

    `is_preparing`: messages name the options of `prepare`, which has no --data and no --demo.

    Every command asks this, so that none calls ready what another refuses. Raises ConfigError where no data is named, half of
    it, or the demo's and another; DataError where what is named is not there.
    """
    data = config.data
    named = [key for key in NAMING if getattr(data, key) is not None]
    if demo:
        if named:
            raise ConfigError(f"--demo: data.{named[0]} names {getattr(data, named[0])}; leave one of the two out")
        return "demo"
    if not named:
        raise ConfigError(NOTHING_TO_PREPARE if is_preparing else NOT_NAMED)
    if data.records_dir is not None:
        check_set_folder(data.records_dir)
        return "shards"
    if data.source_dir is None or data.annotations is None:
        missing = "data.audio_dir" if data.source_dir is None else "data.annotations"
        other = f"give {OPTIONS[missing]}" if is_preparing else "or use --data DIR"
        raise ConfigError(f"{missing}: not set; audio needs data.audio_dir and data.annotations; {other}")
    if num_hosts > 1:
        raise ConfigError(
            "data.records_dir: not set; over several hosts run `fcn4dist prepare` once, and name its folder on all"
        )
    check_audio_folder(data.source_dir, data.source_suffix)
    if not data.annotations.exists():
        raise DataError(f"{data.annotations}: no such file or folder (data.annotations)")
    return "audio"


def check_set_folder(folder: Path) -> None:
    """Raise DataError where there is no folder of a prepared data set."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one that `fcn4dist prepare` wrote")


def check_audio_folder(folder: Path, suffix: str | None) -> None:
    """Raise DataError where there is no folder of audio, or of files that end in `suffix`."""
    if not folder.is_dir():
        what = "audio folder (data.audio_dir)" if suffix is None else f"folder of {suffix} files (data.npy_dir)"
        raise DataError(f"{folder}: no such {what}")
