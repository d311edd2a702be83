"""What `fcn4dist launch` refuses, with one message and exit code 2, before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bare_set import make_bare_set

from fcn4dist.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code: object = 0
    try:
        main(["launch", *arguments])
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    assert isinstance(code, int)
    return code, captured.out, captured.err


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "0"], "--devices 0: expected at least 1"),
        (["--devices", "3", "--set", "train.global_batch=16"], "16 clips cannot be divided among 3 ranks"),
        (["--set", "train.learning_rate=1"], "train.learning_rate: unknown key"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--master-port", "8118"], "MindSpore's workers use 8118 to 12213"),
        (["--resume", "nowhere"], "--resume nowhere: no run here"),
        (["--resume", "nowhere", "--run-dir", "here"], "--run-dir: --resume goes on in the run's own directory"),
        (["--set", "data.audio_dir=/music"], "data.annotations: not set"),
        (["--nodes", "2", "--node-rank", "2", "--master-addr", "a"], "--node-rank 2: out of range"),
        (["--nodes", "2", "--node-rank", "0", "--master-addr", "a"], "needs a secret: --job-secret-file FILE or"),
        (["--nodes", "2", "--node-rank", "0"], "--nodes 2: needs --master-addr HOST"),
        (["--hostfile", "nowhere"], "--hostfile nowhere: cannot be read"),
        (["--rank-table", "nowhere.json"], "nowhere.json"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot read the config"),
    ],
)
def test_one_message_exit_code_2_and_nothing_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, "--device-target", "CPU", *arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_ascend_that_is_not_there_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if list(Path("/dev").glob("davinci[0-9]*")):
        pytest.skip("this machine has NPUs")
    code, _, err = run(capsys, "--device-target", "Ascend")
    assert code == 2
    assert "an NPU (no /dev/davinci0" in err


def test_a_dry_run_of_ascend_needs_no_ascend(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_bare_set(tmp_path)
    options = ["--devices", "8", "--device-target", "Ascend", "--dry-run", "--master-port", "23456", "--data", "."]
    code, out, _ = run(capsys, *options)
    assert code == 0
    assert "8 ranks on Ascend, scheduler 127.0.0.1:23456" in out
    assert "rank 7: device 7" in out
    assert "DEVICE_ID=7" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.mindrecord0", "train.mindrecord0.db"]


def test_a_dry_run_of_the_demo_shows_its_batches_and_makes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fcn4dist.data.demo")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code, out, _ = run(
        capsys, "--devices", "2", "--device-target", "CPU", "--dry-run", "--set", "train.global_batch=12"
    )
    assert code == 0
    assert "12 clips a step = 2 ranks x 1 micro-batches x 6 clips" in out
    assert "the embedded demo set" in out
    assert list(tmp_path.iterdir()) == []


def test_the_launcher_never_pays_for_mindspore() -> None:
    code = "import sys, fcn4dist.launch.pipeline, fcn4dist.cli.launch; "
    code += "print({'mindspore', 'numpy', 'librosa'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"
