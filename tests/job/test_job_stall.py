"""The watchdog on a fake clock: what is a stall, since when, and who is suspected."""

from __future__ import annotations

from fcn4dist.job.stall import StallWatch
from fcn4dist.run.pulse import Phase, Pulse

RANKS = ("rank-0", "rank-1", "rank-2")


def watch_of(*beats: tuple[float, str, Phase, int]) -> StallWatch:
    watch = StallWatch(60.0, RANKS)
    for number, (at_s, process, phase, step) in enumerate(beats):
        watch.on_pulse(at_s, process, Pulse(phase, step, number))
    return watch


def test_the_rank_that_is_not_in_the_step_of_the_others_is_named() -> None:
    watch = watch_of((10, "rank-0", "step", 7), (11, "rank-1", "data", 7), (12, "rank-2", "step", 7))
    assert watch.deadline_s == 72
    assert watch.verdict(71.9) is None
    stall = watch.verdict(72)
    assert stall is not None
    assert stall.suspects == ("rank-1",)
    assert str(stall) == (
        "no step was finished for 60 s: rank-0 in step 7; rank-1 waiting for the data of step 7; rank-2 in step 7"
    )


def test_a_rank_in_an_earlier_step_is_named() -> None:
    stall = watch_of((1, "rank-0", "step", 8), (1, "rank-1", "step", 8), (1, "rank-2", "step", 7)).verdict(61)
    assert stall is not None
    assert stall.suspects == ("rank-2",)


def test_nobody_is_named_where_all_are_in_the_same_collective() -> None:
    stall = watch_of(*((1.0, rank, "step", 8) for rank in RANKS)).verdict(61)
    assert stall is not None
    assert stall.suspects == ()


def test_every_beat_starts_the_time_anew() -> None:
    watch = watch_of(*((1.0, rank, "step", 8) for rank in RANKS))
    watch.on_pulse(50, "rank-1", Pulse("data", 9, 99))
    assert watch.verdict(109) is None
    assert watch.verdict(110) is not None


def test_a_job_that_starts_compiles_or_evaluates_does_not_stall() -> None:
    assert watch_of((1, "rank-0", "step", 1), (1, "rank-1", "step", 1)).deadline_s is None  # rank 2 is not there yet
    for phase in ("starting", "compiling", "evaluating", "saving"):
        watch = watch_of((1, "rank-0", phase, 8), (1, "rank-1", "step", 9), (1, "rank-2", "step", 9))
        assert watch.verdict(1e6) is None


def test_a_suspended_process_is_a_stall_in_any_phase_and_is_the_suspect() -> None:
    watch = watch_of((1, "rank-0", "compiling", 1), (1, "rank-1", "compiling", 1))
    watch.on_suspended(5, "rank-1", is_suspended=True)
    watch.on_suspended(9, "scheduler", is_suspended=True)
    assert watch.deadline_s == 65
    stall = watch.verdict(65)
    assert stall is not None
    assert stall.suspects == ("rank-1", "scheduler")
    assert "rank-1 suspended (SIGSTOP), compiling" in str(stall)


def test_a_process_that_goes_on_in_time_is_no_stall() -> None:
    watch = watch_of(*((1.0, rank, "step", 8) for rank in RANKS))
    watch.on_suspended(5, "rank-1", is_suspended=True)
    watch.on_suspended(55, "rank-1", is_suspended=False)
    assert watch.deadline_s == 115  # the others may step again only from here on


def test_ranks_that_have_ended_are_not_waited_for() -> None:
    watch = watch_of((1, "rank-0", "saving", 8), (1, "rank-1", "step", 8), (1, "rank-2", "step", 8))
    watch.on_exit("rank-0")
    stall = watch.verdict(61)
    assert stall is not None
    assert "rank-0" not in str(stall)
    for rank in RANKS:
        watch.on_exit(rank)
    assert watch.deadline_s is None


def test_without_a_limit_nothing_stalls() -> None:
    watch = StallWatch(None, RANKS)
    watch.on_suspended(1, "rank-0", is_suspended=True)
    assert watch.deadline_s is None
    assert watch.verdict(1e9) is None
