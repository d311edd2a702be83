"""Which checkpoint stands for a run: its best, unless the user names another one.

The one place of that rule, for report, evaluate, --compare, export and tag: `resolve_checkpoint` where a network is wanted,
`choose_evaluation` where figures or scores are. What was chosen is always named.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fcn4dist.errors import CheckpointError
from fcn4dist.run.checkpoints import STATE, STEP_FOLDER, named
from fcn4dist.run.figures import Figures
from fcn4dist.run.folder import RunDir

POINTERS = ("best", "latest")  # the first that a run has
UNNAMED = "of a checkpoint that is not named"


def resolve_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that `path` means: itself, or the best of a run directory, the latest where none is.

    `path` may also be one of the files `best` and `latest`.
    """
    if path.name in POINTERS and path.is_file():
        return named(path.parent, path.name) or path
    for folder in (path / "checkpoints", path):
        for pointer in POINTERS:
            if (found := named(folder, pointer)) is not None:
                return found
    return path


def run_of(path: Path) -> RunDir | None:
    """Return the run of a checkpoint, or the one that `path` is; none where the checkpoint stands in none."""
    folder = resolve_checkpoint(path).absolute()
    if folder.is_file() and (folder.parent / STATE).is_file():  # the weights inside a checkpoint folder
        folder = folder.parent
    if folder.parent.name == "checkpoints":
        return RunDir(folder.parent.parent)
    return RunDir(path) if RunDir(path).config.is_file() else None


def describe_checkpoint(given: Path, used: str) -> str:
    """Name the checkpoint `used` (its folder's name, or a file's), and what it is of `given`, as the user named it."""
    if given.name in POINTERS and given.is_file():
        return f"{used}, the {given.name} checkpoint of {given.parent}"
    for folder in (given / "checkpoints", given):
        best, latest = (_name(folder, pointer) for pointer in POINTERS)
        if best == used:
            return f"{used}, the best checkpoint of {given}" + (", and its last" if latest == used else "")
        if latest == used:
            return f"{used}, the last checkpoint of {given}, which has no best: nothing was evaluated, or no AUC was defined"
    return used if given.name == used else f"{used} of {given}"


@dataclass(frozen=True)
class KeptEvaluation:
    """One evaluation that a run has left: its figures, its scores, and of which checkpoint they are."""

    figures: Path
    scores: Path
    checkpoint: str | None  # the name of a folder; none: not said
    is_best: bool
    is_last: bool
    lost_best: str | None = None  # the best checkpoint, where its evaluation was not kept (an older fcn4dist)

    @property
    def words(self) -> str:
        """The checkpoint in words: "step-00000020, the best checkpoint"."""
        if self.checkpoint is None:
            return UNNAMED
        if self.is_best:
            return f"{self.checkpoint}, the best checkpoint" + (" and the last" if self.is_last else "")
        if not self.is_last:
            return self.checkpoint
        lost = f": the evaluation of the best, {self.lost_best}, was not kept" if self.lost_best else ""
        return f"{self.checkpoint}, the last checkpoint evaluated{lost}"


def choose_evaluation(run: RunDir, *, last: bool = False) -> KeptEvaluation:
    """Return the evaluation of the run's best checkpoint; of its last one where that is asked for, or nothing else is kept.

    Only a run has a best and a last checkpoint; a folder of `fcn4dist evaluate --output` has one evaluation of some checkpoint.
    """
    final, is_last = Figures.load(run.evaluation).checkpoint, run.checkpoints.is_dir()
    best = _name(run.checkpoints, "best")
    if best is None or last or final == best:
        return KeptEvaluation(run.evaluation, run.scores, final, final is not None and final == best, is_last)
    if Figures.load(run.best_evaluation).checkpoint == best and run.best_scores.is_file():
        return KeptEvaluation(run.best_evaluation, run.best_scores, best, is_best=True, is_last=False)
    return KeptEvaluation(run.evaluation, run.scores, final, is_best=False, is_last=True, lost_best=best)


def describe_best(run: RunDir) -> str:
    """Return the best checkpoint and its figures, where it is not the last one; else nothing."""
    kept = choose_evaluation(run)
    return f"best: {kept.checkpoint}, {Figures.load(kept.figures).macro}" if kept.is_best and not kept.is_last else ""


def _name(folder: Path, pointer: str) -> str | None:
    """Return the name that a pointer holds; none where it holds no name of a checkpoint."""
    try:
        found = named(folder, pointer)
    except (CheckpointError, OSError):
        return None
    return found.name if found is not None and found.parent == folder and STEP_FOLDER.fullmatch(found.name) else None
