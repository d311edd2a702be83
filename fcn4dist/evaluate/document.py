"""An evaluation as it is kept: evaluation.json and scores.npz, written and read. Needs no MindSpore."""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import RunConfig, load_config
from fcn4dist.data.dataset import DataSet, open_dataset
from fcn4dist.data.manifest import digest_clip_list
from fcn4dist.errors import ConfigError, DataError
from fcn4dist.evaluate.metrics import Metrics, check_scores
from fcn4dist.evaluate.thresholds import Thresholds
from fcn4dist.files import save_atomically, save_json
from fcn4dist.run.best import UNNAMED, choose_evaluation
from fcn4dist.run.figures import Figures, describe_caution
from fcn4dist.run.folder import RunDir

ARRAYS = ("clip_ids", "labels", "scores")
LOGITS = "logits"  # beside them, where they are known
CHECKSUM_DIGITS = 12  # in print
UNKNOWN_TRACKS = (
    "warning: tracks are not known (--data DIR tells them, where its paths do): clips of one track count as independent"
)


@dataclass(frozen=True)
class TrainedOn:
    """The clips that a network was trained on."""

    split_name: str
    clip_list_sha256: str | None = None  # none: not known (ModelZoo's shards, an older checkpoint)


@dataclass(frozen=True)
class Evaluated:
    """What was scored."""

    split: str  # train, val or test
    split_name: str
    num_expected: int
    trained_on: TrainedOn | None = None  # none: not known
    warnings: tuple[str, ...] = ()  # what a reader of the figures must know


@dataclass(frozen=True)
class Scores:
    """The scores of a split, in ascending order of clip ids."""

    clip_ids: NDArray[np.int32]  # (N,)
    labels: NDArray[np.int32]  # (N, num_tags), 0, 1 or -1: unknown
    scores: NDArray[np.floating[Any]]  # (N, num_tags), 0..1
    logits: NDArray[np.floating[Any]] | None = None  # the scores before the sigmoid; none: not known

    @property
    def ranking(self) -> NDArray[np.floating[Any]]:
        """What tells which clip is more likely to have a tag: the sigmoid in float32 makes ties from a logit of 16.7 up."""
        return self.scores if self.logits is None else self.logits


@dataclass(frozen=True)
class Evaluation:
    """The scores of a split and their figures."""

    about: Evaluated
    scores: Scores
    metrics: Metrics
    top_tag_accuracy: float | None  # where each clip has exactly one tag
    thresholds: Thresholds | None
    resampling: dict[str, Any] = field(default_factory=dict)  # how the intervals came about

    @property
    def split(self) -> str:
        """The part that was scored."""
        return self.about.split

    @property
    def split_checksum(self) -> str:
        """The checksum of the clips that were scored: the manifest's `clip_list_sha256` of that part."""
        return digest_clip_list(self.scores.clip_ids.tolist())

    @property
    def chose_thresholds(self) -> bool:
        """Whether the thresholds were chosen on these very clips, so that F1 is flattered."""
        return self.thresholds is not None and self.thresholds.split_checksum == self.split_checksum

    @property
    def headline(self) -> dict[str, Any]:
        """The figures that a line of metrics/evaluations.jsonl holds."""
        clips = {"split": self.about.split, "split_name": self.about.split_name, "split_checksum": self.split_checksum}
        counts = {
            "num_scored": len(self.scores.clip_ids),
            "num_tags": len(self.metrics.tags),
            "num_undefined_tags": len(self.metrics.undefined_tags),
        }
        return {
            "roc_auc_macro": self.metrics.roc_auc_macro,
            "pr_auc_macro": self.metrics.pr_auc_macro,
            **clips,
            **counts,
        }

    @property
    def caution(self) -> str:
        """What a reader must know beside the AUCs; empty where that is nothing."""
        undefined = self.metrics.undefined_tags
        return describe_caution(len(self.scores.clip_ids), len(self.metrics.tags), len(undefined), undefined)

    @property
    def summary(self) -> str:
        """One line for people."""
        metrics = self.metrics
        place = f"{self.split} of {self.about.split_name} (clip list {shorten_checksum(self.split_checksum)})"
        if metrics.roc_auc_macro is None or metrics.pr_auc_macro is None:
            return f"{place}: nothing to measure; {self.caution}"
        parts = [
            f"{place}: ROC-AUC {metrics.roc_auc_macro:.4f}{_interval(metrics.roc_auc_ci95)}",
            f"PR-AUC {metrics.pr_auc_macro:.4f}{_interval(metrics.pr_auc_ci95)}",
        ]
        if self.top_tag_accuracy is not None:
            parts.append(f"top tag right {self.top_tag_accuracy:.1%}")
        parts.append(f"{len(self.scores.clip_ids)} of {self.about.num_expected} clips scored")
        return ", ".join(parts) + (f"; caution: {self.caution}" if self.caution else "")


