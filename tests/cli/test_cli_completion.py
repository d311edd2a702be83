"""What a shell is offered at <Tab>: asked as bash asks, with the words that bash cuts at "=" and ":"."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcn4dist.cli.completion import BashWithSigns
from fcn4dist.cli.main import COMMANDS, cli


@pytest.fixture(autouse=True)
def in_folder_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs, the older one last, and a folder that is none."""
    for age, name in enumerate(("new", "old")):
        step = tmp_path / "runs" / name / "checkpoints" / "step-00000002"
        step.mkdir(parents=True)
        step.with_name("step-00000010").mkdir()
        config = tmp_path / "runs" / name / "config.yaml"
        config.touch()
        os.utime(config, (1000 - age, 1000 - age))
    (tmp_path / "audio").mkdir()
    monkeypatch.chdir(tmp_path)


def complete(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Return what bash adds to the last word; the words are as bash's COMP_WORDS has them."""
    monkeypatch.setenv("COMP_WORDS", "\n".join(["fcn4dist", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    return BashWithSigns(cli, {}, "fcn4dist", "_FCN4DIST_COMPLETE").complete().splitlines()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["eva"], ["plain,evaluate"]),
        (["rank-table", "gen"], ["plain,generate"]),
        (["launch", "--dev"], ["plain,--devices", "plain,--device-target"]),
        (["launch", "--device-target", "c"], ["plain,cpu"]),
        (["launch", "--set", "train.amp"], ["plain,train.amp=", "plain,train.amp_dtype="]),
        (["launch", "--set", "train.amp", "="], ["plain,O0", "plain,O2", "plain,O3", "plain,auto"]),
        (["launch", "--set", "launch.device_target", "=", "a"], ["plain,auto", "plain,Ascend"]),
        (["launch", "--set", "train.amp", "=", "O2", "--set", "train.freeze_batch_norm", "=", "t"], ["plain,true"]),
        (["launch", "--set", "data.split", "=", "off"], ["plain,official", "plain,official:"]),
        (["data", "splits", "--split", "random-by-a"], ["plain,random-by-artist", "plain,random-by-album"]),
        (["watch", ""], ["plain,runs/new", "plain,runs/old"]),
        (["launch", "--resume", "runs/o"], ["plain,runs/old"]),
        (["report", "runs/old", "runs/n"], ["plain,runs/new"]),
        (["evaluate", "aud"], ["file,aud"]),  # no run: the shell's own way with files
        (
            ["export", "--checkpoint", "runs/old/checkp"],
            ["plain,runs/old/checkpoints/step-00000010", "plain,runs/old/checkpoints/step-00000002"],
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_words_that_are_offered(words: list[str], offered: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(monkeypatch, *words) == offered


def test_all_commands_are_offered_without_loading_any(tmp_path: Path) -> None:
    """A shell waits: neither a command's module nor pydantic, NumPy or MindSpore is loaded to name the commands."""
    code = (
        "import atexit, sys; "
        "heavy = ('pydantic', 'numpy', 'mindspore', 'fcn4dist.cli.launch', 'fcn4dist.config'); "
        "atexit.register(lambda: print(*(name for name in heavy if name in sys.modules), file=sys.stderr)); "
        "from fcn4dist.cli.main import main; main()"
    )
    asked = {"COMP_WORDS": "fcn4dist\n", "COMP_CWORD": "1", "_FCN4DIST_COMPLETE": "bash_complete"}
    environ = {**os.environ, **asked, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True)
    assert done.stdout.splitlines() == [f"plain,{name}" for name in COMMANDS]
    assert done.stderr == "\n"
