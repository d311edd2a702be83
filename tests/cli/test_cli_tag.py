"""`fcn4dist tag` with an ONNX file, in processes that cannot import MindSpore."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from small_onnx import MEL, TAGS, expected_scores, write_small_onnx

from fcn4dist.cli.main import main
from fcn4dist.data.mel import log_mel

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_MINDSPORE = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_others(name, *args):
    return None if name.split(".")[0] in ("mindspore", "onnx", "torch", "safetensors") else find(name, *args)
PathFinder.find_spec = find_others
from fcn4dist.cli.main import main
main(sys.argv[1:])
"""


def run_tag(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_MINDSPORE, "tag", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=folder, check=False, env={"PYTHONPATH": str(ROOT)}
    )


def write_piece(file: Path, seconds: float = 5.0, level: float = 0.3, rate_hz: int = 12_000, channels: int = 1) -> None:
    wave = np.random.default_rng(3).normal(0, level, (round(seconds * rate_hz), channels)).clip(-1, 1)
    soundfile.write(file, wave.astype(np.float32), rate_hz)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_onnx(tmp_path_factory.mktemp("model") / "m.onnx", thresholds=[0.6, None, 0.0])


@pytest.mark.parametrize(("combine", "by_hand"), [("mean", np.mean), ("max", np.max)])
def test_scores_of_windows_become_those_of_the_piece(tmp_path: Path, model: Path, combine: str, by_hand: Any) -> None:
    file = tmp_path / "piece.wav"
    write_piece(file)
    result = run_tag(tmp_path, file, "--checkpoint", model, "--json", "--timeline", "--top", 3, "--combine", combine)
    assert result.returncode == 0, result.stderr
    (document,) = json.loads(result.stdout)["files"]
    wave = soundfile.read(file, dtype="float32")[0]
    windows = [wave[start : start + 24_000] for start in (0, 24_000, 36_000)]
    rows = np.concatenate([expected_scores(log_mel(window, MEL)[None, None]) for window in windows])
    assert [(row["start_s"], row["end_s"]) for row in document["timeline"]] == [(0, 2), (2, 4), (3, 5)]
    np.testing.assert_allclose([row["scores"] for row in document["timeline"]], rows, atol=1e-5)
    assert document["tag_order"] == TAGS
    found = {tag["tag"]: tag["score"] for tag in document["tags"]}
    np.testing.assert_allclose([found[tag] for tag in TAGS], by_hand(rows, axis=0), atol=1e-5)
    scores = [tag["score"] for tag in document["tags"]]
    assert scores == sorted(scores, reverse=True)
    assert {tag["tag"]: tag["is_present"] for tag in document["tags"]} == {
        "loud": found["loud"] >= 0.6,
        "soft": None,
        "mid": True,
    }
    assert (document["duration_s"], document["num_windows"], document["num_silent_windows"]) == (5.0, 3, 0)


def test_silent_windows_count_for_nothing(tmp_path: Path, model: Path) -> None:
    wave = np.concatenate([np.zeros(24_000), np.random.default_rng(0).normal(0, 0.1, 24_000)]).astype(np.float32)
    soundfile.write(tmp_path / "half.wav", wave, 12_000)
    result = run_tag(tmp_path, "half.wav", "--checkpoint", model, "--json", "--timeline")
    (document,) = json.loads(result.stdout)["files"]
    assert document["num_silent_windows"] == 1
    assert document["timeline"][0]["scores"] is None
    heard = dict(zip(TAGS, document["timeline"][1]["scores"], strict=True))
    assert {tag["tag"]: tag["score"] for tag in document["tags"]} == pytest.approx(heard)
    text = run_tag(tmp_path, "half.wav", "--checkpoint", model, "--timeline").stdout
    assert "half.wav  (0:04, 2 windows of 2 s, 1 of them silent)" in text
    assert "0:00 to 0:02  silent" in text


def test_unusable_files_are_named_and_the_others_tagged(tmp_path: Path, model: Path) -> None:
    (tmp_path / "notes.mp3").write_text("words, not music\n" * 100)
    (tmp_path / "album").mkdir()
    write_piece(tmp_path / "click.wav", 511 / 12_000)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 44_100)
    soundfile.write(tmp_path / "still.wav", np.zeros(44_100), 44_100)
    write_piece(tmp_path / "wide.wav", 3, rate_hz=192_000, channels=8)
    soundfile.write(tmp_path / "coarse.wav", np.random.default_rng(0).normal(0, 0.2, 30_000), 8_000, subtype="PCM_U8")
    files = ["notes.mp3", "none.wav", "gone\n\x1b[31m.wav", "still.wav", "wide.wav", "coarse.wav", "album", "click.wav"]
    result = run_tag(tmp_path, *files, "--checkpoint", model, "--json")
    assert result.returncode == 2
    documents = json.loads(result.stdout)["files"]
    assert [document["file"] for document in documents] == files
    assert [document.get("error", "tagged").split(":")[0] for document in documents] == [
        *(
            "cannot be decoded",
            "no samples",
            "no such file",
            "silent",
            "tagged",
            "tagged",
            "a folder, not a file",
            "too short",
        )
    ]
    lines = result.stderr.splitlines()
    assert len(lines) == 6, result.stderr
    assert "click.wav: too short: 0.043 s, 511 samples at 12000 Hz; expected 512 or more" in lines[5]
    assert all(line.startswith("fcn4dist: ") for line in lines)
    assert lines[0].startswith("fcn4dist: notes.mp3: cannot be decoded: not audio, or damaged (")
    assert "ffmpeg" in lines[0]
    assert lines[2] == r"fcn4dist: gone\n\x1b[31m.wav: no such file"


