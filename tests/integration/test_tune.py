"""`fcn4dist tune` with real processes, on CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from jobs import Run, environment, run_here, wait_for

from fcn4dist.config import load_config

SMALL = [
    *("--device-target", "CPU", "--set", "model.channels=[4, 4, 6, 8]", "--set", "mel.clip_s=4"),
    *("--set", "train.global_batch=8", "--set", "data.tags=3", "--amp", "O0", "--steps", "2"),
]


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the living measuring processes of a running `tune`."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "fcn4dist.train.measure" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def test_the_fastest_form_is_written_as_a_config_that_says_what_was_measured(
    fcn4dist: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"train": {"lr": 0.002, "device_batch": 2}}))
    arguments = ("tune", "--config", own, *SMALL, "--batch", "4", "--output", "tuned.yaml", "--json")
    done = fcn4dist(*arguments, timeout_s=900)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    plain, pooled = document["forms"]
    for form in (plain, pooled):
        assert (form["amp"], form["device_batch"], form["problem"]) == ("O0", 4, None)
        assert abs(form["clips_per_s"] * form["step_s"] - 8) < 1e-6  # a step has all clips of the rank, in two parts
        assert form["num_steps"] == 2
        assert form["compile_s"] > 0
        assert 1e8 < form["memory_bytes"] < 1e10  # a process with MindSpore
    assert [plain["first_block"], pooled["first_block"]] == ["plain", "pooled"]
    fastest = max(plain, pooled, key=lambda form: form["clips_per_s"])
    assert document["fastest"] == fastest
    tuned = load_config(tmp_path / "tuned.yaml")
    assert (tuned.train.amp, tuned.train.device_batch, tuned.model.first_block) == ("O0", 4, fastest["first_block"])
    assert (tuned.train.lr, tuned.train.global_batch, tuned.model.channels) == (0.002, 8, [4, 4, 6, 8])
    assert f"{fastest['clips_per_s']:.1f} clips/s" in (tmp_path / "tuned.yaml").read_text().splitlines()[0]
    before = (tmp_path / "tuned.yaml").read_bytes()
    monkeypatch.chdir(tmp_path)
    again = run_here(*arguments)
    assert again.returncode == 2
    assert "tuned.yaml: is there already; name another file, or add --force" in again.stderr
    assert (tmp_path / "tuned.yaml").read_bytes() == before


def test_forms_that_cannot_be_are_lines_with_their_reason_and_start_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_here(
        *("tune", "--device-target", "CPU", "--set", "train.global_batch=65536", "--amp", "O0,O3"),
        *("--first-block", "pooled", "--batch", "65536", "--output", "tuned.yaml"),
    )
    assert done.returncode == 1, done.stderr
    fits, allowed = done.stdout.splitlines()[2:4]
    assert fits.startswith("O0            65536  pooled")
    assert "does not fit: about 13" in fits  # 65,536 clips x 210 MB (docs/launch.md) are 13.8 TB
    assert "pooled computes its statistics in float32, which train.amp O3 does not leave it" in allowed
    assert "no form could be measured" in done.stderr
    assert not (tmp_path / "tuned.yaml").exists()


def test_what_is_asked_for_is_checked_first() -> None:
    for arguments, message in (
        (("--amp", "O0,O9"), "--amp O0,O9: 'O9' is none of O0, O2, O3, auto"),
        (("--batch", "0"), "--batch 0: expected numbers of clips such as 32,16,8"),
        (("--batch", "64"), "--batch 64: a rank has 32 clips in a step"),
        (("--batch", "7"), "--batch 7: the 32 clips that a rank has in a step are no multiple of it"),
        (("--output", "no/such/tuned.yaml"), "--output no/such/tuned.yaml: no folder no/such"),
    ):
        done = run_here("tune", "--device-target", "CPU", *arguments)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_a_killed_form_is_a_line_and_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    """The kernel's out-of-memory killer sends SIGKILL, too."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "fcn4dist", "tune", *SMALL, "--batch", "8,4", "--first-block", "plain"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "TMPDIR": str(temporary)},
        cwd=tmp_path,
    ) as tune:
        wait_for(lambda: children_of(tune), 120, "the first form is measured")
        (first,) = children_of(tune)
        first.kill()
        wait_for(lambda: [child for child in children_of(tune) if child != first], 120, "the second form is measured")
        (second,) = children_of(tune)
        os.kill(tune.pid, signal.SIGINT)
        stdout, stderr = tune.communicate(timeout=60)
    assert tune.returncode == 130, stderr
    assert "interrupted" in stderr
    killed = stdout.splitlines()[2]
    assert killed.startswith("O0                8  plain")
    assert "killed by SIGKILL" in killed or "out-of-memory killer" in killed
    assert not second.is_running()
    assert list(temporary.iterdir()) == []
