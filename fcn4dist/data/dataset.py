"""A prepared data set, opened once and handed down: its tags, parts, clips, labels, groups and features.

`fcn4dist prepare` writes shards, a manifest and clips.tsv. ModelZoo's own shards (columns id, feature, label) have neither: what
they do not say is unknown, and their ids and labels are read from the rows. MindSpore loads when rows are read, not before.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig
from fcn4dist.data.annotations.magnatagatune import parse_groups
from fcn4dist.data.leaks import LeakReport
from fcn4dist.data.manifest import (
    CLIPS,
    FORMAT_VERSION,
    MANIFEST,
    ClipTable,
    LedgerClip,
    Manifest,
    load_clip_tables,
    load_manifest,
)
from fcn4dist.data.order import Positions
from fcn4dist.data.parts import LEVELS, SPLITS, Level
from fcn4dist.data.shards import RowFormat, ShardHeader, in_words, iter_rows, load_header
from fcn4dist.data.source import check_set_folder
from fcn4dist.errors import DataError
from fcn4dist.files import digest_file

SHARD_NAME = re.compile(r"(train|val|test)\.mindrecord(\d+)")
UNKNOWN_SPLIT = "unknown (shards without a manifest)"
READ_ROWS = 64  # at once, where all rows are read
SHORT, LONG = 0.8, 1.5  # a median clip under or over so many times what the network hears is worth a word


@dataclass(frozen=True)
class Batch:
    """Clips of one pass."""

    clip_ids: NDArray[np.int32]  # (N,)
    mel_db: NDArray[np.float32]  # (N, 1, n_mels, stored frames)
    labels: NDArray[np.int32]  # (N, num_tags): 1, 0, or -1 where it is not known
    sound_frames: NDArray[np.int64]  # (N,), of the stored ones: the others, behind the end of a piece, are silence

    def check_finite(self, where: Path) -> None:
        """Raise DataError naming the first clip with a feature that is no number; `where` is the data set's folder."""
        is_finite = np.isfinite(self.mel_db)
        if not is_finite.all():
            clip = int(np.flatnonzero(~is_finite.all(axis=(1, 2, 3)))[0])
            raise DataError(
                f"{where}: clip {self.clip_ids[clip]}: {int((~is_finite[clip]).sum())} of its features are NaN or infinite; "
                "prepare the data again, without it or from whole audio"
            )


