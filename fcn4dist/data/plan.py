"""The plan of a data set: which clips, tags, parts and chunks, decided before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from fcn4dist.config import RunConfig
from fcn4dist.data.annotations import Annotations, check_any_there, locate_clips
from fcn4dist.data.annotations.magnatagatune import explain_known_bad
from fcn4dist.data.chunks import Chunk, FeatureSpec, Source, plan_chunks, stat_clip
from fcn4dist.data.manifest import SkippedClip, SplitPart
from fcn4dist.data.splits import Split, split_clips
from fcn4dist.data.tags import load_table
from fcn4dist.data.work_folder import WorkFolder
from fcn4dist.errors import ConfigError


@dataclass(frozen=True)
class DataPlan:
    """All that a run of prepare will do."""

    config: RunConfig
    annotations: Annotations
    split: Split
    work: WorkFolder
    spec: FeatureSpec
    chunks: dict[SplitPart, list[Chunk]] = field(repr=False)
    known_bad: list[SkippedClip]  # left out without a look at their audio
    synonyms: list[list[str]] | None

    @property
    def all_chunks(self) -> list[Chunk]:
        """The chunks of all parts."""
        return [chunk for chunks in self.chunks.values() for chunk in chunks]

    @property
    def inputs_sha256(self) -> str:
        """Digest of everything the data set follows from."""
        digest = hashlib.sha256()
        facts = [self.annotations.tags, self.split.rule.model_dump(), self.config.data.num_consumer]
        digest.update(json.dumps(facts).encode())
        for part, chunks in self.chunks.items():
            digest.update(json.dumps([part, [chunk.file.name for chunk in chunks]]).encode())
        digest.update(self.annotations.clip_ids.tobytes() + self.annotations.labels.astype(np.int32).tobytes())
        return digest.hexdigest()


def plan_data_set(config: RunConfig) -> DataPlan:
    """Read the annotations, divide the clips and look at their files.

    Raises ConfigError for a missing key, DataError for a table, tags, a split or a folder that cannot be used.
    """
    data = config.data
    needed = {"audio_dir": ("source_dir", "--audio-dir"), "annotations": ("annotations", "--annotations")}
    for key, (name, option) in {**needed, "records_dir": ("records_dir", "--output")}.items():
        if getattr(data, name) is None:
            raise ConfigError(f"data.{key}: not given; set it in the config or with {option}")
    annotations, synonyms = load_table(data)
    source: Source = "audio" if data.npy_dir is None else "npy"
    files = locate_clips(annotations, cast(Path, data.source_dir), data.source_suffix)
    check_any_there(annotations, cast(Path, data.source_dir), files)
    split = split_clips(annotations, data.split, data.seed, clean=data.clean)
    work = WorkFolder(Path(os.path.realpath(cast(Path, data.records_dir))))
    spec = FeatureSpec(config.mel, data.feature_dtype, source)
    chunks, known_bad = {}, []
    for part, rows in split.parts.items():
        clips = []
        for row in rows.tolist():
            clip_id, path = int(annotations.clip_ids[row]), annotations.paths[row]
            if (reason := explain_known_bad(clip_id, path)) is None:
                clips.append(stat_clip(clip_id, path, files[row]))
            else:
                known_bad.append(SkippedClip(clip_id=clip_id, mp3_path=path, reason=reason))
        chunks[part] = plan_chunks(clips, spec, work.chunks)
    return DataPlan(config, annotations, split, work, spec, chunks, known_bad, synonyms)
