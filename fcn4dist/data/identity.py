"""Which clips a data set trains on, and in which order they stand: a resumed run must meet the same."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from fcn4dist.data.manifest import MANIFEST, load_manifest


def identify_train_clips(data_dir: Path) -> str:
    """Return a checksum of the training clips of `data_dir` and of their places in its shards.

    With a manifest: its clip-list checksum, the tags, and the rows of each shard, so that a copy elsewhere or a second
    `fcn4dist prepare` is the same data set. ModelZoo's shards have no clip list: their names and sizes. Raises DataError.
    """
    if (data_dir / MANIFEST).is_file():
        manifest = load_manifest(data_dir)
        counts = manifest.splits.get("train")
        facts: dict[str, Any] = {
            "clips": None if counts is None else counts.clip_list_sha256,
            "tags": manifest.tags,
            "rows": [shard.num_rows for shard in manifest.shards if shard.split == "train"],
        }
    else:
        shards = [file for file in data_dir.glob("train.mindrecord*") if re.search(r"mindrecord\d+$", file.name)]
        facts = {"shards": sorted((file.name, file.stat().st_size) for file in shards)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
