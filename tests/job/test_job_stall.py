"""The watchdog on a fake clock: what is a stall, since when, and who is suspected."""

from __future__ import annotations

import json

from fcn4dist.job.stall import FRESH_S, Stall, StallWatch, merge_stalls, parse_stall
from fcn4dist.run.pulse import Phase, Pulse

RANKS = ("rank-0", "rank-1", "rank-2")


def watch_of(*beats: tuple[float, str, Phase, int], phase_timeout_s: float | None = None) -> StallWatch:
    watch = StallWatch(60.0, RANKS, phase_timeout_s)
    for number, (at_s, process, phase, step) in enumerate(beats):
        watch.on_pulse(at_s, process, Pulse(phase, step, number))
    return watch


def verdict(watch: StallWatch, now_s: float) -> Stall | None:
    """Ask a watch whose pulses were read all the time."""
    start_s = watch._looked_s
    for look in range(int(now_s - start_s) + 1):
        watch.on_look(start_s + look)
    return watch.verdict(now_s)


def test_the_rank_that_is_not_in_the_step_of_the_others_is_named() -> None:
    watch = watch_of((10, "rank-0", "step", 7), (11, "rank-1", "data", 7), (12, "rank-2", "step", 7))
    assert watch.deadline_s == 72
    assert verdict(watch, 71.9) is None
    stall = verdict(watch, 72)
    assert stall is not None
    assert stall.suspects == ("rank-1",)
    assert str(stall) == (
        "no step was finished for 60 s: rank-0, rank-2 in step 7; rank-1 waiting for the data of step 7"
    )


def test_a_rank_in_an_earlier_step_is_named() -> None:
    stall = verdict(watch_of((1, "rank-0", "step", 8), (1, "rank-1", "step", 8), (1, "rank-2", "step", 7)), 61)
    assert stall is not None
    assert stall.suspects == ("rank-2",)


def test_nobody_is_named_where_all_are_in_the_same_collective() -> None:
    stall = verdict(watch_of(*((1.0, rank, "step", 8) for rank in RANKS)), 61)
    assert stall is not None
    assert (stall.suspects, stall.place) == ((), "collective of step 8")


def test_every_beat_starts_the_time_anew() -> None:
    watch = watch_of(*((1.0, rank, "step", 8) for rank in RANKS))
    watch.on_pulse(50, "rank-1", Pulse("data", 9, 99))
    assert verdict(watch, 109) is None
    assert verdict(watch, 110) is not None


def test_a_job_that_starts_compiles_or_evaluates_does_not_stall() -> None:
    assert watch_of((1, "rank-0", "step", 1), (1, "rank-1", "step", 1)).deadline_s is None  # rank 2 is not there yet
    for phase in ("starting", "compiling", "evaluating", "saving"):
        watch = watch_of((1, "rank-0", phase, 8), (1, "rank-1", "step", 9), (1, "rank-2", "step", 9))
        assert verdict(watch, 1e4) is None


def test_a_suspended_process_is_a_stall_in_any_phase_and_is_the_suspect() -> None:
    watch = watch_of((1, "rank-0", "compiling", 1), (1, "rank-1", "compiling", 1))
    watch.on_suspended(5, "rank-1", is_suspended=True)
    watch.on_suspended(9, "scheduler", is_suspended=True)
    assert watch.deadline_s == 65
    stall = verdict(watch, 65)
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
    stall = verdict(watch, 61)
    assert stall is not None
    assert "rank-0" not in str(stall)
    for rank in RANKS:
        watch.on_exit(rank)
    assert watch.deadline_s is None


def test_without_a_limit_nothing_stalls() -> None:
    watch = StallWatch(None, RANKS)
    watch.on_suspended(1, "rank-0", is_suspended=True)
    assert watch.deadline_s is None
    assert verdict(watch, 1e4) is None


def test_time_in_which_the_pulses_could_not_be_read_counts_for_nothing() -> None:
    """A folder on NFS freezes: the ranks may step unseen."""
    watch = watch_of(*((1.0, rank, "step", 8) for rank in RANKS))
    for at_s in range(1, 21):
        watch.on_look(at_s)
    assert watch.verdict(61) is None  # nobody has looked for 41 s
    assert watch.deadline_s == 121
    watch.on_look(100)  # the folder is back; the ranks have until 160 to move
    assert watch.deadline_s == 160
    assert verdict(watch, 159.9) is None
    assert verdict(watch, 160) is not None
    assert FRESH_S < 10


def test_a_checkpoint_that_hangs_is_noticed_by_the_limit_of_phases() -> None:
    beats: list[tuple[float, str, Phase, int]] = [(9, "rank-0", "saving", 8), (1, "rank-1", "step", 8)]
    watch = watch_of(*beats, (2, "rank-2", "step", 8), phase_timeout_s=3600)
    assert verdict(watch, 3608.9) is None
    stall = verdict(watch, 3609)
    assert stall is not None
    assert stall.suspects == ("rank-0",)
    assert str(stall) == "nothing moved for 3600 s: rank-0 saving; rank-1, rank-2 in step 8"


def test_a_rank_that_never_starts_is_noticed_and_those_that_wait_for_it_are_not_named() -> None:
    watch = StallWatch(60.0, RANKS, 3600.0)
    for rank in RANKS:
        watch.on_start(5, rank)
    watch.on_start(5, "scheduler")
    assert watch.deadline_s == 3605
    for rank in RANKS[:2]:
        watch.on_pulse(20, rank, Pulse("joining", 0, 1))
    stall = verdict(watch, 3605)
    assert stall is not None
    assert stall.suspects == ("rank-2",)


def test_nobody_is_named_where_all_join_for_too_long() -> None:
    stall = verdict(watch_of(*((1.0, rank, "joining", 0) for rank in RANKS), phase_timeout_s=100), 101)
    assert stall is not None
    assert (stall.suspects, stall.place) == ((), "job")


def test_the_only_rank_of_a_job_is_the_one_that_hangs() -> None:
    assert Stall(60, {"rank-0": Pulse("step", 8)}).suspects == ("rank-0",)


def test_who_stands_apart_is_seen_from_the_ranks_of_all_hosts() -> None:
    """Each host alone sees ranks that all wait in one collective; together they show who is a step behind."""
    here = Stall(61, {"rank-0": Pulse("step", 8), "rank-1": Pulse("step", 8)})
    there = Stall(60, {"rank-2": Pulse("step", 7), "rank-3": Pulse("step", 8)})
    assert (here.suspects, there.suspects) == ((), ("rank-2",))
    behind = Stall(60, {"rank-2": Pulse("step", 7), "rank-3": Pulse("step", 7)})
    assert behind.suspects == ()
    assert merge_stalls([here, behind]).suspects == ("rank-2", "rank-3")
    held = Stall(60, {"rank-2": Pulse("step", 8)}, ("rank-2",))
    assert parse_stall(json.loads(json.dumps(held.to_json()))) == held
    assert merge_stalls([here, held]).suspects == ("rank-2",)
