"""Read batches of clips from MindRecord shards, in any order that is asked for.

Shards are those of `fcn4dist prepare`, or ModelZoo's own (columns id, feature, label; no manifest).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.manifest import MANIFEST, Manifest, load_manifest
from fcn4dist.data.order import Positions
from fcn4dist.data.row_format import RowFormat
from fcn4dist.data.shard_index import ShardIndex, load_shard_index
from fcn4dist.errors import DataError

SHARD_NAME = re.compile(r"(?P<split>train|val|test)\.mindrecord(?P<number>\d+)")


@dataclass(frozen=True)
class Batch:
    """Clips of one pass."""

    clip_ids: NDArray[np.int32]  # (N,)
    mel_db: NDArray[np.float32]  # (N, 1, n_mels, frames)
    labels: NDArray[np.int32]  # (N, num_tags), 0 or 1


@dataclass(frozen=True, eq=False)
class RecordSplit:
    """One part (train, val or test) of a prepared data set. Position p is row p of its shards in order."""

    name: str
    shards: tuple[ShardIndex, ...]
    row_format: RowFormat
    tags: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The shards' files, in order."""
        return tuple(shard.file for shard in self.shards)

    @property
    def num_clips(self) -> int:
        """Rows of all shards."""
        return len(self._clip_ids)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(1, n_mels, frames)."""
        return self.row_format.feature_shape

    def iter_batches(self, positions: Positions, batch: int) -> Iterator[Batch]:
        """Yield the clips at `positions` (one-dimensional, any order) in batches; the last may be smaller.

        One batch is read ahead in a thread while the caller works with the one before. Memory is constant in the number of
        batches. Raises DataError when a shard cannot be read.
        """
        parts = [positions[start : start + batch] for start in range(0, len(positions), batch)]
        if not parts:
            return
        with ExitStack() as stack:
            files = [stack.enter_context(_open(file)) for file in self.files]
            thread = stack.enter_context(ThreadPoolExecutor(1, "read-ahead"))
            ahead = thread.submit(self._read, files, parts[0])
            for part in parts[1:]:
                ready = ahead.result()
                ahead = thread.submit(self._read, files, part)
                yield ready
            yield ahead.result()

    def load_labels(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the ids (N,) and labels (N, num_tags) of all clips, in the order of positions. Raises DataError."""
        tails = np.zeros((self.num_clips, self.row_format.tail_bytes), np.uint8)
        unread = iter(tails)
        for shard in self.shards:
            with _open(shard.file) as file:
                for end in shard.ends.tolist():
                    _read_into([next(unread)], file, end - self.row_format.tail_bytes)
        return self._clip_ids, self._labels(np.arange(self.num_clips), tails)

    @cached_property
    def _clip_ids(self) -> NDArray[np.int32]:
        return np.concatenate([shard.clip_ids for shard in self.shards])

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return of every position the number of its shard and the byte where its row begins there."""
        sizes = [len(shard.begins) for shard in self.shards]
        return np.repeat(np.arange(len(sizes)), sizes), np.concatenate([shard.begins for shard in self.shards])

    def _read(self, files: list[FileIO], positions: Positions) -> Batch:
        row_format = self.row_format
        heads = np.empty((len(positions), len(row_format.head)), np.uint8)
        features = np.empty((len(positions), *row_format.feature_shape), np.float32)
        tails = np.empty((len(positions), row_format.tail_bytes), np.uint8)
        half = np.empty(row_format.feature_shape, np.float16) if row_format.feature_dtype == "float16" else None
        shards, begins = (of_all[positions].tolist() for of_all in self._places)
        row_bytes = row_format.stored_bytes
        for row, (shard, begin) in enumerate(zip(shards, begins, strict=True)):
            target: Any = features[row] if half is None else half
            if (found := _read_into([heads[row], target, tails[row]], files[shard], begin)) != row_bytes:
                raise self._damaged(positions[row], f"it ends after {found} of {row_bytes} bytes")
            if half is not None:
                features[row] = half
        self._check_bytes(positions, heads, row_format.head)
        return Batch(self._clip_ids[positions], features, self._labels(positions, tails))

    def _labels(self, positions: Positions, tails: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Return the labels in the ends of rows."""
        length = len(self.row_format.label_head)
        self._check_bytes(positions, tails[:, :length], self.row_format.label_head)
        return tails[:, length:].view(np.int8).astype(np.int32)

    def _check_bytes(self, positions: Positions, found: NDArray[np.uint8], expected: bytes) -> None:
        """Raise DataError where a row's lengths are not those of the format."""
        wrong = (found != np.frombuffer(expected, np.uint8)).any(axis=1)
        if wrong.any():
            row = wrong.argmax()
            raise self._damaged(positions[row], f"lengths {found[row].tobytes().hex()}; expected {expected.hex()}")

    def _damaged(self, position: np.int64, reason: str) -> DataError:
        file = self.files[self._places[0][position]]
        return DataError(f"{file}: clip {self._clip_ids[position]} is damaged: {reason}")


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
    shards = [shard for shard in manifest.shards if shard.split == name]
    if not shards:
        present = ", ".join(sorted({shard.split for shard in manifest.shards}))
        raise DataError(f"{data_dir}: the split {manifest.split.name!r} has no {name} clips; it has {present}")
    row_format = RowFormat(manifest.feature_shape, manifest.feature_dtype, len(manifest.tags))
    indexes = tuple(load_shard_index(data_dir / shard.file) for shard in shards)
    split = _build_split(name, indexes, row_format, tuple(manifest.tags))
    if split.num_clips != (expected := sum(shard.num_rows for shard in shards)):
        raise DataError(
            f"{data_dir}: the shards hold {split.num_clips} rows, {MANIFEST} says {expected}: one is replaced"
        )
    return split


