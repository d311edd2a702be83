"""manifest.json: what a prepared data set holds, and the check that its shards are still what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fcn4dist.config import MelConfig
from fcn4dist.data.parts import SPLITS, LeakReport, SplitPart, SplitRule
from fcn4dist.errors import DataError
from fcn4dist.files import digest_file

__all__ = ["SPLITS", "LeakReport", "SplitPart", "SplitRule"]  # for those who know them from here

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CLIPS = "clips.tsv"  # every written clip: data/clip_list.py


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class SplitCounts(_Record):
    """One part of the split."""

    num_clips: int
    clip_list_sha256: str  # of the clip ids in ascending order, a decimal number and a newline each
    positives: list[int]  # clips a tag, in the order of the tags


class Shard(_Record):
    """One MindRecord file; its `.db` index stands beside it."""

    file: str
    split: SplitPart
    num_rows: int
    num_bytes: int
    sha256: str
    index_sha256: str  # of the .db file


class SkippedClip(_Record):
    """A clip that is listed but not written."""

    clip_id: int
    mp3_path: str
    reason: str


class Manifest(_Record):
    """A prepared data set."""

    format_version: int
    mel: MelConfig
    feature_dtype: Literal["float32", "float16"]
    feature_shape: tuple[int, int, int]  # (1, mel bands, frames)
    tags: list[str]  # in the order of the labels
    split: SplitRule
    splits: dict[SplitPart, SplitCounts]
    shards: list[Shard]
    num_listed: int
    num_written: int
    skipped: list[SkippedClip]
    leaks: LeakReport | None = None  # none: written by an older fcn4dist
    synonyms: list[list[str]] | None = None  # groups of tags that were merged; the first name is kept

    @property
    def positives(self) -> list[int]:
        """Clips a tag over all parts, in the order of the tags."""
        return [sum(counts) for counts in zip(*(part.positives for part in self.splits.values()), strict=True)]

    def shard_files(self, split: str) -> list[str]:
        """Return the shards of one split, in order."""
        return [shard.file for shard in self.shards if shard.split == split]


def load_manifest(data_dir: Path) -> Manifest:
    """Read `data_dir`/manifest.json.

    Raises DataError when it is missing, damaged or of a newer format.
    """
    file = data_dir / MANIFEST
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{data_dir}: no {MANIFEST} here; expected a folder that `fcn4dist prepare` wrote") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(f"{file}: format_version {version!r}; this fcn4dist reads {FORMAT_VERSION}")
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def check_shards(data_dir: Path, manifest: Manifest, verify: Literal["digest", "size"] = "digest") -> None:
    """Check that every shard and its index are there, whole and unchanged.

    Raises DataError naming the file, what was found and what the manifest says.
    """
    for shard in manifest.shards:
        file, index = data_dir / shard.file, data_dir / f"{shard.file}.db"
        for needed in (file, index):
            if not needed.is_file():
                raise DataError(f"{needed}: missing; {MANIFEST} lists it. Run `fcn4dist prepare` again")
        if (found := file.stat().st_size) != shard.num_bytes:
            raise DataError(f"{file}: {found} bytes, {MANIFEST} says {shard.num_bytes}: truncated or replaced")
        if verify == "digest":
            for path, expected in ((file, shard.sha256), (index, shard.index_sha256)):
                if (digest := digest_file(path)) != expected:
                    raise DataError(f"{path}: damaged: SHA-256 {digest[:12]}…, {MANIFEST} says {expected[:12]}…")
