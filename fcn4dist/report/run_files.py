"""Everything that a run folder holds, read for the report: what is missing or damaged is noted, never fatal."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fcn4dist.errors import ConfigError
from fcn4dist.report.lines import EVENT, Lines, load_lines
from fcn4dist.run.best import KeptEvaluation, choose_evaluation
from fcn4dist.run.figures import Figures
from fcn4dist.run.folder import RunDir
from fcn4dist.run.state import RunState, read_json, read_state, value_of

Record = dict[str, Any]
number = value_of  # a finite number under a key, or none: what the parts of the page ask for most
RANK_PEAKS = ("data_wait_s",)  # what is drawn of each rank's steps and can jump
CHIEF_PEAKS = ("loss", "samples_per_s", *RANK_PEAKS)
TEXT_BYTES = 32 << 20  # a config, plan or failure beyond this is not the run's own
NAME_LETTERS = 100  # checkpoints/best has the name of a folder


@dataclass(frozen=True)
class ScoreTable:
    """scores.npz, without the clips whose scores are not numbers."""

    clip_ids: NDArray[np.int64]  # (N,)
    labels: NDArray[np.int8]  # (N, num_tags), 0, 1 or -1: unknown
    scores: NDArray[np.float64]  # (N, num_tags), 0..1
    tags: tuple[str, ...]


@dataclass
class RunFiles:
    """One run."""

    run: RunDir
    name: str
    state: RunState
    config: dict[str, Record] = field(default_factory=dict)
    plan: Record = field(default_factory=dict)
    environment: Record = field(default_factory=dict)
    steps: dict[int, list[Record]] = field(default_factory=dict)  # rank -> its records, thinned evenly, in order
    peaks: dict[int, list[Record]] = field(default_factory=dict)  # rank -> these and all events and extremes, to draw
    num_steps: dict[int, int] = field(default_factory=dict)  # rank -> how many steps its file has
    evaluations: list[Record] = field(default_factory=list)
    evaluation: Record = field(default_factory=dict)  # of the checkpoint that stands for the run: its best
    kept: KeptEvaluation | None = None  # which one that is
    last_evaluation: Record = field(default_factory=dict)
    best_step: int | None = None  # of the checkpoint that checkpoints/best names
    best_evaluation: Record = field(default_factory=dict)  # evaluation-best.json
    scores: ScoreTable | None = None
    events: list[Record] = field(default_factory=list)
    failures: dict[int, Record] = field(default_factory=dict)  # attempt -> its failure.json
    usage: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what could not be read
    page: Path = field(init=False)  # where the report will be

    def __post_init__(self) -> None:
        self.page = self.run.report

    @property
    def page_folder(self) -> Path:
        """Where the page will stand, which links go from."""
        return self.page.parent

    @property
    def chief(self) -> list[Record]:
        """The records of rank 0, thinned evenly: for means."""
        return self.steps.get(0, [])

    @property
    def drawn(self) -> list[Record]:
        """The records of rank 0 with all events and extremes: for pictures."""
        return self.peaks.get(0, [])


def step_of(checkpoint: object) -> int | None:
    """Return the step of "checkpoints/step-00000030" or "step-00000030"; None where it is no such name."""
    match = re.fullmatch(r"(?:.*/)?step-(\d{8,18})", checkpoint) if isinstance(checkpoint, str) else None
    return int(match[1]) if match else None


def load_run(path: Path, *, is_over: bool = False, last: bool = False) -> RunFiles:
    """Read the run in `path`; `is_over`: its own launcher asks; `last`: with the figures of its last checkpoint, not its best.

    Raises ConfigError where there is no run.
    """
    run = RunDir(path)
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; expected the folder of a run")
    if not (run.config.exists() or run.metrics(0).exists() or run.evaluation.exists() or run.events.exists()):
        raise ConfigError(f"{path}: no run here (no {run.config.name}, no metrics, no {run.evaluation.name})")
    files = RunFiles(run, path.resolve().name or str(path), read_state(run, is_over=is_over))
    files.config = _load_config(run.config, files.notes)
    files.plan = _load_object(run.plan, files.notes)
    files.environment = _load_object(run.environment, files.notes)
    for file in run.metrics(0).parent.glob("rank-*.jsonl"):
        if match := re.fullmatch(r"rank-(\d{1,6})", file.stem):
            _load_steps(file, int(match[1]), files)
    files.steps = dict(sorted(files.steps.items()))
    files.evaluations = _in_order(_load_lines(run.evaluations, files.notes))
    files.kept = choose_evaluation(run, last=last)
    files.evaluation = _load_object(files.kept.figures, files.notes)
    files.last_evaluation = files.evaluation if files.kept.is_last else _load_object(run.evaluation, files.notes)
    files.best_step = step_of(_load_name(run.checkpoints / "best"))
    files.best_evaluation = _load_object(run.best_evaluation, files.notes)
    files.scores = _load_scores(files.kept.scores, files.evaluation, files.notes)
    files.events = _load_lines(run.events, files.notes)
    for file in run.logs(1).parent.glob(f"attempt-*/{run.failure.name}"):
        if match := re.fullmatch(r"attempt-(\d{1,9})", file.parent.name):
            files.failures[int(match[1])] = _load_object(file, files.notes)
    if files.state.failure is not None:
        attempt = number(files.state.failure, "attempt")
        files.failures.setdefault(int(attempt) if attempt is not None else files.state.attempt, files.state.failure)
    for file in sorted(run.usage.parent.glob("usage*.jsonl")):
        node = file.stem.removeprefix("usage").removeprefix("-node")
        files.usage += [{**line, "node": node} for line in _load_lines(file, files.notes)]  # "": node 0
    return files


def _note(notes: list[str], path: Path, text: str) -> None:
    notes.append(f"{path.name}: {text}")


def _load_config(path: Path, notes: list[str]) -> dict[str, Record]:
    try:
        if path.stat().st_size > TEXT_BYTES:
            raise ValueError("too large")
        values = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        _note(notes, path, f"cannot be read: {error.strerror}")
        return {}
    except (yaml.YAMLError, ValueError, RecursionError):
        _note(notes, path, "is not whole YAML")
        return {}
    if not isinstance(values, dict):
        _note(notes, path, "has no sections")
        return {}
    return {str(k): v for k, v in values.items() if isinstance(v, dict)}


def _load_object(path: Path, notes: list[str]) -> Record:
    if not path.exists():
        return {}
    document = read_json(path) if path.stat().st_size <= TEXT_BYTES else None
    if isinstance(document, dict):
        return document
    _note(notes, path, "is not a whole JSON object")
    return {}


def _load_name(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(NAME_LETTERS).strip()
    except OSError:
        return ""


def _load_lines(path: Path, notes: list[str]) -> list[Record]:
    found = _load_thinned(path, notes)
    if found.stride > 1:
        _note(notes, path, f"{found.total} lines, of which one in {found.stride} is used here")
    return list(found.records)


def _load_thinned(
    path: Path, notes: list[str], peaks_of: Sequence[str] = (), event: re.Pattern[bytes] | None = None
) -> Lines:
    try:
        found = load_lines(path, peaks_of, event)
    except FileNotFoundError:
        return Lines((), (), 0, 1, 0)
    except OSError as error:
        _note(notes, path, f"cannot be read: {error.strerror}")
        return Lines((), (), 0, 1, 0)
    if found.num_damaged:
        looked_at = len(found.records) + len(found.peaks) + found.num_damaged
        _note(notes, path, f"{found.num_damaged} of {looked_at} lines are damaged and left out")
    return found


def _load_steps(path: Path, rank: int, files: RunFiles) -> None:
    found = _load_thinned(path, files.notes, *((CHIEF_PEAKS, EVENT) if rank == 0 else (RANK_PEAKS, None)))
    files.steps[rank] = _in_order(list(found.records))
    files.peaks[rank] = _in_order([*found.records, *found.peaks])
    files.num_steps[rank] = found.total if found.stride > 1 else len(files.steps[rank])
    if found.stride > 1:
        extra = "every overflow and the extremes" if rank == 0 else "the extremes"
        text = f"{found.total} lines: means are over one in {found.stride}; pictures have {extra}, too"
        _note(files.notes, path, text)


def _in_order(records: list[Record]) -> list[Record]:
    """Return the records that have a step, by step; of one that was done twice the last."""
    by_step = {int(step): record for record in records if (step := number(record, "step")) is not None}
    return [by_step[step] for step in sorted(by_step)]


def _load_scores(path: Path, evaluation: Record, notes: list[str]) -> ScoreTable | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            clip_ids, labels, scores = arrays["clip_ids"], arrays["labels"], arrays["scores"]
        scores = scores.astype(np.float64)
        labels, clip_ids = labels.astype(np.float64), clip_ids.astype(np.int64)
        labels = np.where(labels > 0, 1, np.where(labels == 0, 0, -1)).astype(np.int8)  # unknown is -1, or NaN
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, MemoryError):
        _note(notes, path, "is damaged or not whole; the curves of the tags are left out")
        return None
    if scores.ndim != 2 or labels.shape != scores.shape or clip_ids.shape != scores.shape[:1] or not scores.size:
        _note(notes, path, f"shapes {clip_ids.shape}, {labels.shape}, {scores.shape} do not belong together")
        return None
    finite = np.isfinite(scores).all(axis=1)
    if not finite.all():
        _note(notes, path, f"{(~finite).sum()} of {len(scores)} clips have a NaN or infinite score; they are left out")
    names = Figures(evaluation).tag_names
    if len(names) != scores.shape[1]:
        _note(notes, path, f"{scores.shape[1]} tags, evaluation.json has {len(names)}; they are numbered here")
        names = tuple(f"tag {i}" for i in range(scores.shape[1]))
    return ScoreTable(clip_ids[finite], labels[finite], np.clip(scores[finite], 0, 1), names)
