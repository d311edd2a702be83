"""`fcn4dist tag` with an ONNX file; once in a process that cannot import MindSpore."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

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


@dataclass
class Ended:
    returncode: int
    stdout: str
    stderr: str


def run_tag(folder: Path, *arguments: object, stdout: TextIO | None = None) -> Ended:
    """Run the command in this process, in `folder`."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    code, before = 0, Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(stdout or out), contextlib.redirect_stderr(err):
            main(["tag", *map(str, arguments)])
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os.chdir(before)
    return Ended(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def run_without_mindspore(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_MINDSPORE, "tag", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=folder, check=False, env={"PYTHONPATH": str(ROOT)}
    )


def write_piece(file: Path, seconds: float = 5.0, level: float = 0.3, rate_hz: int = 12_000, channels: int = 1) -> None:
    wave = np.random.default_rng(3).normal(0, level, (round(seconds * rate_hz), channels)).clip(-1, 1)
    soundfile.write(file, wave.astype(np.float32), rate_hz)


def write_day(file: Path) -> None:
    """Write a day of silence, which takes no room on the disk and long to decode."""
    num_bytes = 2 * 12_000 * 86_400
    parts = (b"RIFF", 36 + num_bytes, b"WAVEfmt ", 16, 1, 1, 12_000, 24_000, 2, 16, b"data", num_bytes)
    file.write_bytes(struct.pack("<4sI8sIHHIIHH4sI", *parts))
    os.truncate(file, 44 + num_bytes)


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
    assert result.returncode == 1
    documents = json.loads(result.stdout)["files"]
    assert [document["file"] for document in documents] == ["album", *(file for file in files if file != "album")]
    assert [document.get("error", "tagged").split(":")[0] for document in documents] == [
        *(
            "a folder without audio files",
            "cannot be decoded",
            "no samples",
            "no such file",
            "silent",
            "tagged",
            "tagged",
            "too short",
        )
    ]
    counted, *lines, last = result.stderr.splitlines()
    assert counted == "album: 0 audio files"
    assert lines[0] == "fcn4dist: album: a folder without audio files"
    assert len(lines) == 6, result.stderr
    assert "click.wav: too short: 0.043 s, 511 samples at 12000 Hz; expected 512 or more" in lines[5]
    assert all(line.startswith("fcn4dist: ") for line in lines)
    assert lines[1].startswith("fcn4dist: notes.mp3: cannot be decoded: not audio, or damaged (")
    assert "ffmpeg" in lines[1]
    assert lines[3] == r"fcn4dist: gone\n\x1b[31m.wav: no such file"
    assert last == "2 of 8 files tagged; 6 could not be used"
    assert run_tag(tmp_path, "notes.mp3", "--checkpoint", model).returncode == 2  # nothing was tagged


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
    assert len(lines) == 4


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
    (tmp_path / "pictures").symlink_to("/proc")  # a picture cannot go there
    result = run_tag(tmp_path, "a.wav", "--checkpoint", model, "--picture", "pictures/b.png")
    assert result.returncode == 2
    assert "b.png: cannot be written" in result.stderr
    assert "soft" in result.stdout


def test_what_other_programs_wrote_is_tagged(tmp_path: Path, model: Path) -> None:
    folder = ROOT / "tests/data/recorded"
    played = json.loads((folder / "played.json").read_text())
    files = sorted(folder / name for name in played if not name.endswith((".m4a", ".aiff")))
    result = run_without_mindspore(tmp_path, *files, "--checkpoint", model, "--json", "--top", len(TAGS))
    assert (result.returncode, result.stderr) == (0, "")
    documents = json.loads(result.stdout)["files"]
    assert [document["file"] for document in documents] == [str(file) for file in files]
    for file, document in zip(files, documents, strict=True):
        length_s = played[file.name]["num_samples"] / played[file.name]["rate_hz"]  # by ffmpeg
        assert document["duration_s"] == pytest.approx(length_s, abs=0.001)
        assert {tag["tag"] for tag in document["tags"]} == set(TAGS)
        assert all(0 < tag["score"] < 1 for tag in document["tags"])


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pieces of 1 to 12 s at three depths, one of them damaged, among other things."""
    folder = tmp_path_factory.mktemp("audio") / "album"
    (folder / "disc 2" / "bonus").mkdir(parents=True)
    for i in range(12):
        place = (folder, folder / "disc 2", folder / "disc 2" / "bonus")[i % 3]
        write_piece(place / f"{i:02d}.{'flac' if i % 2 else 'WAV'}", 1.0 + i, level=0.03 * (i + 1))
    (folder / "03.flac").write_bytes(b"noise")
    (folder / "._03.flac").write_bytes(b"noise")
    (folder / "cover.jpg").write_bytes(b"jpg")
    (folder / "disc 2" / "song.m4a").write_bytes(b"m4a")
    (folder / "disc 2" / "loop").symlink_to(folder)
    return folder


@pytest.mark.parametrize("form", ["--json", "--json-lines", "--csv"])
def test_a_folder_is_tagged_in_every_form(tmp_path: Path, model: Path, album: Path, form: str) -> None:
    result = run_tag(tmp_path, album, "--checkpoint", model, form, "--top", 3)
    assert result.returncode == 1
    names = [path.relative_to(album).as_posix() for path in album.rglob("*") if path.suffix in (".flac", ".WAV")]
    names = [name for name in names if not name.startswith((".", "disc 2/loop"))]
    assert len(names) == 12
    first, damaged, last = result.stderr.splitlines()
    assert first.startswith(f"{album}: 12 audio files; 4 others left out (")
    for kind in ("1 .jpg", "1 .m4a", "1 .flac", "1 links to folders", "libsndfile does not read .m4a (1)"):
        assert kind in first
    assert "03.flac: cannot be decoded" in damaged
    assert last == "11 of 12 files tagged; 1 could not be used"
    if form == "--csv":
        header, *rows = csv.reader(io.StringIO(result.stdout))
        assert header == ["file", "duration_s", "error", *TAGS]
        found = {row[0]: dict(zip(TAGS, map(float, row[3:]), strict=True)) for row in rows if not row[2]}
        assert [row[1:] for row in rows if row[2]] == [["", "cannot be decoded: not audio, or damaged", "", "", ""]]
    else:
        lines = [] if form == "--json" else result.stdout.splitlines()
        values = [json.loads(line) for line in lines] or json.loads(result.stdout)["files"]
        found = {v["file"]: {tag["tag"]: tag["score"] for tag in v["tags"]} for v in values if "error" not in v}
    assert sorted(found) == sorted(str(album / name) for name in names if name != "03.flac")
    for file, scores in found.items():  # the level of a piece tells it from the others
        wave = soundfile.read(file, dtype="float32")[0]
        starts = [*range(0, max(1, len(wave) - 23_999), 24_000), *([len(wave) - 24_000] if len(wave) % 24_000 else [])]
        windows = (
            [np.resize(wave[max(0, start) :], 24_000) for start in starts]
            if len(wave) >= 24_000
            else [np.pad(wave, (0, 24_000 - len(wave)))]
        )
        by_hand = np.mean([expected_scores(log_mel(window, MEL)[None, None])[0] for window in windows], axis=0)
        np.testing.assert_allclose([scores[tag] for tag in TAGS], by_hand, atol=1e-5, err_msg=file)


def test_a_form_goes_to_a_file_and_the_text_to_stdout(tmp_path: Path, model: Path) -> None:
    write_piece(tmp_path / "a.wav")
    text = run_tag(tmp_path, "a.wav", "--checkpoint", model).stdout
    for name, first in (
        ("a.csv", b"file,"),
        ("a.jsonl", b'{"file": "a.wav"'),
        ("a.json", b"{\n"),
        ("a.txt", b"a.wav  ("),
    ):
        result = run_tag(tmp_path, "a.wav", "--checkpoint", model, "--output", name)
        assert (result.returncode, result.stdout) == (0, "" if name == "a.txt" else text)
        assert (tmp_path / name).read_bytes().startswith(first)
    assert json.loads((tmp_path / "a.json").read_text())["interrupted"] is False


def test_the_star_has_a_legend_and_a_threshold_of_few_clips_none(tmp_path: Path) -> None:
    write_piece(tmp_path / "a.wav")
    model = write_small_onnx(tmp_path / "m.onnx", thresholds=[0.0, 0.0, None])
    text = run_tag(tmp_path, "a.wav", "--checkpoint", model).stdout
    assert text.count("*") == 3
    assert text.endswith("* the score reaches the tag's threshold, the one with the best F1 on validation clips\n")
    card = json.loads((tmp_path / "m.onnx.json").read_text())  # as an older fcn4dist wrote it
    card["metrics"] = {
        "num_scored": 30,
        "thresholds": {"on_these_clips": True},
        "tags": [{"tag": tag, "positives": n, "threshold": 0.0} for tag, n in zip(TAGS, (10, 9, 21), strict=True)],
    }
    card["thresholds"] = [0.0, 0.0, 0.0]
    (tmp_path / "m.onnx.json").write_text(json.dumps(card))
    (piece,) = json.loads(run_tag(tmp_path, "a.wav", "--checkpoint", model, "--json").stdout)["files"]
    assert {tag["tag"]: tag["is_present"] for tag in piece["tags"]} == {"loud": True, "soft": None, "mid": None}
    text = run_tag(tmp_path, "a.wav", "--checkpoint", model).stdout
    assert text.count("*") == 2
    assert "no star for 2 of 3 tags: fewer than 10 validation clips with or without the tag" in text


@pytest.fixture
def many(tmp_path: Path) -> list[str]:
    """Names of nine pieces of a window each: one more than the network hears at once."""
    for i in range(9):
        write_piece(tmp_path / f"{i}.wav", 2.0)
    return [f"{i}.wav" for i in range(9)]


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, model: Path, many: list[str]) -> None:
    write_day(tmp_path / "endless.wav")
    command = [
        sys.executable,
        "-m",
        "fcn4dist",
        "tag",
        *many[:8],
        "endless.wav",
        "--checkpoint",
        str(model),
        "--json-lines",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(8)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert ([json.loads(line)["file"] for line in lines], rest) == (many[:8], "")
    assert process.returncode == 130
    assert errors.split("\n")[:1] == ["8 of 9 files are done"]
    assert "Traceback" not in errors


def test_ctrl_c_while_a_file_is_written_waits_for_it(
    tmp_path: Path, model: Path, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcn4dist.tag.forms import JsonLines

    real, seen = JsonLines.piece, 0

    def piece(self: Any, found: Any) -> str:
        nonlocal seen
        seen += 1
        if seen == 3:
            signal.raise_signal(signal.SIGINT)
        return real(self, found)

    monkeypatch.setattr(JsonLines, "piece", piece)
    result = run_tag(tmp_path, *many, "--checkpoint", model, "--json-lines")
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == many[:3]
    assert (result.returncode, result.stderr.splitlines()[0]) == (130, "3 of 9 files are done")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("output", [None, "found.json"])
def test_an_interrupted_document_holds_what_is_done(
    tmp_path: Path, model: Path, many: list[str], output: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcn4dist.tag import tagger

    real = tagger.iter_windows  # type: ignore[attr-defined]

    def interrupted(file: Path, *rest: Any) -> Iterator[Any]:
        if file.name == "8.wav":
            raise KeyboardInterrupt
        yield from real(file, *rest)

    monkeypatch.setattr(tagger, "iter_windows", interrupted)
    where = ["--json"] if output is None else ["--output", output]
    result = run_tag(tmp_path, *many, "--checkpoint", model, *where)
    assert result.returncode == 130
    document = json.loads(result.stdout if output is None else (tmp_path / output).read_text())
    assert ([piece["file"] for piece in document["files"]], document["interrupted"]) == (many[:8], True)


def test_a_reader_that_leaves_and_a_full_disk_are_no_traceback(tmp_path: Path, model: Path, many: list[str]) -> None:
    end, begin = os.pipe()
    os.close(end)
    with open(begin, "w") as closed:
        result = run_tag(tmp_path, *many, "--checkpoint", model, "--json", stdout=closed)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")
    with open("/dev/full", "w") as full:
        result = run_tag(tmp_path, *many, "--checkpoint", model, "--csv", stdout=full)
    assert (result.returncode, result.stderr) == (1, "fcn4dist: stdout: cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hop", 3], "a hop of 3 s, which leaves gaps; expected more than 0 and at most a window, 2 s"),
        (["--window", 0.1], "a window of 0.1 s is too short for this network; expected 0.15 s or more"),
        (["--hop", "nan"], "expected a number of seconds"),
        (["--top", 0], "0 is not in the range"),
        (["--picture", "a.jpg"], "ends in .png"),
        (["b.wav", "--picture", "a.png"], "one picture, but 2 files"),
        (["--json", "--csv"], "--json and --csv: expected one of them"),
        (["--output", "a.xml"], "expected a name that ends in .json, .jsonl, .csv, .txt"),
        (["--output", "none/a.csv"], "--output none/a.csv: no such folder: none"),
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
    result = run_without_mindspore(tmp_path, "a.wav", "--checkpoint", "m.mindir")
    assert (result.returncode, "MindSpore is not installed" in result.stderr) == (2, True)
    assert "Traceback" not in result.stderr


def test_an_onnx_file_needs_no_mindspore(tmp_path: Path, model: Path) -> None:
    write_piece(tmp_path / "a.wav")
    result = run_without_mindspore(tmp_path, "a.wav", "--checkpoint", model)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("a.wav  (0:05, 3 windows of 2 s)")