@dataclass(frozen=True, eq=False)
class Split:
    """One part (train, val or test) of a data set. Position p is row p of its shards in order."""

    name: str
    files: tuple[Path, ...]
    row_format: RowFormat
    tags: tuple[str, ...]
    mel: MelConfig | None  # None: not known
    num_clips: int
    table: ClipTable | None  # in the order of positions; None: to be read from the rows

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(1, n_mels, stored frames)."""
        return self.row_format.feature_shape

    @property
    def num_frames(self) -> int:
        """Frames that the network hears at once: those of mel.clip_s, or all that are stored."""
        return self.feature_shape[2] if self.mel is None else min(self.mel.num_frames, self.feature_shape[2])

    @property
    def clip_ids(self) -> NDArray[np.int32]:
        """Ids (N,) in the order of positions."""
        return self._rows[0]

    @property
    def labels(self) -> NDArray[np.int8]:
        """Labels (N, num_tags): 1, 0, or -1 where it is not known."""
        return self._rows[1]

    @property
    def groups(self) -> dict[Level, NDArray[np.str_]]:
        """Names (N,) of each clip's track, album and artist, as far as the data set knows them; "" where it does not."""
        return {} if self.table is None else {level: np.array(names) for level, names in self.table.groups.items()}

    def check_positives(self) -> None:
        """Raise DataError where no clip has any tag: a network would learn to say nothing."""
        if not (self.labels == 1).any():
            raise DataError(f"{self.files[0].parent}: none of the {self.num_clips} clips of {self.name} has a tag")

    @cached_property
    def sound_frames(self) -> NDArray[np.int64]:
        """How many of the stored frames are sound (N,)."""
        stored = self.feature_shape[2]
        if self.mel is None or self.table is None:
            return np.full(self.num_clips, stored)
        rate_hz, hop = self.mel.sample_rate_hz, self.mel.hop_samples
        stored_s = stored * hop / rate_hz  # all of it, where a clip's length is not known
        durations_s = np.fmin(self.table.durations_s, stored_s)
        return np.minimum(stored, 1 + durations_s * rate_hz // hop).astype(np.int64)

    def read(self, positions: Positions | Sequence[int]) -> NDArray[np.float32]:
        """Return the features at `positions` (n,), any order, also repeated: (n, 1, n_mels, stored frames), dB.

        Raises DataError where a shard cannot be read, IndexError for a position that is not there.
        """
        wanted, place = np.unique(np.asarray(positions, np.int64), return_inverse=True)
        batches = [batch.mel_db for batch in self.iter_batches(wanted, READ_ROWS)]
        return np.concatenate(batches)[place] if batches else np.empty((0, *self.feature_shape), np.float32)

    def iter_batches(self, positions: Positions, batch: int) -> Iterator[Batch]:
        """Yield the clips at `positions` (n,), each at most once, in any order, in batches; the last may be smaller.

        A batch or two are read ahead while the caller works. Raises DataError when a shard cannot be read or holds other clips
        than clips.tsv says, IndexError for a position that is not there.
        """
        if not len(positions):
            return
        if not 0 <= positions.min() <= positions.max() < self.num_clips:  # MindDataset would begin again at 0
            raise IndexError(
                f"positions {positions.min()} to {positions.max()}; {self.name} has {self.num_clips} clips"
            )
        start = 0
        for rows in iter_rows(self.files, positions, batch):
            part = positions[start : start + batch]
            start += batch
            clip_ids = rows["id"].astype(np.int32)
            if self.table is not None and (wrong := np.flatnonzero(clip_ids != self.table.clip_ids[part])).size:
                found, expected = clip_ids[wrong[0]], self.table.clip_ids[part[wrong[0]]]
                raise DataError(
                    f"{self.files[0].parent}: row {part[wrong[0]]} of {self.name} is clip {found}, clips.tsv says "
                    f"{expected}: a shard is replaced"
                )
            features = self.row_format.decode(rows["feature"])
            yield Batch(clip_ids, features, rows["label"].astype(np.int32), self.sound_frames[part])

    def iter_pairs(self, positions: Positions, partners: Positions, batch: int) -> Iterator[tuple[Batch, Batch]]:
        """Yield the clips at `positions` (n,) in batches, as `iter_batches`, each with those at `partners` (n,) beside it.

        For mixup: the partners are read a second time by a reader of their own. Raises as `iter_batches` does.
        """
        assert len(partners) == len(positions), "each clip has one partner"
        yield from zip(self.iter_batches(positions, batch), self.iter_batches(partners, batch), strict=True)

    @cached_property
    def _rows(self) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Ids and labels: clips.tsv's, or read from all rows where there is none."""
        if self.table is not None:
            return self.table.clip_ids, self.table.labels
        rows = list(iter_rows(self.files, None, READ_ROWS, ("id", "label")))
        labels = np.concatenate([batch["label"] for batch in rows])
        if not np.isin(labels, (-1, 0, 1)).all():
            found = labels[~np.isin(labels, (-1, 0, 1))][0]
            raise DataError(
                f"{self.files[0].parent}: a label of {self.name} is {found}; expected 0, 1, or -1 for unknown"
            )
        return np.concatenate([batch["id"] for batch in rows]).astype(np.int32), labels.astype(np.int8)


class DataSet:
    """A data set in a folder; `open_dataset` makes it."""

    def __init__(self, path: Path, manifest: Manifest | None, tags: Sequence[str] | None) -> None:
        self.path = path
        self.manifest = manifest  # None: ModelZoo's bare shards
        self._given_tags = tags
        self._splits: dict[str, Split] = {}

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags in the order of the labels; tag0, tag1, ... where nobody named those of bare shards. Raises DataError."""
        if self.manifest is not None:
            return tuple(self.manifest.tags)
        return self.split(self.parts[0]).tags

    @property
    def mel(self) -> MelConfig | None:
        """What the features are; None where bare shards do not say."""
        return None if self.manifest is None else self.manifest.mel

    @property
    def split_name(self) -> str:
        """The split's name, as in data.split."""
        return UNKNOWN_SPLIT if self.manifest is None else self.manifest.split.name

    @property
    def parts(self) -> list[str]:
        """The parts that have clips."""
        return [part for part in SPLITS if self._shard_files(part)]

    @property
    def clip_lists(self) -> dict[str, str]:
        """Checksum of each part's clip list; none of bare shards, which have no list."""
        splits = {} if self.manifest is None else self.manifest.splits
        return {part: counts.clip_list_sha256 for part, counts in splits.items()}

    @property
    def positives(self) -> list[int] | None:
        """Clips a tag over all parts; None where bare shards do not say."""
        return None if self.manifest is None else self.manifest.positives

    @property
    def skipped(self) -> list[LedgerClip]:
        """The clips that were left out, with the reason."""
        return [] if self.manifest is None else self.manifest.skipped

    @property
    def noted(self) -> list[LedgerClip]:
        """The clips that were used although something is odd about them."""
        return [] if self.manifest is None else self.manifest.noted

    @property
    def leaks(self) -> LeakReport | None:
        """What the parts have in common; None where it is not known."""
        return None if self.manifest is None else self.manifest.leaks

    @property
    def length_note(self) -> str | None:
        """What to say where most clips are much shorter or longer than what the network hears at once."""
        if self.mel is None:
            return None
        lengths = [table.durations_s for table in self._tables.values()]
        return describe_lengths(np.concatenate(lengths) if lengths else np.empty(0), self.mel)

    def num_rows(self, part: str) -> int:
        """Clips of a part; 0 where it has none. Raises DataError for damaged bare shards."""
        if self.manifest is not None:
            return self.manifest.splits[part].num_clips if part in self.manifest.splits else 0
        return sum(load_header(file).num_rows for file in self._shard_files(part))

    def check_part(self, part: str, key: str) -> None:
        """Raise DataError where `part`, which `key` asks for, has no clips."""
        if part not in self.parts:
            raise DataError(
                f"{key}: {part}, but the split {self.split_name!r} of {self.path} has no {part} clips; it has "
                f"{', '.join(self.parts) or 'none at all'}: name one of these, or prepare with a split that has a {part} part"
            )

    def split(self, part: str) -> Split:
        """Return the part `part` (train, val or test).

        Raises DataError where it has no clips, or where a shard is missing, damaged or of another data set.
        """
        if part not in self._splits:
            self._splits[part] = self._open(part)
        return self._splits[part]

    def check(self, verify: Literal["digest", "size"] = "size", parts: Iterable[str] = SPLITS) -> None:
        """Check that every shard of `parts` is there with the size, or the content, that the manifest says.

        Raises DataError naming the file, what was found and what was expected.
        """
        for shard in [] if self.manifest is None else self.manifest.shards:
            if shard.split not in parts:
                continue
            file, index = self.path / shard.file, self.path / f"{shard.file}.db"
            for needed in (file, index):
                if not needed.is_file():
                    raise DataError(f"{needed}: missing; {MANIFEST} lists it. Run `fcn4dist prepare` again")
            if (found := file.stat().st_size) != shard.num_bytes:
                raise DataError(f"{file}: {found} bytes, {MANIFEST} says {shard.num_bytes}: truncated or replaced")
            if verify == "digest":
                for path, expected in ((file, shard.sha256), (index, shard.index_sha256)):
                    if (digest := digest_file(path)) != expected:
                        raise DataError(f"{path}: damaged: SHA-256 {digest[:12]}…, {MANIFEST} says {expected[:12]}…")

    def identity(self) -> dict[str, Any]:
        """Return what two copies of this data set must have in common, as JSON values.

        Of a prepared set: clips, labels and features of every part, tags, and rows a shard. Not the shards' digests, since
        MindRecord promises no reproducible bytes. Of bare shards: names and sizes.
        """
        if self.manifest is None:
            files = [file for part in SPLITS for file in self._shard_files(part)]
            return {"shards": sorted([file.name, file.stat().st_size] for file in files)}
        values = self.manifest.model_dump(
            mode="json", include={"mel", "feature_dtype", "feature_shape", "tags", "split", "splits"}
        )
        return {**values, "shards": [[shard.file, shard.num_rows] for shard in self.manifest.shards]}

    def train_checksum(self) -> str:
        """Return a checksum of what a run trains on: the clips in their order, their labels, features and tags."""
        data = self.identity()
        shards = [shard for shard in data["shards"] if shard[0].startswith("train.")]
        facts: dict[str, Any] = {"shards": shards}
        if "splits" in data:
            train = data["splits"].get("train") or {}
            facts = {"clips": train.get("clip_list_sha256"), "tags": data["tags"], "rows": [rows for _, rows in shards]}
            if train.get("features_sha256"):  # else prepared by an older fcn4dist
                facts |= {key: train[key] for key in ("labels_sha256", "features_sha256")}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def groups_of(self, clip_ids: NDArray[np.integer[Any]]) -> NDArray[np.str_] | None:
        """Return the group (N,) of each clip that counts as one draw: its track, else its album, else its artist.

        None where the data set knows none of them. Raises DataError for a clip that is not listed.
        """
        tables = self._tables.values()
        level = next((level for level in LEVELS if any(level in table.groups for table in tables)), None)
        if level is None:
            return None
        names: dict[int, str] = {}
        for table in tables:
            known = table.groups.get(level) or [""] * len(table.paths)
            names.update(zip(table.clip_ids.tolist(), known, strict=True))
        if (unlisted := next((clip_id for clip_id in clip_ids.tolist() if clip_id not in names), None)) is not None:
            raise DataError(f"{self.path}: clip {unlisted} is not in its clips.tsv; the list is of another data set")
        return np.array([names[clip_id] or f"clip {clip_id}" for clip_id in clip_ids.tolist()])

    @property
    def tables(self) -> dict[str, ClipTable]:
        """The clips of each part by clips.tsv; empty for bare shards. Raises DataError."""
        return dict(self._tables)

    @cached_property
    def _tables(self) -> dict[str, ClipTable]:
        if self.manifest is None:
            return {}
        is_older = self.manifest.format_version < FORMAT_VERSION
        if is_older and not (self.path / CLIPS).is_file():
            return {}
        tables = load_clip_tables(self.path, len(self.manifest.tags))
        if is_older:  # groups were read off the paths then
            for table in tables.values():
                table.groups.update(parse_groups(table.paths) or {})
        return {str(part): table for part, table in tables.items()}

    def _shard_files(self, part: str) -> list[Path]:
        if self.manifest is not None:
            return [self.path / shard.file for shard in self.manifest.shards if shard.split == part]
        found = {}
        for file in self.path.glob(f"{part}.mindrecord*"):
            if match := SHARD_NAME.fullmatch(file.name):
                found[int(match[2])] = file
        return [found[number] for number in sorted(found)]

    def _open(self, part: str) -> Split:
        files = self._shard_files(part)
        if not files:
            has = f"the split {self.split_name!r} has no {part} clips; it has {', '.join(self.parts) or 'none at all'}"
            raise DataError(f"{self.path}: {has}")
        headers = [load_header(file) for file in files]
        if self.manifest is None:
            row_format, tags = _format_of_bare(headers), self._given_tags
            tags = tuple(f"tag{i}" for i in range(row_format.num_tags)) if tags is None else tuple(tags)
            if len(tags) != row_format.num_tags:
                raise DataError(
                    f"{files[0]}: labels of {row_format.num_tags} columns, but {len(tags)} tags are named; expected one a column"
                )
        else:
            row_format = RowFormat(self.manifest.feature_shape, self.manifest.feature_dtype, len(self.manifest.tags))
            tags = self.tags
        for header in headers:
            header.check(row_format)
        num_rows = sum(header.num_rows for header in headers)
        table = None
        if self.manifest is not None:
            if num_rows != (expected := self.num_rows(part)):
                raise DataError(f"{self.path}: {num_rows} rows in the shards of {part}; {MANIFEST} says {expected}")
            if self.manifest.format_version == FORMAT_VERSION and len(self._tables[part].paths) == num_rows:
                table = self._tables[part]
                digest = next(counts.labels_sha256 for name, counts in self.manifest.splits.items() if name == part)
                if digest not in (None, hashlib.sha256(table.labels.tobytes()).hexdigest()):
                    raise DataError(f"{self.path / CLIPS}: its labels of {part} are not those that {MANIFEST} is of")
        return Split(part, tuple(files), row_format, tags, self.mel, num_rows, table)


def open_dataset(path: Path | str, tags: Sequence[str] | None = None) -> DataSet:
    """Open the data set in the folder `path`: one that `fcn4dist prepare` wrote, or ModelZoo's shards.

    `tags` names the label columns of ModelZoo's shards, which do not say: those of its tag.txt, in its order; a manifest has its
    own. Raises DataError where there is neither a manifest nor a shard.
    """
    path = Path(path)
    check_set_folder(path)
    if (path / MANIFEST).is_file():
        return DataSet(path, load_manifest(path), None)
    data = DataSet(path, None, tags)
    if not data.parts:
        raise DataError(f"{path}: neither {MANIFEST} nor train.mindrecord0 here; run `fcn4dist prepare` first")
    return data


def describe_lengths(durations_s: NDArray[Any], mel: MelConfig) -> str | None:
    """Return what to say where most clips are much shorter or longer than what the network hears; None where they fit."""
    known = durations_s[np.isfinite(durations_s)]
    if not known.size:
        return None
    median_s, stored_s = float(np.median(known)), mel.stored_s or mel.clip_s
    if median_s < SHORT * mel.clip_s:
        return (
            f"the median clip is {median_s:.2f} s long, mel.clip_s is {mel.clip_s:g}: {1 - median_s / mel.clip_s:.0%} of what "
            f"the network hears is silence; prepare with --set mel.clip_s={median_s:.2f}"
        )
    if median_s > LONG * stored_s:
        return (
            f"the median clip is {median_s:.1f} s long, only its middle {stored_s:g} s are used; to use more, prepare with "
            f"--set mel.stored_s={median_s:.0f}, and train with --set augment.crop=random"
        )
    return None


def _format_of_bare(headers: list[ShardHeader]) -> RowFormat:
    first = headers[0]
    present, written = {header.file.name for header in headers}, set(first.siblings)
    if present != written:
        found, expected = (", ".join(sorted(names)) for names in (present, written))
        raise DataError(
            f"{first.file.parent}: {found} here; {first.file.name} was written with {expected}: a shard is missing or left over"
        )
    feature, label = (list(first.columns[column].get("shape") or ()) for column in ("feature", "label"))
    if len(feature) != 3 or feature[0] != 1 or min(feature) < 1:
        raise DataError(
            f"{first.file}: feature is {in_words(first.columns['feature'])}; expected float32, 1 x mel bands x frames"
        )
    if len(label) != 1 or label[0] < 1:
        raise DataError(f"{first.file}: label is {in_words(first.columns['label'])}; expected int32, as many as tags")
    return RowFormat((1, feature[1], feature[2]), "float32", label[0])