@dataclass(frozen=True)
class EvaluationFiles:
    """evaluation.json and scores.npz of one evaluation: the one place that writes and reads both."""

    figures: Path
    scores: Path

    @classmethod
    def in_folder(cls, folder: Path) -> EvaluationFiles:
        """Return those of a run, or of the folder that `fcn4dist evaluate --output` names."""
        run = RunDir(folder)
        return cls(run.evaluation, run.scores)

    def save(self, evaluation: Evaluation, checkpoint: str | None) -> None:
        """Write both, each atomically."""
        kept = evaluation.scores
        arrays = {"clip_ids": kept.clip_ids, "labels": kept.labels, "scores": kept.scores}
        if kept.logits is not None:
            arrays[LOGITS] = kept.logits
        save_atomically(self.scores, lambda opened: np.savez(opened, **arrays))
        save_json(self.figures, format_evaluation(evaluation, checkpoint))

    def load_figures(self) -> Figures:
        """Read evaluation.json; empty where it is missing or damaged."""
        return Figures.load(self.figures)

    def load_scores(self, tags: tuple[str, ...] | None = None) -> Scores:
        """Read the scores and sort them by clip id; `tags` name tags in messages.

        A label of -1 or NaN is unknown: -1 here. Raises DataError where the file is damaged, an array is missing or has another
        shape, a clip occurs twice, a label is none of these and not 0 or 1, or a score is no number.
        """
        file = self.scores
        try:
            with np.load(file, allow_pickle=False) as arrays:
                if missing := [name for name in ARRAYS if name not in arrays]:
                    found = ", ".join(arrays.files) or "nothing"
                    raise DataError(f"{file}: no array {missing[0]!r}; found {found}; expected {', '.join(ARRAYS)}")
                clip_ids, labels, scores = (arrays[name] for name in ARRAYS)
                logits = arrays.get(LOGITS)
        except OSError as error:
            raise DataError(
                f"{file}: cannot be read: {error.strerror or error}; expected a run or its scores.npz"
            ) from None
        except (ValueError, EOFError, AttributeError, zipfile.BadZipFile):
            raise DataError(f"{file}: damaged, or no file of scores; expected a run or its scores.npz") from None
        if labels.dtype.kind == "f":
            labels = np.where(np.isnan(labels), -1, labels)
        check_arrays(file, clip_ids, labels, scores)
        order = np.argsort(clip_ids, kind="stable")
        clip_ids, labels, scores = clip_ids[order].astype(np.int32), labels[order].astype(np.int32), scores[order]
        repeated = clip_ids[1:][np.diff(clip_ids) == 0]
        if len(repeated):
            raise DataError(f"{file}: clip {repeated[0]} occurs twice; expected each clip once")
        try:
            check_scores(scores, tags or _numbered(scores.shape[1]), clip_ids)
        except DataError as error:
            raise DataError(f"{file}: {error}") from None
        if logits is None:
            return Scores(clip_ids, labels, scores)
        if logits.shape != scores.shape or logits.dtype.kind != "f" or not np.isfinite(logits).all():
            raise DataError(f"{file}: {LOGITS} {logits.shape}, {logits.dtype}; expected a number for each score")
        return Scores(clip_ids, labels, scores, logits[order])


@dataclass(frozen=True)
class ScoreSource:
    """A run folder, or a file of scores, with all that is known about it."""

    path: Path  # as the user named it
    scores: Scores
    tags: tuple[str, ...]
    data: DataSet | None  # knows the track of each clip
    evaluation: Figures = field(default_factory=Figures)  # evaluation.json beside it; empty: none of these scores
    checkpoint: str = UNNAMED  # of which network the scores are, in words
    config: RunConfig | None = None  # of the run; none: it has none, or one of another version

    def describe(self, split: str | None = None) -> Evaluated:
        """Return what was scored, by evaluation.json, else by the data set; `split`: the part, where the user says it.

        Raises DataError where evaluation.json is damaged, or where it or the data set names another part than `split`.
        """
        document = self.evaluation.document or self._find_part()
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


