"""scores.npz: the clips, labels and scores of an evaluation, and what stands beside it in a run. Needs no MindSpore."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import load_config
from fcn4dist.data.dataset import DataSet, open_dataset
from fcn4dist.data.manifest import digest_clip_list
from fcn4dist.errors import ConfigError, DataError
from fcn4dist.evaluate.evaluated import Evaluated, TrainedOn
from fcn4dist.evaluate.metrics import check_scores
from fcn4dist.files import save_atomically
from fcn4dist.run.folder import RunDir

ARRAYS = ("clip_ids", "labels", "scores")


@dataclass(frozen=True)
class Scores:
    """The scores of a split, in ascending order of clip ids."""

    clip_ids: NDArray[np.int32]  # (N,)
    labels: NDArray[np.int32]  # (N, num_tags), 0, 1 or -1: unknown
    scores: NDArray[np.floating[Any]]  # (N, num_tags), 0..1


@dataclass(frozen=True)
class ScoreSource:
    """A run folder, or a file of scores, with all that is known about it."""

    path: Path  # as the user named it
    scores: Scores
    tags: tuple[str, ...]
    data: DataSet | None  # knows the track of each clip
    evaluation: dict[str, Any] = field(
        default_factory=dict
    )  # evaluation.json beside it; empty: there is none of these scores

    def describe(self, split: str | None = None) -> Evaluated:
        """Return what was scored, by evaluation.json, else by the data set; `split`: the part, where the user says it.

        Raises DataError where evaluation.json is damaged, or where it or the data set names another part than `split`.
        """
        document = self.evaluation or self._find_part()
        if split is not None and (known := document.get("split", split)) != split:
            raise DataError(f"{self.path}: its scores are of {known}; expected {split} (--split)")
        try:
            trained = document.get("trained_on")
            return Evaluated(
                split=split or str(document.get("split", "unknown part")),
                split_name=str(document.get("split_name", "unknown split")),
                num_expected=int(document.get("num_expected", len(self.scores.clip_ids))),
                trained_on=TrainedOn(str(trained["split_name"]), trained["clip_list_sha256"]) if trained else None,
                warnings=tuple(map(str, document.get("warnings", ()))),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.path}: its evaluation.json is damaged: {error!r}; remove it, or mend it") from None

    def _find_part(self) -> dict[str, Any]:
        """Return the part of the data set that has just these clips, if one has."""
        if self.data is None:
            return {}
        checksum = digest_clip_list(self.scores.clip_ids.tolist())
        part = next((part for part, found in self.data.clip_lists.items() if found == checksum), None)
        return {} if part is None else {"split": part, "split_name": self.data.split_name}

    @property
    def tracks(self) -> NDArray[Any] | None:
        """The source track of each clip (N,), if it is known. Raises DataError."""
        return None if self.data is None else self.data.groups_of(self.scores.clip_ids)


def save_scores(file: Path, scores: Scores) -> None:
    """Write clip_ids, labels and scores atomically."""
    arrays = {"clip_ids": scores.clip_ids, "labels": scores.labels, "scores": scores.scores}
    save_atomically(file, lambda opened: np.savez(opened, **arrays))


def load_scores(file: Path, tags: tuple[str, ...] | None = None) -> Scores:
    """Read a file of scores and sort it by clip id; `tags` name tags in messages.

    A label of -1 or NaN is unknown: -1 here. Raises DataError where the file is damaged, an array is missing or has another
    shape, a clip occurs twice, a label is none of these and not 0 or 1, or a score is no number.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            if missing := [name for name in ARRAYS if name not in arrays]:
                found = ", ".join(arrays.files) or "nothing"
                raise DataError(f"{file}: no array {missing[0]!r}; found {found}; expected {', '.join(ARRAYS)}")
            clip_ids, labels, scores = (arrays[name] for name in ARRAYS)
    except OSError as error:
        raise DataError(
            f"{file}: cannot be read: {error.strerror or error}; expected a run or its scores.npz"
        ) from None
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile):
        raise DataError(f"{file}: damaged, or no file of scores; expected a run or its scores.npz") from None
    if labels.dtype.kind == "f":
        labels = np.where(np.isnan(labels), -1, labels)
    _check_arrays(file, clip_ids, labels, scores)
    order = np.argsort(clip_ids, kind="stable")
    clip_ids, labels, scores = clip_ids[order].astype(np.int32), labels[order].astype(np.int32), scores[order]
    repeated = clip_ids[1:][np.diff(clip_ids) == 0]
    if len(repeated):
        raise DataError(f"{file}: clip {repeated[0]} occurs twice; expected each clip once")
    try:
        check_scores(scores, tags or _numbered(scores.shape[1]), clip_ids)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    return Scores(clip_ids, labels, scores)


