"""`fcn4dist prepare` as users run it: its words, its exit codes, and what an interruption leaves."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from audio_set import AudioSet, make_audio_set, read_features
from jobs import run_here
from terminal import Terminal

from fcn4dist.data.manifest import load_manifest

LIMIT_S = 120.0
SHARDS = ("--set", "data.num_consumer=5")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> AudioSet:
    return make_audio_set(tmp_path_factory.mktemp("audio"), num_clips=240)


def command(*options: object) -> list[str]:
    return [sys.executable, "-m", "fcn4dist", "prepare", *map(str, options)]


def run(*options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.run(
        command(*options), capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False
    )


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + LIMIT_S
    while not is_true():
        assert time.monotonic() < limit, f"{what} did not come within {LIMIT_S} s"
        time.sleep(0.005)


def end_at(
    process: subprocess.Popen[str], output: Path, num_shards: int, end: Callable[[], object]
) -> list[psutil.Process]:
    """Call `end` when `num_shards` shards are finished; return the children that the process had."""
    notes = output.with_name(output.name + ".partial") / "notes"

    def is_there() -> bool:
        return process.poll() is not None or (notes.is_dir() and len(list(notes.glob("[!.]*"))) >= num_shards)

    wait_until(is_there, f"shard {num_shards}")
    assert process.poll() is None, process.communicate()
    children = psutil.Process(process.pid).children(recursive=True)
    end()
    process.wait(LIMIT_S)
    return children


def start(*options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen(
        command(*options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        # a suite that runs in the background of a shell has SIGINT ignored, and its children would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@dataclass(frozen=True)
class Prepared:
    """A data set that nobody disturbed, and what the terminal showed."""

    data: Path
    rows: list[str]
    num_pictures: int


@pytest.fixture(scope="module")
def undisturbed(audio: AudioSet, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    data = tmp_path_factory.mktemp("undisturbed") / "data"
    words = command(*audio.options, *SHARDS, "--workers", "1", "--output", data)[1:]
    with Terminal(words, r"^preparing \d+/\d+ ", columns=100, lines=24) as shown:
        assert shown.read_to_end() == 0
    return Prepared(data, shown.rows, shown.num_pictures)


def test_a_terminal_sees_a_bar_and_then_the_counts_in_its_place(undisturbed: Prepared) -> None:
    assert undisturbed.num_pictures >= 1  # a quick machine is done before the second
    assert undisturbed.rows[0] == "preparing: 240 clips"
    assert undisturbed.rows[1].startswith("240 listed, 240 written")


def test_killed_and_run_again_the_features_are_the_same(audio: AudioSet, undisturbed: Prepared, tmp_path: Path) -> None:
    options, output = [*audio.options, *SHARDS, "--workers", "2"], tmp_path / "disturbed"
    at = sorted(random.Random().sample(range(1, 13), 2))  # each kill finds more done than the one before
    for num_shards in at:
        process = start(*options, "--output", output)
        children = end_at(process, output, num_shards, process.kill)
        assert process.returncode == -signal.SIGKILL
        assert not output.exists()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive, f"killed at {num_shards}: workers live on: {alive}"
        process.communicate()
    last = run(*options, "--output", output)
    assert last.returncode == 0, last.stderr
    reused = re.search(r"preparing: \d+ clips, (\d+) of them from an earlier run", last.stderr)
    assert reused, last.stderr
    assert int(reused[1]) >= at[-1]
    assert read_features(output) == read_features(undisturbed.data), f"killed at {at} shards"
    assert load_manifest(output).splits == load_manifest(undisturbed.data).splits
    assert not list(tmp_path.glob("*.partial"))


def test_ctrl_c_ends_with_one_word_and_130(audio: AudioSet, tmp_path: Path) -> None:
    process = start(*audio.options, "--workers", "2", "--output", tmp_path / "data")
    end_at(process, tmp_path / "data", 2, lambda: os.killpg(process.pid, signal.SIGINT))
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr.splitlines()  # joblib's resource tracker may have a word after it
    assert (
        "fcn4dist/cli" not in stderr
    )  # no traceback of ours; a worker that was just starting may print one of its own
    assert not (tmp_path / "data").exists()


def test_a_killed_worker_ends_the_run_with_exit_code_1(audio: AudioSet, tmp_path: Path) -> None:
    process = start(*audio.options, "--workers", "2", "--output", tmp_path / "data")

    def kill_workers() -> None:
        for child in psutil.Process(process.pid).children(recursive=True):
            if any("popen_loky" in word for word in child.cmdline()):
                child.kill()

    end_at(process, tmp_path / "data", 2, kill_workers)
    _, stderr = process.communicate()
    assert process.returncode == 1, stderr
    assert "a worker process of prepare was killed (out of memory?)" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "data").exists()


def test_counts_split_and_skipped_clips_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    audio = make_audio_set(tmp_path / "audio")
    audio.file(2).write_bytes(b"")
    options = [*audio.options, "--workers", "1", "--set", "data.max_skipped_fraction=0.1", "--output", "data"]
    done = run_here("prepare", *options)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"skipped {audio.path(2)}: empty file"
    assert re.fullmatch(r"48 listed, 47 written, 1 skipped to data in \d+\.\d s", lines[1])
    assert lines[2].startswith("split folder-12-1-3: train 39, val 4, test 4; 3 tags; ")
    told = done.stderr.splitlines()
    assert told[0] == "preparing: 48 clips"
    assert all(line.startswith("preparing: ") for line in told)  # on a slow machine also how far it is
    again = run_here("prepare", *options, "-q")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_users_mistake_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    audio = make_audio_set(tmp_path / "audio", num_clips=24)
    table = audio.annotations.read_text()
    bad = tmp_path / "bad.csv"
    good = [*audio.options, "--workers", "1", "--output", tmp_path / "data"]

    def check(message: str, *options: object) -> None:
        done = run_here("prepare", *good, *options)
        assert done.returncode == 2, done.stderr
        assert re.search(message, done.stderr), done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert sorted(path.name for path in tmp_path.iterdir() if path != bad) == ["audio"]

    check(r"4 tags asked, .* has 3", "--set", "data.tags=4")
    check(r"data\.tag: unknown key; did you mean data\.tags", "--set", "data.tag=4")
    check("no such audio folder", "--audio-dir", tmp_path / "none")
    check("no fold|no such file: f.csv", "--set", "data.split=folds:f.csv:1")
    bad.write_text(table.replace('"0"\t"1"', '"0"\t"yes"', 1))
    check(r"bad\.csv:2: tag 'high' is 'yes'; expected 0", "--annotations", bad)
    bad.write_text(table.replace(audio.path(1), "../../etc/passwd"))
    check(r"bad\.csv:3: path '\.\./\.\./etc/passwd' leaves the audio folder", "--annotations", bad)
    check("cannot write the data set: .*(Not a directory|File exists)", "--output", audio.annotations / "data")


def test_an_unwritable_output_is_one_message(audio: AudioSet) -> None:
    done = run_here("prepare", *audio.options, "--output", "/proc/nowhere/data")
    assert done.returncode == 2
    assert re.fullmatch(r"fcn4dist: /proc/nowhere.*: cannot write the data set: .*\n", done.stderr)
