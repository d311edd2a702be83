"""Read batches of clips from MindRecord shards, in any order that is asked for.

Shards are those of `fcn4dist prepare`, or ModelZoo's own (columns id, feature, label; no manifest).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.manifest import MANIFEST, Manifest, load_manifest
from fcn4dist.data.order import Positions
from fcn4dist.errors import DataError

COLUMNS = ["id", "feature", "label"]
PREFETCH_BATCHES = 4  # held ready by MindSpore's pipeline; its default of 16 is 0.27 GB at 32 clips a batch
SHARD_NAME = re.compile(r"(?P<split>train|val|test)\.mindrecord(?P<number>\d+)")


@dataclass(frozen=True)
class Batch:
    """Clips of one pass."""

    clip_ids: NDArray[np.int32]  # (N,)
    mel_db: NDArray[np.float32]  # (N, 1, n_mels, frames)
    labels: NDArray[np.int32]  # (N, num_tags), 0 or 1


@dataclass(frozen=True)
class RecordSplit:
    """One part (train, val or test) of a prepared data set. Position p is row p of its shards in order."""

    name: str
    files: tuple[Path, ...]
    num_clips: int
    feature_shape: tuple[int, int, int]  # (1, n_mels, frames)
    feature_dtype: str
    tags: tuple[str, ...]

    def iter_batches(self, positions: Positions, batch: int, num_workers: int = 1) -> Iterator[Batch]:
        """Yield the clips at `positions` (one-dimensional, any order, each at most once) in batches; the last may be smaller.

        Memory is constant in the number of batches. Raises DataError when a shard cannot be read.
        """
        if positions.size == 0:  # MindSpore refuses an empty sampler
            return
        ds.config.set_prefetch_size(PREFETCH_BATCHES)
        rows = self._open(COLUMNS, positions, num_workers).batch(batch, drop_remainder=False)
        try:
            for clip_ids, features, labels in rows.create_tuple_iterator(num_epochs=1, output_numpy=True):
                yield Batch(clip_ids, self._decode(features), labels)
        except RuntimeError as error:
            raise DataError(
                f"{self.files[0].parent}: a shard of {self.name!r} cannot be read: {_reason(error)}"
            ) from None

    def load_labels(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the ids (N,) and labels (N, num_tags) of all clips, in the order of positions."""
        rows = self._open(["id", "label"], np.arange(self.num_clips), 1).batch(1024, drop_remainder=False)
        ids, labels = zip(*rows.create_tuple_iterator(num_epochs=1, output_numpy=True), strict=True)
        return np.concatenate(ids), np.concatenate(labels)

    def _open(self, columns: list[str], positions: Positions, num_workers: int) -> Any:
        files = [str(file) for file in self.files]
        sampler = ds.SubsetSampler(positions.tolist())  # reads rows in just this order
        return ds.MindDataset(files, columns, num_parallel_workers=num_workers, sampler=sampler)

    def _decode(self, features: NDArray[Any]) -> NDArray[np.float32]:
        if self.feature_dtype == "float16":  # MindRecord has no float16 arrays: they are stored as bytes
            features = features.view(np.float16)
        return features.reshape(-1, *self.feature_shape).astype(np.float32, copy=False)


def open_split(data_dir: Path, name: str, tags: Sequence[str] | None = None) -> RecordSplit:
    """Open the part `name` (train, val or test) of the data set in `data_dir`.

    `tags` names the label columns of ModelZoo's shards, which do not say: those of its tag.txt, in its order; without it they
    are "tag0", "tag1", ... A manifest has its own. Raises DataError when there are neither manifest nor shards, when the part
    is empty, when rows are missing, or when there are not as many labels as `tags`.
    """
    if (data_dir / MANIFEST).is_file():
        return _split_of_manifest(data_dir, load_manifest(data_dir), name)
    return _split_of_modelzoo(data_dir, name, tags)


