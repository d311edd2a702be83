from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fcn4dist.config import BatchPlan, RunConfig, TrainConfig
from fcn4dist.errors import DataError, JobError
from fcn4dist.run.checkpoints import Origin
from fcn4dist.train.progress import (
    Course,
    check_same_clips,
    check_same_run,
    learning_rate,
    plan_course,
)

PLAN = BatchPlan(global_batch=8, world_size=2)


def split_of(num_clips: int) -> Any:
    return SimpleNamespace(num_clips=num_clips, files=(Path("data/train.mindrecord0"),))


@pytest.mark.parametrize(("every_epochs", "num_steps"), [(1, 15), (2, 15), (4, 15), (1, 12), (2, 3)])
def test_every_step_of_a_run_stands_where_two_plain_loops_say(every_epochs: int, num_steps: int) -> None:
    course, expected = Course(PLAN, 5, num_steps, 15, every_epochs, seed=3), []
    for epoch in range(3):
        for place in range(5):
            done, is_epoch_end = 5 * epoch + place + 1, place == 4
            is_due = done == num_steps or (is_epoch_end and (epoch + 1) % every_epochs == 0)
            expected.append((done, epoch + is_epoch_end, 0 if is_epoch_end else 8 * (place + 1), is_due))
    progress, found = course.start, []
    while not course.is_last(progress):
        assert course.step_in_epoch(progress) == progress.step % 5
        progress = course.after_step(progress, is_overflow=progress.step == 1)
        found.append((progress.step, progress.epoch, progress.cursor, not progress.is_evaluated))
        progress = course.after_evaluation(progress, None)
    assert found == expected[:num_steps]
    assert course.is_done(progress)
    assert (progress.num_overflows, progress.best_step) == (1, None)


def test_the_last_of_the_highest_scores_is_the_best() -> None:
    course = Course(PLAN, 5, 15, 15, 1, seed=3)
    progress, best = course.start, []
    for score in (0.5, None, 0.7, 0.7, 0.6):
        progress = course.after_evaluation(course.after_step(progress, is_overflow=False), score)
        best.append((progress.best_step, progress.best_score))
    assert best == [(1, 0.5), (1, 0.5), (3, 0.7), (4, 0.7), (4, 0.7)]


def test_the_evaluation_at_what_was_the_end_is_not_due_where_the_run_goes_on() -> None:
    ended = Course(PLAN, 5, 3, 15, 1, seed=3)
    progress = ended.start
    while not ended.is_last(progress):
        progress = ended.after_step(progress, is_overflow=False)
    assert not ended.after_resuming(progress).is_evaluated  # killed before it was evaluated
    assert Course(PLAN, 5, 9, 15, 1, seed=3).after_resuming(progress).is_evaluated
    at_epoch_end = progress.model_copy(update={"step": 5, "epoch": 1, "cursor": 0})
    assert not Course(PLAN, 5, 9, 15, 1, seed=3).after_resuming(at_epoch_end).is_evaluated


def test_a_run_is_as_long_as_its_epochs_or_as_max_steps_says() -> None:
    lengths = [
        plan_course(RunConfig(train=TrainConfig(epochs=3, max_steps=most)), PLAN, split_of(43)).num_steps
        for most in (None, 7, 99)
    ]
    assert lengths == [15, 7, 15]
    with pytest.raises(DataError, match="data: 7 training clips are fewer than one global batch of 8; lower train"):
        plan_course(RunConfig(), PLAN, split_of(7))


def test_a_run_goes_on_only_with_its_own_batches_and_clips() -> None:
    course, path = Course(PLAN, 5, 15, 15, 1, seed=3), Path("checkpoints/step-00000005")
    check_same_run(course.start, course.start, path)
    with pytest.raises(DataError, match=r"step-00000005: the run had train.global_batch 16, the config says 8"):
        check_same_run(course.start.model_copy(update={"global_batch": 16}), course.start, path)
    with pytest.raises(DataError, match=r"the run had train.seed 4, the config says 3"):
        check_same_run(course.start.model_copy(update={"seed": 4}), course.start, path)
    check_same_clips(Origin(), Origin(train_clips="ab"), path)  # an older checkpoint does not say
    with pytest.raises(DataError, match=r"trained on other clips \(checksum cd, the data set here has ab\)"):
        check_same_clips(Origin(train_clips="cd"), Origin(train_clips="ab"), path)