def _split_of_modelzoo(data_dir: Path, name: str, tags: Sequence[str] | None) -> RecordSplit:
    files = modelzoo_shards(data_dir, name)
    if not files:
        raise DataError(f"{data_dir}: neither {MANIFEST} nor {name}.mindrecord0 here; run `fcn4dist prepare` first")
    shards = tuple(map(load_shard_index, files))
    present, written = ({file.name for file in files}, set(shards[0].siblings))
    if present != written:
        found, expected = (", ".join(sorted(names)) for names in (present, written))
        raise DataError(
            f"{data_dir}: {found} here; {files[0].name} was written with {expected}: a shard is missing or left over"
        )
    feature, label = (shards[0].columns[column].shape or () for column in ("feature", "label"))
    if len(feature) != 3 or feature[0] != 1 or min(feature) < 1:
        found = str(shards[0].columns["feature"])
        raise DataError(f"{files[0]}: feature is {found}; expected float32 [1, mel bands, frames]")
    if len(label) != 1 or label[0] < 1:
        raise DataError(f"{files[0]}: label is {shards[0].columns['label']}; expected int32 [number of tags]")
    row_format = RowFormat((1, feature[1], feature[2]), "float32", label[0])
    names = tuple(f"tag{i}" for i in range(label[0])) if tags is None else tuple(tags)
    if len(names) != label[0]:
        raise DataError(
            f"{files[0]}: labels of {label[0]} columns, but {len(names)} tags are named; expected one a column"
        )
    return _build_split(name, shards, row_format, names)


def _build_split(
    name: str, shards: tuple[ShardIndex, ...], row_format: RowFormat, tags: tuple[str, ...]
) -> RecordSplit:
    for shard in shards:
        shard.check_format(row_format)
    return RecordSplit(name, shards, row_format, tags)


def _open(file: Path) -> FileIO:
    try:
        return FileIO(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be opened: {error.strerror}") from None


def _read_into(buffers: list[Any], file: FileIO, begin: int) -> int:
    """Fill `buffers` one after the other from byte `begin` on; return the bytes read."""
    try:
        return os.preadv(file.fileno(), buffers, begin)
    except OSError as error:  # a disk or a network share that fails
        raise DataError(f"{file.name}: cannot be read: {error.strerror}") from None


def modelzoo_shards(data_dir: Path, name: str) -> list[Path]:
    """Return `name`.mindrecord0, 1, ... in the order of their numbers."""
    found = {}
    for file in data_dir.glob(f"{name}.mindrecord*"):
        if match := SHARD_NAME.fullmatch(file.name):
            found[int(match["number"])] = file
    return [found[number] for number in sorted(found)]
