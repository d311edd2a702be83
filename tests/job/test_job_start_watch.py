from __future__ import annotations

import io
from pathlib import Path
from queue import SimpleQueue

import pytest
from rich.console import Console

from fcn4dist.job.console import JobConsole
from fcn4dist.job.events import Event, StartWaits
from fcn4dist.job.sampler import RunWatcher, WatchedFiles
from fcn4dist.job.start_watch import StartWatch
from fcn4dist.run.pulse import Phase, Pulse, PulseFile

Beats = list[tuple[float, int, Phase]]
ALL_JOIN: Beats = [(1, 0, "importing"), (2, 1, "importing"), (5, 0, "joining"), (6, 1, "joining")]


def watch_of(beats: Beats, num_ranks: int = 2, world_size: int | None = None) -> StartWatch:
    watch = StartWatch.begin(0.0, [f"rank-{i}" for i in range(num_ranks)], world_size or num_ranks)
    for number, (at_s, rank, phase) in enumerate(beats):
        watch.on_pulse(at_s, f"rank-{rank}", Pulse(phase, 1, number))
    return watch


@pytest.mark.parametrize(
    ("beats", "num_ranks", "world_size", "now_s", "expected"),
    [
        ([], 2, 2, 9.9, None),
        ([], 2, 2, 10, "no progress for 10 s: ranks 0 and 1 are starting Python"),
        ([(1, 0, "importing")], 1, 1, 11, "no progress for 10 s: rank 0 is importing MindSpore"),
        (
            [(2, 1, "importing"), (3, 0, "joining")],
            2,
            2,
            15,
            "rank 0 has waited 12 s for rank 1, which has not joined yet (rank 1 is importing MindSpore)",
        ),
        ([(2, 1, "importing"), (3, 0, "joining")], 2, 2, 12.9, None),
        (
            [(3, 0, "joining"), (4, 2, "joining"), (6, 1, "importing")],
            4,
            4,
            18,
            "ranks 0 and 2 have waited 15 s for ranks 1 and 3, which have not joined yet "
            "(rank 1 is importing MindSpore; rank 3 is starting Python)",
        ),
        (
            ALL_JOIN,
            2,
            2,
            16,
            "ranks 0 and 1 have waited 11 s for the scheduler, which introduces the ranks to each other (scheduler.log)",
        ),
        (ALL_JOIN, 2, 4, 16, "ranks 0 and 1 have waited 11 s for the ranks of other hosts"),
        (
            [*ALL_JOIN, (7, 1, "opening")],
            2,
            2,
            17,
            "no progress for 10 s: rank 0 is joining the job; rank 1 is opening the data",
        ),
        (
            [*ALL_JOIN, (7, 0, "compiling"), (7, 1, "data")],
            2,
            2,
            18,
            "no progress for 11 s: rank 0 is compiling; rank 1 is waiting for the data of step 1",
        ),
        ([*ALL_JOIN, (7, 0, "compiling"), (7, 1, "compiling")], 2, 2, 99, None),  # work; nobody waits
        (
            [*ALL_JOIN, (7, 0, "compiling"), (7, 1, "compiling"), (9, 0, "data")],
            2,
            2,
            99,
            None,
        ),  # the first step is done
        ([*ALL_JOIN, (7, 0, "evaluating")], 2, 2, 99, None),  # a resumed run
    ],
)
def test_the_line_says_who_waits_for_whom(
    beats: Beats, num_ranks: int, world_size: int, now_s: float, expected: str | None
) -> None:
    assert watch_of(beats, num_ranks, world_size).line(now_s) == expected


def test_each_situation_is_said_once() -> None:
    watch = watch_of([(3, 0, "joining")])
    assert watch.line(13) is not None
    assert watch.line(14) is None
    assert watch.line(60) is None
    watch.on_pulse(61, "rank-1", Pulse("importing", 0, 2))
    assert watch.line(70) is None
    assert "waited 68 s for rank 1" in str(watch.line(71))


def test_the_watcher_of_a_run_says_it_from_the_pulses_of_the_ranks(tmp_path: Path) -> None:
    clock = [100.0]
    inbox: SimpleQueue[Event] = SimpleQueue()
    pulses = {name: tmp_path / f"{name}.pulse" for name in ("rank-0", "rank-1")}
    files = WatchedFiles(tmp_path / "metrics", tmp_path / "evaluation", {}, pulses, 2)
    watcher = RunWatcher(files, inbox, lambda: clock[0])
    for name, phase in (("rank-0", "joining"), ("rank-1", "importing")):
        PulseFile(pulses[name]).beat(phase)  # type: ignore[arg-type]
    for clock[0] in (101.0, 105.0, 111.5, 112.0):
        watcher.look()
    said = [event for event in (inbox.get() for _ in range(inbox.qsize())) if isinstance(event, StartWaits)]
    assert [event.at_s for event in said] == [111.5]
    assert said[0].line.startswith("rank 0 has waited 10 s for rank 1, which has not joined yet")


def test_the_console_prints_it_as_a_line_of_its_own() -> None:
    output = io.StringIO()
    line = "rank 0 has waited 10 s for rank 1, which has not joined yet (rank 1 is importing MindSpore)"
    with JobConsole(Console(file=output, width=40), lambda: 0.0, world_size=2) as shown:
        shown.on_event(StartWaits(11.0, line))
    assert output.getvalue() == line + "\n"