def load_score_source(path: Path, data_dir: Path | None = None) -> ScoreSource:
    """Load the scores of a run folder, or of a file such as its scores.npz, and what the folder tells about them.

    `data_dir`: the prepared data set, which knows the tracks; none: the one that the run names, if it is still there.
    Raises DataError.
    """
    run = RunDir(path if path.is_dir() else path.parent)
    file = run.scores if path.is_dir() else path
    data = _data_of_run(run) if data_dir is None else open_dataset(data_dir)
    document = _read_evaluation(run.evaluation) if file.name == run.scores.name else {}
    names = tuple(str(tag["tag"]) for tag in document.get("tags", ()))
    scores = load_scores(file, names or None)
    num_tags, checksum = scores.labels.shape[1], digest_clip_list(scores.clip_ids.tolist())
    if len(names) != num_tags or document.get("split_checksum", checksum) != checksum:  # older ones have no checksum
        document, names = {}, _tags_of_data(data)
    return ScoreSource(path, scores, names if len(names) == num_tags else _numbered(num_tags), data, document)


def _check_arrays(file: Path, clip_ids: NDArray[Any], labels: NDArray[Any], scores: NDArray[Any]) -> None:
    if clip_ids.ndim != 1 or labels.ndim != 2 or labels.shape != scores.shape or len(labels) != len(clip_ids):
        raise DataError(
            f"{file}: clip_ids {clip_ids.shape}, labels {labels.shape}, scores {scores.shape}; "
            "expected (N,), (N, tags), (N, tags)"
        )
    if not len(clip_ids) or not labels.shape[1]:
        raise DataError(f"{file}: holds no scores")
    if clip_ids.dtype.kind not in "iu" or labels.dtype.kind not in "iubf" or scores.dtype.kind != "f":
        raise DataError(
            f"{file}: clip_ids {clip_ids.dtype}, labels {labels.dtype}, scores {scores.dtype}; "
            "expected whole numbers, 0, 1 or -1, and floating point"
        )
    is_label = np.isin(labels, (0, 1, -1))
    if not is_label.all():
        row, column = (int(place) for place in np.argwhere(~is_label)[0])
        raise DataError(
            f"{file}: clip {clip_ids[row]}, tag {column}: label {labels[row, column]}; expected 0, 1 or -1 (unknown)"
        )


def _read_evaluation(file: Path) -> dict[str, Any]:
    """Return evaluation.json, or nothing where there is none that is whole: the scores stand for themselves."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return document if all("tag" in tag for tag in document["tags"]) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _data_of_run(run: RunDir) -> DataSet | None:
    if not run.config.is_file():
        return None
    try:
        folder = load_config(run.config).data.records_dir
    except ConfigError:  # of another version; the scores do not depend on it
        return None
    try:
        data = None if folder is None else open_dataset(folder)
    except DataError:  # moved, or removed
        return None
    return data if data is not None and data.manifest is not None else None


def _tags_of_data(data: DataSet | None) -> tuple[str, ...]:
    return () if data is None or data.manifest is None else data.tags


def _numbered(num_tags: int) -> tuple[str, ...]:
    return tuple(f"tag{i}" for i in range(num_tags))
