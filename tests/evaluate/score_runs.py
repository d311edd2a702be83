"""Folders such as runs leave: scores.npz and evaluation.json of made-up scores, and a data set that knows the tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcn4dist.config import MelConfig
from fcn4dist.data.annotations.magnatagatune import parse_groups
from fcn4dist.data.manifest import ClipTable, Manifest, SplitCounts, digest_clip_list, format_clip_tables
from fcn4dist.data.parts import SplitRule
from fcn4dist.evaluate.document import Evaluated, EvaluationFiles, Scores
from fcn4dist.evaluate.evaluation import evaluate_scores

TAGS = ("rock", "jazz", "never")
NUM_CLIPS, CLIPS_A_TRACK = 120, 4


def make_scores(seed: int, skill: float, num_clips: int = NUM_CLIPS) -> Scores:
    """Return scores of the same clips and labels for every seed; more skill tells positives better."""
    labels = (np.random.default_rng(0).random((num_clips, 3)) < [0.4, 0.2, 0.0]).astype(np.int32)
    noise = np.random.default_rng(seed).random((num_clips, 3))
    return Scores(np.arange(100, 100 + num_clips, dtype=np.int32), labels, (noise + skill * labels).astype(np.float32))


def write_run(folder: Path, scores: Scores, split: str = "val") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    about = Evaluated(split, "random-by-track", len(scores.clip_ids))
    evaluation = evaluate_scores(scores, TAGS, about, None, num_resamples=0)
    EvaluationFiles.in_folder(folder).save(evaluation, "checkpoints/step-00000001")
    return folder


def write_clip_list(folder: Path, num_clips: int = NUM_CLIPS, *, names_tracks: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = "0/artist-album-{:02d}-title-{}-{}.mp3" if names_tracks else "audio/{1}.wav"
    paths = [path.format(i // CLIPS_A_TRACK, i, i + 29) for i in range(num_clips)]
    labels, ids = make_scores(0, 0.0, num_clips).labels.astype(np.int8), np.arange(100, 100 + num_clips, dtype=np.int32)
    lengths = np.full(num_clips, 29.0, np.float32)
    table = ClipTable(ids, [str(i) for i in ids], paths, labels, lengths, parse_groups(paths) or {})
    (folder / "clips.tsv").write_text(format_clip_tables({"val": table}))
    checksum = digest_clip_list(ids.tolist())
    counts = SplitCounts(num_clips=num_clips, clip_list_sha256=checksum, positives=labels.sum(axis=0).tolist())
    manifest = Manifest(
        format_version=2,
        mel=MelConfig(),
        feature_dtype="float32",
        feature_shape=(1, 96, 1366),
        tags=list(TAGS),
        split=SplitRule(name="random-by-track", rule="made up"),
        splits={"val": counts},
        shards=[],
        num_listed=num_clips,
        num_written=num_clips,
        skipped=[],
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder


def tracks_of(num_clips: int = NUM_CLIPS) -> np.ndarray:
    return np.arange(num_clips) // CLIPS_A_TRACK
