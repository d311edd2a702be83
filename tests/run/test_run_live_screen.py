"""What stands on a terminal while a job runs and after it: one picture, whole lines above it, nothing left of either."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from terminal import ROOT, Terminal

from fcn4dist.config import format_config, load_config
from fcn4dist.files import save_json
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import PulseFile
from fcn4dist.run.state import RankEnd

RECORD = {"step": 5, "num_steps": 60, "epoch": 1, "loss": 0.25, "samples_per_s": 40.0, "time_left_s": 75.0}
JOB = """
import logging, sys
from pathlib import Path
from fcn4dist.cli.main import set_log_level
from fcn4dist.job.console import JobConsole
from fcn4dist.run.terminal import build_console
from fcn4dist.job.events import Scored, Stepped, Signalled, WallClock
from fcn4dist.run.folder import RunDir
from fcn4dist.run.view import live_drawing

set_log_level(0)
run, console = RunDir(Path(sys.argv[1])), build_console(sys.stdout)
with JobConsole(console, WallClock(), world_size=2, draw=live_drawing(run, with_ranks=True)) as shown:
    for line in sys.stdin:
        exec(line)
console.print(shown.summary(run), markup=False, highlight=False, soft_wrap=True)
"""
BAR = """
import sys
from fcn4dist.cli.progress_bar import ConsoleProgress

with ConsoleProgress(is_quiet=False) as progress:
    for line in sys.stdin:
        exec(line)
print("300 listed, 300 written")
"""
END = "\x04"
TERMINALS = [("xterm-256color", 120, 30), ("tmux-256color", 80, 24), ("xterm-256color", 40, 12)]
EVALUATION = "shown.on_event(Scored(1.0, {'split': 'val', 'num_scored': 80, 'roc_auc_macro': 0.9}))\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Return a run of two ranks in its fifth step."""
    return make_run(tmp_path / "run", num_ranks=2)


def make_run(path: Path, num_ranks: int) -> RunDir:
    run = RunDir(path)
    run.logs(1).mkdir(parents=True)
    run.metrics(0).parent.mkdir()
    run.config.write_text(format_config(load_config()))
    save_json(run.plan, {"world_size": num_ranks})
    save_json(run.environment, {"host": socket.gethostname()})
    for rank in range(num_ranks):
        PulseFile(run.pulse(1, f"rank-{rank}")).beat("step", 6)
    reach_step(run, 5)
    return run


def reach_step(run: RunDir, step: int) -> None:
    run.metrics(0).write_text(json.dumps({**RECORD, "step": step}) + "\n")


def show_job(run: RunDir, **options: object) -> Terminal:
    return Terminal(["-c", JOB, str(run.path)], r"^run  \d+ ranks", **options)  # type: ignore[arg-type]


def squeezed(rows: list[str]) -> str:
    """Return the rows as one text without blanks, so that it does not matter where the terminal broke a line."""
    return "".join("".join(rows).split())


@pytest.mark.parametrize(("term", "columns", "lines"), TERMINALS)
def test_lines_stand_above_the_one_picture_and_the_summary_in_its_place(
    run: RunDir, term: str, columns: int, lines: int
) -> None:
    kept = [
        "evaluation: 80 val clips, ROC-AUC 0.9000",
        "SIGTERM: the ranks finish this step and save; a second signal ends it at once",
        "WARNING disk: nearly [red]full",
        "a line of a library",
    ]
    with show_job(run, term=term, columns=columns, lines=lines) as shown:
        shown.read_until("step 5/60")
        shown.send(EVALUATION)
        shown.send("shown.on_event(Stepped(1.0, 0, {'step': 5, 'loss': 0.125}))\n")
        shown.send("shown.on_event(Signalled(1.0, 15))\n")
        shown.send("logging.getLogger('disk').warning('nearly [red]full')\n")
        shown.send("print('a line of a library', file=sys.stderr)\n")
        shown.read_until("a line of a library")
        for step in (6, 7, 8):
            reach_step(run, step)
            shown.read_until(f"step {step}/60")
        assert squeezed(shown.rows).startswith(squeezed([*kept, "run  2 ranks", "epoch 1  step 8/60"]))
        shown.send("shown.on_event(Stepped(1.0, 0, {'step': 60, 'loss': 0.125}))\n" + END)
        assert shown.read_to_end() == 0
    summary = f"done: 60 steps, 0 s, last loss 0.1250, ROC-AUC 0.9000; {run.path}"
    found = squeezed(shown.rows)
    assert found.startswith(squeezed([*kept, "done: 60 steps, "]))
    assert found.endswith(squeezed([summary]).split(",0s,")[1])
    assert "rank" not in found.replace("theranks", "")
    assert not shown.screen.cursor.hidden


