"""The figures of labels and scores that are at hand as arrays: `fcn4dist.evaluate`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fcn4dist.data.parts import LEVELS, Level
from fcn4dist.errors import DataError
from fcn4dist.evaluate.document import Evaluated, Scores, check_arrays, format_evaluation
from fcn4dist.evaluate.evaluation import evaluate_scores

UNNAMED_PART, UNNAMED_SPLIT = "unknown part", "unknown split"


def evaluate(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    tags: Sequence[str] | None = None,
    groups: ArrayLike | Mapping[Level, ArrayLike] | None = None,
    clip_ids: ArrayLike | None = None,
    split: str = UNNAMED_PART,
    split_name: str = UNNAMED_SPLIT,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the document that evaluation.json holds, for the scores of any tagger.

    `labels` (N, num_tags): 1, 0, or -1 or NaN where it is not known. `scores` (N, num_tags): higher is more likely; 0..1.
    `tags`: their names, num_tags. `groups` (N,): the track of each clip, which intervals draw as a whole; or those of a
    `Split`, of which the finest is taken ("" is a track of its own); none: each clip is one. `clip_ids` (N,): whole numbers,
    by default 0, 1, .... `split`: "val" chooses the thresholds of precision, recall and F1 on these clips. `num_resamples`: of
    the 95 % intervals; 0 leaves them out. Raises DataError naming what does not fit.
    """
    label_array, score_array = np.asarray(labels), np.asarray(scores)
    if label_array.dtype.kind == "f":
        label_array = np.where(np.isnan(label_array), -1, label_array)
    if score_array.dtype.kind in "iub":
        score_array = score_array.astype(np.float64)
    ids = np.arange(len(label_array)) if clip_ids is None else np.asarray(clip_ids)
    check_arrays("labels and scores", ids, label_array, score_array)
    num_clips, num_tags = label_array.shape
    names = tuple(f"tag{i}" for i in range(num_tags)) if tags is None else tuple(map(str, tags))
    if len(names) != num_tags:
        raise DataError(f"tags: {len(names)} names; labels and scores have {num_tags} columns")
    if not np.array_equal(ids, ids.astype(np.int32)):
        raise DataError("clip_ids: expected whole numbers of 32 bits")
    if len(np.unique(ids)) != num_clips:
        raise DataError("clip_ids: a clip occurs twice; expected each clip once")
    tracks = _tracks_of(groups, ids)
    order = np.argsort(ids, kind="stable")
    found = evaluate_scores(
        Scores(ids[order].astype(np.int32), label_array[order].astype(np.int32), score_array[order]),
        names,
        Evaluated(split, split_name, num_clips),
        None if tracks is None else tracks[order],
        num_resamples=num_resamples,
        seed=seed,
    )
    document: dict[str, Any] = json.loads(json.dumps(format_evaluation(found, checkpoint=None), allow_nan=False))
    return document


def _tracks_of(
    groups: ArrayLike | Mapping[Level, ArrayLike] | None, clip_ids: NDArray[np.integer[Any]]
) -> NDArray[Any] | None:
    """Return the group (N,) of each clip that counts as one draw; the rule of `DataSet.groups_of`."""
    if isinstance(groups, Mapping):
        groups = next((groups[level] for level in LEVELS if level in groups), None)
    if groups is None:
        return None
    tracks = np.asarray(groups)
    if tracks.shape != clip_ids.shape:
        raise DataError(f"groups: shape {tracks.shape}; expected a name for each of {len(clip_ids)} clips")
    if tracks.dtype.kind == "U":
        return np.array([name or f"clip {clip_id}" for name, clip_id in zip(tracks, clip_ids, strict=True)])
    return tracks
