"""What the command line makes of errors that no command names itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn4dist.cli.main import main

LONG = "x" * 10_000


@pytest.mark.parametrize(
    "arguments",
    [
        ["tag", LONG, "--checkpoint", LONG],
        ["report", LONG],
        ["watch", LONG],
        ["tensorboard", LONG],
        ["evaluate", "--scores", LONG],
        ["data", "stats", LONG],
        ["launch", "--data", LONG, "--devices", "1", "--dry-run"],
        ["report", "y" * 300],
    ],
    ids=lambda arguments: " ".join(arguments)[:20],
)
def test_a_name_that_no_file_can_have_is_one_short_message(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.err.count("\n") == 1, printed.err
    assert printed.err.lower().endswith("file name too long\n")
    assert len(printed.err) < 120


EXPECTED = (
    "expected a checkpoint folder such as RUN/checkpoints/step-00000120, a run, or a file: .ckpt, .onnx or .mindir"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tag", "a.wav", "--checkpoint", "gone"], f"gone: no such file or folder; {EXPECTED}"),
        (["tag", "a.wav", "--checkpoint", "empty"], f"empty: holds no checkpoint; {EXPECTED}"),
        (["tag", "a.wav", "--checkpoint", "odd"], "odd/best: cannot be read: Is a directory; expected the name of"),
        (["export", "gone", "--output", "m.onnx"], f"gone: no such file or folder; {EXPECTED}"),
        (["export", "--checkpoint", "gone", "--output", "m.onnx"], f"gone: no such file or folder; {EXPECTED}"),
        (["export", "--checkpoint", "gone", "--output", "m.air"], "AIR files are written by CANN, on Ascend alone"),
        (["tensorboard", "empty"], "empty: no run here (no config.yaml); expected the folder of a run"),
        (["tensorboard", "gone"], "gone: no such folder; expected the folder of a run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_path_that_is_not_there_is_named_as_the_user_gave_it(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("mindspore")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "best").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert printed.startswith(f"fcn4dist: {message}"), printed
    assert "--device-target" not in printed
    assert "--resume" not in printed


def test_other_errors_of_the_system_stay_bugs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", "disk")

    monkeypatch.setattr("fcn4dist.cli.main.cli.main", fail)
    with pytest.raises(OSError, match="Input/output"):
        main(["report", "."])