def test_a_picture_that_is_higher_than_the_terminal_leaves_nothing_behind(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", num_ranks=40)
    with show_job(run, lines=10) as shown:
        shown.read_until("step 5/60")
        shown.send(EVALUATION)
        reach_step(run, 6)
        shown.read_until("step 6/60")
        shown.send(END)
        assert shown.read_to_end() == 0
    assert [row.split(":")[0] for row in shown.rows[:2]] == ["evaluation", "done"]
    assert "in step" not in str(shown)


def test_a_terminal_that_grows_and_shrinks(run: RunDir) -> None:
    with show_job(run, columns=100, lines=20) as shown:
        shown.read_until("step 5/60")
        for step, size in enumerate([(200, 50), (90, 24), (80, 10), (120, 30)], 6):
            shown.resize(*size)
            reach_step(run, step)
            shown.read_until(f"step {step}/60")
        shown.send(END)
        assert shown.read_to_end() == 0
    assert squeezed(shown.rows).startswith("done:")


@pytest.mark.skipif(
    shutil.which("tmux") is None, reason="needs tmux: pyte does not wrap lines anew when it is narrowed"
)
@pytest.mark.parametrize("columns", ["90", "60", "30"])
def test_lines_that_a_narrower_terminal_wraps_are_taken_away_whole(run: RunDir, tmp_path: Path, columns: str) -> None:
    (tmp_path / "job.py").write_text(JOB)
    command = f"stty -echo; seq 100; env -u COLUMNS PYTHONPATH='{ROOT}' '{sys.executable}' '{tmp_path}/job.py' '{run.path}'; cat"

    def tmux(*words: str) -> str:
        given = ["tmux", "-f", "/dev/null", "-S", str(tmp_path / "socket"), *words]
        return subprocess.run(given, capture_output=True, text=True, check=True).stdout

    def see(text: str) -> list[str]:
        end_s = time.monotonic() + 60
        while text not in (found := tmux("capture-pane", "-p", "-S", "-")):
            assert time.monotonic() < end_s, found
        return [row for row in found.splitlines() if row]

    tmux("new-session", "-d", "-x", "120", "-y", "30", command)
    try:
        see("step 5/60")
        tmux("send-keys", "-l", EVALUATION)
        see("evaluation")
        tmux("resize-window", "-x", columns)
        reach_step(run, 6)
        rows = see("step 6/60")
        assert sum("2 ranks" in row for row in rows) == 1, rows
        assert squeezed(rows).count("100evaluation:80valclips,ROC-AUC0.9000run2ranks") == 1, rows
        tmux("send-keys", "C-d")
        assert "in step" not in "".join(see("done:"))
    finally:
        tmux("kill-server")


def test_a_dumb_terminal_and_a_pipe_get_lines(run: RunDir) -> None:
    for options in ({"term": "dumb"}, {"stdout": False}):
        with show_job(run, **options) as shown:
            shown.send(EVALUATION + END)
            assert shown.read_to_end() == 0
        lines = (shown.piped or str(shown)).splitlines()
        assert lines[0] == "evaluation: 80 val clips, ROC-AUC 0.9000"
        assert lines[1].startswith("done: ")
        assert shown.num_pictures == 0


def test_warnings_go_into_the_file_that_stderr_is_while_stdout_is_drawn(run: RunDir) -> None:
    with show_job(run, stderr=False) as shown:
        shown.read_until("step 5/60")
        shown.send("logging.getLogger('disk').warning('full')\n" + END)
        assert shown.read_to_end() == 0
    assert shown.piped == "WARNING disk: full\n"
    assert "full" not in str(shown)


@pytest.mark.parametrize(("term", "columns", "lines"), TERMINALS)
def test_the_bar_of_prepare(term: str, columns: int, lines: int) -> None:
    with Terminal(["-c", BAR], r"(features|shards) \d+/", term=term, columns=columns, lines=lines) as shown:
        for stage in ("features", "shards"):
            shown.send(f"progress.start('{stage}', 25863, 100)\n")
            for done in (200, 12900, 25863):
                shown.send(f"progress.advance({done} - progress._done)\n")
                shown.read_until(f"{stage} {done}/25863")
        shown.send("print('warning: from a library')\n" + END)
        assert shown.read_to_end() == 0
    stages = [f"{stage}: 25863 clips, 100 of them from an earlier run" for stage in ("features", "shards")]
    assert squeezed(shown.rows) == squeezed([*stages, "warning: from a library", "300 listed, 300 written"])
    assert shown.num_pictures >= 6


def test_the_bar_of_prepare_leaves_what_goes_into_a_pipe_alone() -> None:
    talk = "progress.start('features', 300, 0)\nprint('for the pipe')\nprogress.advance(150)\n"
    with Terminal(["-c", BAR], r"features \d+/", stdout=False) as shown:
        shown.send(talk)
        shown.read_until("features 150/300")
        shown.send(END)
        assert shown.read_to_end() == 0
    assert shown.piped == "for the pipe\n300 listed, 300 written\n"
    assert shown.rows == ["features: 300 clips"]
    with Terminal(["-c", BAR], r"features \d+/", stderr=False) as shown:
        shown.send(talk + END)
        assert shown.read_to_end() == 0
    assert shown.piped == "features: 300 clips\n"
    assert shown.rows == ["for the pipe", "300 listed, 300 written"]


@pytest.mark.parametrize(("term", "columns", "lines"), TERMINALS)
def test_watch(run: RunDir, term: str, columns: int, lines: int) -> None:
    words = ["-m", "fcn4dist", "watch", "--ranks", str(run.path)]
    with run.lock.open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with Terminal(words, "^run  2 ranks", term=term, columns=columns, lines=lines) as shown:
            for step in (5, 6, 60):
                reach_step(run, step)
                shown.read_until(f"step {step}/60")
            for rank in (0, 1):
                save_json(run.end(1, f"rank-{rank}"), asdict(RankEnd(60, 60)))
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert shown.read_to_end() == 0
    assert squeezed(shown.rows) == squeezed([f"done: 60 of 60 steps, last loss 0.2500; {run.path}"])
