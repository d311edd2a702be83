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


def test_other_errors_of_the_system_stay_bugs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", "disk")

    monkeypatch.setattr("fcn4dist.cli.main.cli.main", fail)
    with pytest.raises(OSError, match="Input/output"):
        main(["report", "."])