def has_split(data_dir: Path, name: str) -> bool:
    """Return whether the data set in `data_dir` has clips in the part `name`."""
    if (data_dir / MANIFEST).is_file():
        return bool(load_manifest(data_dir).shard_files(name))
    return bool(modelzoo_shards(data_dir, name))


def _split_of_manifest(data_dir: Path, manifest: Manifest, name: str) -> RecordSplit:
    files = tuple(data_dir / file for file in manifest.shard_files(name))
    if not files:
        present = ", ".join(sorted({shard.split for shard in manifest.shards}))
        raise DataError(f"{data_dir}: the split {manifest.split.name!r} has no {name} clips; it has {present}")
    num_clips = sum(shard.num_rows for shard in manifest.shards if shard.split == name)
    _check_rows(data_dir, [str(file) for file in files], num_clips)
    return RecordSplit(name, files, num_clips, manifest.feature_shape, manifest.feature_dtype, tuple(manifest.tags))


def _split_of_modelzoo(data_dir: Path, name: str, tags: Sequence[str] | None) -> RecordSplit:
    files = modelzoo_shards(data_dir, name)
    if not files:
        raise DataError(f"{data_dir}: neither {MANIFEST} nor {name}.mindrecord0 here; run `fcn4dist prepare` first")
    try:
        # opened by the first file alone, MindSpore finds the others through its header and misses none of them
        rows = ds.MindDataset(str(files[0]), shuffle=False)
        columns = dict(
            zip(rows.get_col_names(), zip(rows.output_shapes(), rows.output_types(), strict=True), strict=True)
        )
        num_clips = rows.get_dataset_size()
    except RuntimeError as error:
        raise DataError(f"{files[0]}: cannot be opened: {_reason(error)}") from None
    if missing := [column for column in COLUMNS if column not in columns]:
        raise DataError(
            f"{files[0]}: no column {missing[0]!r}; found {', '.join(columns)}; expected {', '.join(COLUMNS)}"
        )
    shape, dtype = columns["feature"]
    if len(shape) != 3 or shape[0] != 1 or dtype != np.float32:
        raise DataError(f"{files[0]}: feature is {dtype} {shape}; expected float32 [1, mel bands, frames]")
    _check_rows(data_dir, [str(file) for file in files], num_clips)
    num_tags = int(np.prod(columns["label"][0]))
    names = tuple(f"tag{i}" for i in range(num_tags)) if tags is None else tuple(tags)
    if len(names) != num_tags:
        raise DataError(
            f"{files[0]}: labels of {num_tags} columns, but {len(names)} tags are named; expected one a column"
        )
    return RecordSplit(name, tuple(files), num_clips, (1, shape[1], shape[2]), "float32", names)


def modelzoo_shards(data_dir: Path, name: str) -> list[Path]:
    """Return `name`.mindrecord0, 1, ... in the order of their numbers."""
    found = {}
    for file in data_dir.glob(f"{name}.mindrecord*"):
        if match := SHARD_NAME.fullmatch(file.name):
            found[int(match["number"])] = file
    return [found[number] for number in sorted(found)]


def _check_rows(data_dir: Path, files: list[str], expected: int) -> None:
    try:
        found = ds.MindDataset(files, ["id"], shuffle=False).get_dataset_size()
    except RuntimeError as error:
        raise DataError(f"{data_dir}: shards cannot be opened: {_reason(error)}") from None
    if found != expected:
        raise DataError(
            f"{data_dir}: the shards hold {found} rows, expected {expected}: a shard is missing or replaced"
        )


def _reason(error: Exception) -> str:
    """Return the line that says what is wrong; MindSpore frames it with several that do not."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    told = [
        line
        for line in lines
        if line and not line.startswith(("Exception thrown", "Dataset Pipeline Error", "C++ Call"))
    ]
    return (told or lines or ["unknown"])[0].removeprefix("[ERROR] ")