def test_max_steps_cuts_a_run_and_not_its_schedule() -> None:
    """A debug run is a prefix of the real one."""
    courses = [
        plan_course(RunConfig(train=TrainConfig(epochs=3, max_steps=most, schedule="cosine")), PLAN, split_of(43))
        for most in (None, 7)
    ]
    rates = [[learning_rate(c.train, step, c.horizon) for step in range(c.num_steps)] for c in courses]
    assert rates[1] == rates[0][:7]


def run_with(scores: list[float], **train: Any) -> tuple[list[int], int]:
    """Return the number of reductions after each epoch's evaluation, and at which epoch the run has ended."""
    course = Course(PLAN, 1, len(scores), len(scores), 1, 3, TrainConfig(epochs=len(scores), **train))
    progress, reductions = course.start, []
    while not course.is_done(progress):
        progress = course.after_step(progress, is_overflow=False)
        assert not course.is_stopped_early(progress)  # before its evaluation nobody knows
        progress = course.after_evaluation(progress, scores[progress.step - 1])
        reductions.append(progress.num_reductions)
    return reductions, progress.epoch


def test_the_rate_falls_after_each_patience_without_a_better_score() -> None:
    scores = [0.5, 0.6, 0.6, 0.5, 0.5, 0.5, 0.7, 0.6, 0.6]
    assert run_with(scores, schedule="plateau", plateau_patience=2)[0] == [0, 0, 0, 1, 1, 2, 2, 2, 3]
    train = TrainConfig(schedule="plateau", lr=0.1, plateau_factor=0.5, warmup_steps=4)
    assert [learning_rate(train, step, 99, 2) for step in (0, 3, 4)] == pytest.approx([0.00625, 0.025, 0.025])


def test_a_run_ends_after_so_many_epochs_without_a_better_score() -> None:
    scores = [0.5, 0.6, 0.6, 0.7, 0.6, 0.7, 0.5, 0.9]
    assert run_with(scores, early_stop_epochs=3)[1] == 7
    assert run_with(scores, early_stop_epochs=4)[1] == 8


def test_a_run_that_only_overflows_or_has_diverged_ends_as_failed() -> None:
    course = Course(PLAN, 5, 15, 15, 1, 3, TrainConfig(max_overflows=3, max_diverged_steps=2))
    progress = course.start
    for is_overflow in (True, True, False, True, True):
        progress = course.after_step(progress, is_overflow=is_overflow, loss=0.7)
        course.check_health(progress)
    with pytest.raises(
        JobError, match=r"step 6: the last 3 steps overflowed and changed nothing \(train.max_overflows"
    ):
        course.check_health(course.after_step(progress, is_overflow=True, loss=0.7))
    progress = course.start
    for loss in (float("nan"), 9.9, 11.0):
        progress = course.after_step(progress, is_overflow=False, loss=loss)
        course.check_health(progress)
    with pytest.raises(
        JobError, match=r"step 4: the training has diverged: for 2 steps the loss was over 10 or no num"
    ):
        course.check_health(course.after_step(progress, is_overflow=False, loss=float("nan")))


def test_a_constant_rate() -> None:
    assert {learning_rate(TrainConfig(lr=0.1), step, 100) for step in range(100)} == {0.1}


def test_warmup_is_linear_and_ends_at_the_full_rate() -> None:
    train = TrainConfig(lr=0.1, warmup_steps=4)
    assert [learning_rate(train, step, 100) for step in range(5)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


def test_cosine_falls_from_the_full_rate_through_half_to_nothing() -> None:
    train = TrainConfig(lr=0.2, schedule="cosine", warmup_steps=10)
    assert learning_rate(train, 10, 110) == pytest.approx(0.2)
    assert learning_rate(train, 60, 110) == pytest.approx(0.1)
    assert learning_rate(train, 110, 110) == pytest.approx(0.0)
    assert learning_rate(train, 35, 110) == pytest.approx(0.2 * (2 + 2**0.5) / 4)
