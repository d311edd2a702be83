"""Which data set this is: what copies on several hosts must have in common, and what a resumed run must meet again."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from fcn4dist.data.manifest import MANIFEST, load_manifest

SHARD = re.compile(r"(train|val|test)\.mindrecord\d+")


def identify_data(data_dir: Path) -> dict[str, Any]:
    """Return what two copies of a data set must have in common, as JSON values.

    Of a prepared set: the clips of every part, tags, features and rows a shard. Not the shards' digests: MindRecord
    promises no reproducible bytes, and what counts is that the rows are the same. Of ModelZoo's shards, which have no
    manifest: names and sizes. Raises DataError.
    """
    if not (data_dir / MANIFEST).is_file():
        shards = [file for file in data_dir.glob("*.mindrecord*") if SHARD.fullmatch(file.name)]
        return {"shards": sorted([file.name, file.stat().st_size] for file in shards)}
    manifest = load_manifest(data_dir)
    values = manifest.model_dump(
        mode="json", include={"mel", "feature_dtype", "feature_shape", "tags", "split", "splits"}
    )
    return {**values, "shards": [[shard.file, shard.num_rows] for shard in manifest.shards]}


def identify_train_clips(data_dir: Path) -> str:
    """Return a checksum of the training clips of `data_dir` and of their places in its shards.

    With a manifest: its clip-list checksum, the tags, and the rows of each shard, so that a copy elsewhere or a second
    `fcn4dist prepare` is the same data set. ModelZoo's shards have no clip list: their names and sizes. Raises DataError.
    """
    data = identify_data(data_dir)
    shards = [shard for shard in data["shards"] if shard[0].startswith("train.")]
    facts: dict[str, Any] = {"shards": shards}
    if "splits" in data:
        train = data["splits"].get("train")
        facts = {
            "clips": None if train is None else train["clip_list_sha256"],
            "tags": data["tags"],
            "rows": [num_rows for _, num_rows in shards],
        }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
