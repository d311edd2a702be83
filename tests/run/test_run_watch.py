from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from fcn4dist.cli.watch import watch
from fcn4dist.config import format_config, load_config
from fcn4dist.errors import ConfigError, JobError
from fcn4dist.files import save_json
from fcn4dist.run.folder import RunDir
from fcn4dist.run.pulse import PulseFile
from fcn4dist.run.state import RankEnd, is_locked, read_last_record, read_state
from fcn4dist.run.view import Drawing, take_snapshot
from fcn4dist.run.watch import watch_run

RECORD = {
    "step": 5,
    "num_steps": 60,
    "epoch": 1,
    "loss": 0.25,
    "samples_per_s": 40.0,
    "time_left_s": 75.0,
    "step_s": 0.2,
}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Return a run of two ranks in its fifth step."""
    found = RunDir(tmp_path / "run")
    found.logs(1).mkdir(parents=True)
    found.metrics(0).parent.mkdir()
    found.config.write_text(format_config(load_config()))
    save_json(found.plan, {"world_size": 2})
    for rank in (0, 1):
        found.metrics(rank).write_text(json.dumps(RECORD) + "\n")
        PulseFile(found.pulse(1, f"rank-{rank}")).beat("step", 6)
    figures = {"step": 4, "epoch": 1, "roc_auc_macro": 0.9, "pr_auc_macro": 0.8}
    of = {"split_name": "folder\n", "split_checksum": "0123456789abcdef"}
    found.evaluations.write_text(json.dumps({**figures, **of}) + "\n")
    processes = {"rank-0": {"cpu_percent": 97.0, "memory_bytes": 3 << 29}}
    found.usage.write_text(json.dumps({"time": 1.0, "processes": processes}) + "\n")
    save_json(found.environment, {"host": socket.gethostname()})
    return found


@contextmanager
def held(run: RunDir) -> Iterator[None]:
    """Hold the lock of a launcher that works on the run."""
    with run.lock.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def drawn(run: RunDir, width: int = 100, **options: bool) -> str:
    output = io.StringIO()
    watch_run(run.path, Console(file=output, width=width), once=True, **options)
    return output.getvalue()


def test_once_prints_how_far_a_run_is(run: RunDir) -> None:
    with held(run):
        text = drawn(run)
        assert "2 ranks" in text
        assert "epoch 1  step 5/60" in text
        assert "loss 0.2500  40.0 clips/s  1 min 15 s left  ROC-AUC 0.9000 after epoch 1" in text
        table = drawn(run, with_ranks=True)
    assert "1.50 GB" in table
    assert table.count("in step 6") == 2


def test_without_a_name_it_is_the_run_that_was_written_last(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.path.parent
    (folder / "runs" / "group").mkdir(parents=True)
    for name in ("group/seed-1", "late"):
        shutil.copytree(run.path, folder / "runs" / name)
        for file in (folder / "runs" / name).rglob("*"):
            os.utime(file, (1000, 1000))
    monkeypatch.chdir(folder)
    seed = RunDir(Path("runs/group/seed-1"))
    os.utime(seed.metrics(0), (2000, 2000))
    with held(seed):
        found = CliRunner().invoke(watch, ["--once"])
    assert found.exit_code == 0
    assert found.stderr == "watching runs/group/seed-1, the newest run\n"
    assert "epoch 1  step 5/60" in found.stdout


@pytest.mark.parametrize("width", [12, 30, 61, 200])
def test_no_line_is_wider_than_the_terminal(run: RunDir, width: int) -> None:
    with held(run):
        lines = drawn(run, width, with_ranks=True).splitlines()
    assert 5 <= len(lines) <= 6
    assert max(map(len, lines)) <= width


def test_a_host_that_shares_no_folder_shows_its_own_ranks(run: RunDir) -> None:
    for rank in (0, 1):
        run.pulse(1, f"rank-{rank}").unlink()
        run.metrics(rank).rename(run.metrics(rank + 2))
        PulseFile(run.pulse(1, f"rank-{rank + 2}")).beat("evaluating", 6)
    with held(run):
        lines = drawn(run, with_ranks=True).splitlines()
    assert "evaluating" in lines[0]
    assert "step 5/60" in lines[1]
    assert [line.split()[0] for line in lines[-2:]] == ["2", "3"]


def test_a_run_that_finished_or_was_stopped(run: RunDir) -> None:
    for rank in (0, 1):
        save_json(run.end(1, f"rank-{rank}"), asdict(RankEnd(60, 60)))
    assert drawn(run).startswith("done: 5 of 60 steps, last loss 0.2500, evaluation after epoch 1: ROC-AUC 0.9000")
    save_json(run.end(1, "rank-1"), asdict(RankEnd(5, 60, 15)))
    assert drawn(run).startswith("stopped on request, checkpoint saved: 5 of 60 steps")


def test_a_run_that_failed(run: RunDir) -> None:
    culprit = {"process": "rank-1", "host": "node-a", "error": None, "signal": "SIGKILL"}
    save_json(run.failure, {"attempt": 1, "culprit": culprit})
    with pytest.raises(JobError, match="failed after 5 of 60 steps: rank 1 on node-a: killed by SIGKILL"):
        drawn(run)


def test_a_run_whose_launcher_was_killed(run: RunDir) -> None:
    with pytest.raises(JobError, match="ended without a word after 5 of 60 steps"):
        drawn(run)


def test_a_launcher_on_another_host_shows_by_its_fresh_files(run: RunDir) -> None:
    save_json(run.environment, {"host": "somewhere else"})
    assert read_state(run).kind == "running"
    assert read_state(run, is_over=True).kind == "ended"


def test_there_is_no_run(tmp_path: Path) -> None:
    for folder, message in ((tmp_path / "nothing", "no such folder"), (tmp_path, "no run here")):
        with pytest.raises(ConfigError, match=message):
            watch_run(folder, Console(file=io.StringIO()))


@pytest.mark.parametrize("content", ["", "{", '{"step": 1', "[1]\n", '{"step": NaN, "loss": "x"}\n', "\x00\xff\n"])
def test_half_written_files_are_no_error(run: RunDir, content: str) -> None:
    files = [run.metrics(0), run.metrics(1), run.evaluations, run.usage, run.plan, run.environment]
    for file in [*files, run.pulse(1, "rank-0"), run.end(1, "rank-0")]:
        file.write_text(content)
    with held(run):
        assert drawn(run, with_ranks=True)


def test_the_last_whole_line_counts(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3')
    assert read_last_record(file) == {"step": 2}
    assert read_last_record(tmp_path / "none") is None


def test_locks_are_seen_without_touching_them(run: RunDir) -> None:
    assert not is_locked(run.lock)
    with held(run):
        assert is_locked(run.lock)
    assert not is_locked(run.lock)


def test_names_from_the_run_cannot_steer_the_terminal(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a\x1b[2Jb[red]\nc")
    run.metrics(0).parent.mkdir(parents=True)
    run.metrics(0).write_text(json.dumps(RECORD) + "\n")
    output = io.StringIO()
    Console(file=output, width=100).print(Drawing(take_snapshot(run)))
    assert output.getvalue().splitlines()[0].rstrip() == r"a\x1b[2Jb[red]\nc"


def test_it_follows_a_run_to_its_failure(run: RunDir) -> None:
    command = [sys.executable, "-m", "fcn4dist", "watch", str(run.path)]
    root = str(Path(__file__).resolve().parents[2])
    with held(run):
        watcher = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root, close_fds=True
        )
        assert watcher.stdout is not None
        assert "ROC-AUC 0.9000" in watcher.stdout.readline()
        assert watcher.stdout.readline().startswith("epoch 1  step 5/60  loss 0.2500")
        culprit = {"process": "rank-0", "host": "a", "error": {"type": "ValueError", "message": "nan"}}
        save_json(run.failure, {"attempt": 1, "culprit": culprit})
    _, errors = watcher.communicate(timeout=30)
    assert watcher.returncode == 1
    assert "rank 0 on a: ValueError: nan" in errors


def test_figures_name_their_split_and_its_clips_on_one_line(run: RunDir) -> None:
    for rank in (0, 1):
        save_json(run.end(1, f"rank-{rank}"), asdict(RankEnd(60, 60)))
    assert "PR-AUC 0.8000 on folder\\n (clip list 0123456789ab);" in drawn(run)