def test_what_is_odd_about_a_tagged_file_is_said(tmp_path: Path, model: Path) -> None:
    write_piece(tmp_path / "whole.wav")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[:90_044])
    (tmp_path / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(2000))
    (tmp_path / "samples.raw").write_bytes(bytes(2000))
    result = run_tag(tmp_path, "whole.wav", "cut.wav", "song.m4a", "samples.raw", "--checkpoint", model, "--json")
    whole, cut, *refused = json.loads(result.stdout)["files"]
    assert (whole["note"], whole["duration_s"]) == (None, 5)
    assert (cut["note"], cut["duration_s"]) == ("short: 3.8 s decoded, 5.0 s in its header", 3.75)
    assert [document["error"].split(":")[0] for document in refused] == ["AAC/M4A", "raw samples have no header"]
    lines = result.stderr.splitlines()
    assert lines[0] == "fcn4dist: cut.wav: short: 3.8 s decoded, 5.0 s in its header"
    assert len(lines) == 3


def test_hostile_tags_stay_on_their_line(tmp_path: Path) -> None:
    tags = ["<script>", "a\nb\x1b[2J", "y" * 10_000]
    model = write_small_onnx(tmp_path / "m.onnx", tags)
    write_piece(tmp_path / "a.wav")
    result = run_tag(tmp_path, "a.wav", "--checkpoint", model, "--picture", "a.svg")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert "\x1b" not in result.stdout
    assert max(map(len, lines)) < 250
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
    (document,) = json.loads(run_tag(tmp_path, "a.wav", "--checkpoint", model, "--json").stdout)["files"]
    assert {tag["tag"] for tag in document["tags"]} == set(tags)


def test_a_picture_comes_after_the_text_and_letters_without_a_glyph_are_no_news(tmp_path: Path) -> None:
    model = write_small_onnx(tmp_path / "m.onnx", ["民謡", "بيانو", "soft"])
    write_piece(tmp_path / "a.wav")
    result = run_tag(tmp_path, "a.wav", "--checkpoint", model, "--picture", "a.png")
    assert (result.returncode, result.stderr) == (0, "")
    (tmp_path / "b.png").mkdir()  # a picture cannot go there
    result = run_tag(tmp_path, "a.wav", "--checkpoint", model, "--picture", "b.png")
    assert result.returncode == 2
    assert "b.png: cannot be written" in result.stderr
    assert "soft" in result.stdout


def test_real_music_is_tagged(tmp_path: Path, model: Path, shared_data: Path) -> None:
    files = sorted((shared_data / "music").glob("*.ogg"))
    assert len(files) == 4
    result = run_tag(tmp_path, *files, "--checkpoint", model, "--json", "--top", len(TAGS))
    assert (result.returncode, result.stderr) == (0, "")
    documents = json.loads(result.stdout)["files"]
    assert [document["file"] for document in documents] == [str(file) for file in files]
    for file, document in zip(files, documents, strict=True):
        assert document["duration_s"] == pytest.approx(soundfile.info(file).duration, abs=0.05)
        assert {tag["tag"] for tag in document["tags"]} == set(TAGS)
        assert all(0 < tag["score"] < 1 for tag in document["tags"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hop", 3], "--hop 3.0: longer than a window of 2 s"),
        (["--window", 0.1], "--window 0.1: too short for this network; expected 0.15 s or more"),
        (["--hop", "nan"], "expected a number of seconds"),
        (["--top", 0], "0 is not in the range"),
        (["--picture", "a.jpg"], "ends in .png"),
        (["b.wav", "--picture", "a.png"], "one picture, but 2 files"),
        (["--checkpoint", "gone.onnx"], "gone.onnx: no such file"),
    ],
)
def test_mistakes_are_one_message(
    tmp_path: Path,
    model: Path,
    arguments: list[object],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_piece(tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["tag", "a.wav", "--checkpoint", str(model), *map(str, arguments)])
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert message in printed.err
    assert printed.out == ""


def test_what_needs_mindspore_says_so(tmp_path: Path) -> None:
    result = run_tag(tmp_path, "a.wav", "--checkpoint", "m.mindir")
    assert (result.returncode, "MindSpore is not installed" in result.stderr) == (2, True)
    assert "Traceback" not in result.stderr
