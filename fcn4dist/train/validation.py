"""The evaluations of a run: every rank scores its part of the clips, the chief alone measures and writes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import mindspore as ms

from fcn4dist.config import RunConfig
from fcn4dist.data.dataset import DataSet, Split
from fcn4dist.errors import DataError, JobError
from fcn4dist.evaluate.document import Evaluation, EvaluationFiles, Scores, TrainedOn
from fcn4dist.evaluate.evaluation import measure_split
from fcn4dist.evaluate.hardest import save_hardest
from fcn4dist.evaluate.metrics import check_scores
from fcn4dist.evaluate.score import score_split
from fcn4dist.job.rank import Rank
from fcn4dist.model.fcn4 import FCN4
from fcn4dist.run.checkpoints import Progress, step_name
from fcn4dist.run.folder import RunDir
from fcn4dist.run.metrics import EvaluationRecords
from fcn4dist.train.collectives import broadcast_state, gather_rows
from fcn4dist.train.start import Start

logger = logging.getLogger(__name__)


class Validation:
    """The part `evaluate.split` of a data set, and the network that scores it: float32 whatever `train.amp` is."""

    def __init__(self, config: RunConfig, run: RunDir, data: DataSet, start: Start, rank: Rank) -> None:
        self._config, self._run, self._data, self._rank = config.evaluate, run, data, rank
        self._best_files = EvaluationFiles(run.best_evaluation, run.best_scores)
        self._course, self._weights = start.course, start.weights
        self._trained_on = TrainedOn(start.card.split_name, start.card.clip_list_sha256.get("train"))
        self._split = self._open_split()
        self._network = FCN4(config.model, len(start.split.tags), start.split.feature_shape[1])
        self._is_patient = config.checkpoint.on_error == "continue"  # with a disk that refuses
        last_step = start.progress.step - (
            not start.progress.is_evaluated
        )  # an evaluation that is made again is written again
        self._records = EvaluationRecords(run, last_step, is_patient=self._is_patient)

    def evaluate(self, progress: Progress) -> tuple[Evaluation | None, Progress]:
        """Evaluate the weights as they are; return the evaluation, and where the run stands after it.

        Every rank calls this. There is no evaluation where there is nothing to score, and none on ranks other than the chief,
        which do not know the best score either. Raises JobError for a score that is no number.
        """
        course, evaluation = self._course, None
        scores = None if self._split is None else self._score(self._split)
        is_end = course.is_last(progress)
        if self._split is not None and scores is not None:
            check_converged(scores, self._split.tags, progress.step)
            evaluation = self._measure(scores, self._split, is_end=is_end)
        progress = course.after_evaluation(progress, None if evaluation is None else evaluation.metrics.roc_auc_macro)
        if self._split is not None and scores is not None and not is_end and course.is_last(progress):
            evaluation = self._measure(scores, self._split, is_end=True)  # the end came early
        if course.is_guided:  # only the chief knows the score, and all ranks go by it
            keys = ("best_epoch", "evaluated_epoch", "num_reductions", "reduced_epoch")
            numbers = broadcast_state([], [int(getattr(progress, key)) for key in keys], self._rank)
            progress = progress.model_copy(update=dict(zip(keys, numbers, strict=True)))
        if evaluation is not None and self._split is not None:
            self._save(evaluation, progress)
            logger.info("%s", evaluation.summary)
            if course.is_last(progress):
                measured = [evaluation.scores]
                if progress.best_step not in (None, progress.step):
                    measured += self._measure_best(step_name(progress.best_step or 0), self._split)
                self._keep_pictures(measured, self._split)
        return evaluation, progress

    def _score(self, split: Split) -> Scores | None:
        """Score on all ranks; the chief gets the scores."""
        for mine, trained in zip(self._network.get_parameters(), self._weights, strict=True):
            mine.set_data(ms.Tensor(trained.asnumpy()))
        scores = score_split(self._network, split, self._config.batch, self._rank, gather_rows)
        return scores if self._rank.is_chief else None

    def _measure(self, scores: Scores, split: Split, *, is_end: bool) -> Evaluation:
        """Measure; intervals, which cost more than all else, only at the run's end."""
        config = self._config if is_end else self._config.model_copy(update={"num_resamples": 0})
        return measure_split(scores, split, self._data, config, self._trained_on)

    def _save(self, evaluation: Evaluation, progress: Progress) -> None:
        folder = str(self._run.checkpoints.relative_to(self._run.path) / step_name(progress.step))
        try:
            EvaluationFiles(self._run.evaluation, self._run.scores).save(evaluation, folder)
            if progress.best_step == progress.step:  # the best checkpoint's scores and figures outlive later ones
                self._best_files.save(evaluation, folder)
        except OSError as error:
            if not self._is_patient:
                raise
            logger.warning("%s: cannot be written: %s", self._run.evaluation, error.strerror)
        self._records.add(progress.step, progress.epoch, evaluation.headline)

    def _measure_best(self, name: str, split: Split) -> list[Scores]:
        """Measure the best checkpoint's scores again, now with intervals: the run's figures are its. Return its scores."""
        figures = self._best_files.load_figures()
        if figures.checkpoint != name:  # of a run that an older fcn4dist began
            return []
        try:
            scores = self._best_files.load_scores(split.tags)
            self._best_files.save(self._measure(scores, split, is_end=True), str(figures.document["checkpoint"]))
        except (DataError, OSError) as error:
            logger.warning("the best checkpoint's figures stay without intervals: %s", error)
            return []
        return [scores]

    def _keep_pictures(self, measured: Sequence[Scores], split: Split) -> None:
        """Keep the mels of the hardest clips for the report, which has no MindSpore to read them."""
        try:
            save_hardest(self._run.hardest, split, measured)
        except (DataError, OSError) as error:
            logger.warning("%s: the report will have no pictures of clips: %s", self._run.hardest, error)

    def _open_split(self) -> Split | None:
        name = self._config.split
        if name in self._data.parts:
            return self._data.split(name)
        if self._rank.is_chief:
            logger.warning("%s has no %s clips: nothing is evaluated", self._data.path, name)
        return None


def check_converged(scores: Scores, tags: Sequence[str], step: int) -> None:
    """Raise JobError where a score is no number: the training went wrong, not what the user gave."""
    try:
        check_scores(scores.scores, tags, scores.clip_ids)
    except DataError as error:
        raise JobError(
            f"step {step}: the training has diverged: {error}; use a lower train.lr, or train.clip_norm"
        ) from None
