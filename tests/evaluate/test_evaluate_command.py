"""`fcn4dist evaluate --scores` on made-up scores: where its figures may go, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from score_runs import make_scores, write_clip_list, write_run

from fcn4dist.cli.main import main

QUICK = ("--set", "evaluate.num_resamples=20")


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object, is_quick: bool = True) -> tuple[int, str, str]:
    """Return the exit code and what was printed."""
    code = 0
    try:
        main(["evaluate", *map(str, arguments), *(QUICK if is_quick else ())])
    except SystemExit as ended:
        code = int(ended.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_run_is_no_place_for_other_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", make_scores(1, 0.5))
    (run / "config.yaml").write_text("")
    before = (run / "evaluation.json").read_bytes()
    code, _, said = evaluate(capsys, "--scores", run, "--output", run)
    assert (code, said.count("\n")) == (2, 1)
    assert f"--output {run}: a run, whose own evaluation would be lost" in said
    assert (run / "evaluation.json").read_bytes() == before
    assert evaluate(capsys, "--scores", run, "--output", tmp_path / "other")[0] == 0
    assert (tmp_path / "other" / "scores.npz").is_file()


def test_scores_of_val_are_not_relabelled_as_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", make_scores(1, 0.5))
    code, _, said = evaluate(capsys, "--scores", run, "--split", "test")
    assert (code, said.count("\n")) == (2, 1)
    assert "run: its scores are of val; expected test (--split)" in said


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/x", "long" * 100])
def test_an_output_that_cannot_be_is_told_before_the_scoring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("")
    code, printed, said = evaluate(capsys, "--scores", tmp_path / "not looked at", "--output", tmp_path / place)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert f"--output {tmp_path / place}: cannot be written: " in said


def test_figures_that_cannot_be_written_are_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", make_scores(1, 0.5))
    (tmp_path / "out" / "evaluation.json").mkdir(parents=True)
    code, _, said = evaluate(capsys, "--scores", run, "--output", tmp_path / "out")
    assert (code, said.count("\n")) == (2, 1)
    assert f"--output {tmp_path / 'out'}: cannot be written: Is a directory" in said


def test_it_says_what_was_resampled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", make_scores(1, 0.5))
    printed = evaluate(capsys, "--scores", run / "scores.npz")[1]
    assert "120 clips, 20 resamples of clips, seed 0\nwarning: tracks are not known" in printed
    printed = evaluate(capsys, "--scores", run, "--data", write_clip_list(tmp_path / "data"))[1]
    assert "30 tracks, 20 resamples of tracks, seed 0\n" in printed
    assert "warning" not in printed
    assert "resamples" not in evaluate(capsys, "--scores", run, "--set", "evaluate.num_resamples=0", is_quick=False)[1]
