"""`fcn4dist data splits` and `fcn4dist evaluate --compare`: their words, their JSON, their exit codes; without MindSpore."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fcn4dist.cli.data import data
from fcn4dist.cli.evaluate import evaluate

ROOT = Path(__file__).resolve().parents[2]
CODE = "import sys; sys.modules['mindspore'] = None; from fcn4dist.cli.main import main; main(sys.argv[1:])"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = ["clip_id\trock\tmp3_path"]
    for row in range(40):
        lines.append(f"{row}\t{row % 2}\t0/artist{row % 4}-album-{row // 4:02d}-title-{row}-{row + 29}.mp3")
    file = tmp_path / "t.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_splits_prints_counts_leaks_and_warnings(table: Path) -> None:
    done = run(
        "data",
        "splits",
        "--annotations",
        table,
        "--split",
        "random",
        "--seed",
        3,
        "--clean",
        "--set",
        "data.tags=1",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["split"]["name"] == "random-clean"
    assert document["split"]["seed"] == 3
    assert sum(part["num_clips"] for part in document["parts"].values()) == 20
    assert document["num_left_out"] == 20
    shown = CliRunner().invoke(data, ["splits", "--annotations", str(table), "--split", "random-by-track"])
    assert shown.exit_code == 0
    assert f"{table}: format table, 40 clips, 1 tags\nsplit random-by-track: " in shown.output
    assert "tracks: 0 of 40 in more than one part" in shown.output


def test_mistakes_are_one_message(table: Path, tmp_path: Path) -> None:
    paths = tmp_path / "paths.tsv"
    paths.write_text("clip_id\tmp3_path\n1\t0/a.mp3\n")
    for arguments, message in (
        (["data", "splits"], "data.annotations: not given"),
        (
            ["data", "splits", "--annotations", table, "--split", "by-mood"],
            "'by-mood' is no split; expected folder-12-1-3",
        ),
        (["data", "splits", "--annotations", paths, "--split", "folder-12-1-3-clean"], "paths.tsv: no tag columns"),
        (["data", "stats", tmp_path / "none"], "no such folder"),
        (["evaluate"], "expected one of RUN (or --checkpoint C), --scores S and --compare A B"),
        (["evaluate", "--checkpoint", tmp_path], "holds no checkpoint; expected a checkpoint folder such as"),
        (["evaluate", "--compare", tmp_path, tmp_path], "scores.npz: cannot be read: No such file"),
        (["evaluate", "--compare", tmp_path, tmp_path, "--split", "val"], "--split does not go with --compare"),
        (["evaluate", "--scores", table], "t.csv: damaged, or no file of scores"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def write_scores(folder: Path, seed: int, first_clip: int = 0) -> Path:
    labels = (np.random.default_rng(0).random((30, 2)) < 0.4).astype(np.int32)
    scores = np.random.default_rng(seed).random((30, 2)).astype(np.float32)
    file = folder / f"{seed}.npz"
    np.savez(file, clip_ids=first_clip + np.arange(30, dtype=np.int32), labels=labels, scores=scores)
    return file


def test_two_files_of_scores_are_compared_without_mindspore(tmp_path: Path) -> None:
    done = run("evaluate", "--compare", write_scores(tmp_path, 1), write_scores(tmp_path, 2), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    roc = document["roc_auc_macro"]
    assert roc["difference"] == pytest.approx(roc["b"] - roc["a"], abs=1e-12)
    assert 0 < roc["p_value"] <= 1
    assert roc["ci95"][0] < roc["difference"] < roc["ci95"][1]
    assert (document["unit"], document["num_resamples"]) == ("clip", 2000)


def test_a_file_of_scores_is_measured_anew(tmp_path: Path) -> None:
    scores, output = write_scores(tmp_path, 1), tmp_path / "out"
    arguments = [
        "--scores",
        str(scores),
        "--split",
        "val",
        "--output",
        str(output),
        "--set",
        "evaluate.num_resamples=100",
    ]
    shown = CliRunner().invoke(evaluate, arguments)
    assert shown.exit_code == 0, shown.output
    assert "val of unknown split (clip list " in shown.output
    assert "thresholds chosen on these very clips" in shown.output
    again = CliRunner().invoke(evaluate, ["--scores", str(output), "--json", "--set", "evaluate.num_resamples=100"])
    assert json.loads(again.output) == json.loads((output / "evaluation.json").read_text())
    test = CliRunner().invoke(evaluate, ["--scores", str(scores), "--split", "test"])
    assert "F1: no thresholds at hand" in test.output
    other = write_scores(tmp_path, 2, first_clip=500)
    thresholds = ["--thresholds", str(output / "evaluation.json")]
    # the file beside out/evaluation.json names tag0, tag1; so do scores without a name
    given = CliRunner().invoke(evaluate, ["--scores", str(other), "--split", "test", *thresholds])
    assert "thresholds chosen on val of unknown split" in given.output