def load_score_source(path: Path, data_dir: Path | None = None) -> ScoreSource:
    """Load the scores of a run's best checkpoint, or of a file such as its scores.npz, and what is known about them.

    `data_dir`: the prepared data set, which knows the tracks; none: the one that the run names, if it is still there.
    Raises DataError.
    """
    run = RunDir(path if path.is_dir() else path.parent)
    kept = choose_evaluation(run, last=path.name == run.scores.name)
    if path.is_dir():
        files = EvaluationFiles(kept.figures, kept.scores)
    else:
        files = EvaluationFiles(run.best_evaluation if path.name == run.best_scores.name else run.evaluation, path)
    config = _config_of(run)
    data = _data_of(config) if data_dir is None else open_dataset(data_dir)
    figures = files.load_figures() if files.scores in (run.scores, run.best_scores) else Figures()
    names = figures.tag_names
    scores = files.load_scores(names or None)
    num_tags, checksum = scores.labels.shape[1], digest_clip_list(scores.clip_ids.tolist())
    if (
        len(names) != num_tags or figures.document.get("split_checksum", checksum) != checksum
    ):  # older ones have no checksum
        figures, names = Figures(), _tags_of_data(data)
    tags, checkpoint = names if len(names) == num_tags else _numbered(num_tags), figures.checkpoint
    words = UNNAMED if checkpoint is None else kept.words if checkpoint == kept.checkpoint else checkpoint
    return ScoreSource(path, scores, tags, data, figures, words, config)


def shorten_checksum(checksum: str) -> str:
    """Return the first digits of a checksum, enough to compare two by eye."""
    return checksum[:CHECKSUM_DIGITS]


def format_evaluation(evaluation: Evaluation, checkpoint: str | None) -> dict[str, Any]:
    """Return the document of evaluation.json (DESIGN section 5, with more keys)."""
    metrics, about, decisions = evaluation.metrics, evaluation.about, evaluation.metrics.decisions
    thresholds = evaluation.thresholds
    return {
        "checkpoint": checkpoint,
        "split": about.split,
        "split_name": about.split_name,
        "split_checksum": evaluation.split_checksum,
        "trained_on": None if about.trained_on is None else asdict(about.trained_on),
        "num_expected": about.num_expected,
        "num_scored": len(evaluation.scores.clip_ids),
        "roc_auc_macro": metrics.roc_auc_macro,
        "pr_auc_macro": metrics.pr_auc_macro,
        "roc_auc_ci95": metrics.roc_auc_ci95,
        "pr_auc_ci95": metrics.pr_auc_ci95,
        "roc_auc_micro": metrics.roc_auc_micro,
        "pr_auc_micro": metrics.pr_auc_micro,
        "bootstrap": evaluation.resampling,
        "thresholds": None
        if thresholds is None
        else {
            "chosen_on": f"val of {thresholds.split_name}",
            "clip_list_sha256": thresholds.split_checksum,
            "on_these_clips": evaluation.chose_thresholds,
            "support": list(thresholds.support),
        },
        "f1_macro": decisions and decisions.f1_macro,
        "f1_micro": decisions and decisions.f1_micro,
        "precision_micro": decisions and decisions.precision_micro,
        "recall_micro": decisions and decisions.recall_micro,
        "num_tagged": metrics.num_tagged,
        "num_unknown": sum(tag.unknown for tag in metrics.tags),
        "precision_at_k": {str(found.k): found.precision for found in metrics.at_ranks},
        "recall_at_k": {str(found.k): found.recall for found in metrics.at_ranks},
        "top_tag_accuracy": evaluation.top_tag_accuracy,
        "tags": [asdict(tag) for tag in metrics.tags],
        "undefined_tags": list(metrics.undefined_tags),
        "warnings": list(about.warnings),
    }


def check_arrays(file: Path | str, clip_ids: NDArray[Any], labels: NDArray[Any], scores: NDArray[Any]) -> None:
    """Raise DataError, which begins with `file`, where the arrays have other shapes, types or labels than `Scores` holds."""
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


def _config_of(run: RunDir) -> RunConfig | None:
    if not run.config.is_file():
        return None
    try:
        return load_config(run.config)
    except ConfigError:  # of another version; the scores do not depend on it
        return None


def _data_of(config: RunConfig | None) -> DataSet | None:
    folder = None if config is None else config.data.records_dir
    try:
        data = None if folder is None else open_dataset(folder)
    except DataError:  # moved, or removed
        return None
    return data if data is not None and data.manifest is not None else None


def _tags_of_data(data: DataSet | None) -> tuple[str, ...]:
    return () if data is None or data.manifest is None else data.tags


def _numbered(num_tags: int) -> tuple[str, ...]:
    return tuple(f"tag{i}" for i in range(num_tags))


def _interval(bounds: tuple[float, float] | None) -> str:
    return f" ({bounds[0]:.4f} to {bounds[1]:.4f})" if bounds else ""
