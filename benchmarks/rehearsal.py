"""A dress rehearsal: MagnaTagATune at full size, with its real paths and labels and other music, through the real commands.

    python -m benchmarks.rehearsal [--clips N] [--index FOLDER] [--music FOLDER] [--keep FOLDER]

FOLDER of the index holds clips.tsv (all 25,863 ids and paths) and annotations_val_test.csv (the real top-50 labels of folders c
to f); those of the training folders are drawn at random with the same frequencies. The audio is some hundred different clips of
29.1 s as MagnaTagATune's: MP3, 16 kHz mono, 32 kbit/s, an ID3v2 tag in front and no Xing header, under hard links. Then
`prepare` with two workers, `launch` with two ranks for a few steps at full width, and the score of the whole validation part.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import psutil
import soundfile
import soxr
from numpy.typing import NDArray

from benchmarks.steppers import ROOT
from fcn4dist.data.annotations.magnatagatune import KNOWN_BAD
from fcn4dist.data.splits import FOLDER_PART

SHARED = ROOT.parent / "shared" / "data"
CLIP_S, RATE_HZ = 29.124, 16_000
BITRATE_32K = 0.85  # libsndfile's compression_level for it
NUM_DIFFERENT = 300
PROMISED_CLIP_BYTES = 534_000  # docs/quickstart-mtt.md: 13.8 GB for 25,860 clips
POLL_S = 0.5


@dataclass(frozen=True)
class Stage:
    """What one command took."""

    name: str
    seconds: float
    num_clips: int
    process_mb: float  # the largest process at its peak
    disk_gb: float  # what stood in the folder at the peak

    @property
    def line(self) -> str:
        """The stage for people."""
        rate = f"{self.num_clips / self.seconds:8.1f} clips/s" if self.num_clips else " " * 16
        return f"{self.name:<34}{self.seconds:8.1f} s{rate}{self.process_mb:8.0f} MB{self.disk_gb:8.2f} GB"


def load_index(index: Path, num_clips: int | None) -> tuple[list[tuple[int, str]], list[str], dict[int, list[str]]]:
    """Return (id, path) of the clips, the tags, and the real labels; of fewer clips a part of each folder."""
    with (index / "clips.tsv").open(newline="") as text:
        clips = [(int(row["clip_id"]), row["mp3_path"]) for row in csv.DictReader(text, delimiter="\t")]
    with (index / "annotations_val_test.csv").open(newline="") as text:
        header, *rows = csv.reader(text, delimiter="\t")
    tags = header[1:-1]
    labels = {int(row[0]): row[1:-1] for row in rows}
    if num_clips is not None:
        bad = {path for _, path in KNOWN_BAD}
        chosen = np.linspace(0, len(clips) - 1, num_clips).astype(int).tolist()
        clips = [clips[i] for i in chosen if clips[i][1] not in bad]
    return clips, tags, labels


def make_audio(music: Path, folder: Path, count: int) -> list[Path]:
    """Cut `count` clips out of the recordings, from place to place and at different levels, and encode them as in the wild."""
    folder.mkdir(parents=True)
    sources = sorted(file for file in music.iterdir() if file.suffix in (".ogg", ".mp3", ".flac", ".wav"))
    if not sources:
        raise click.ClickException(f"{music}: no .ogg, .mp3, .flac or .wav here")
    waves = []
    for file in sources:
        wave, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
        waves.append(soxr.resample(wave.mean(axis=1), rate_hz, RATE_HZ))
    rng = np.random.default_rng(0)
    length = round(CLIP_S * RATE_HZ)

    def make(number: int) -> Path:
        wave, start, level = draws[number]
        file = folder / f"{number}.mp3"
        piece = np.take(wave, np.arange(start, start + length), mode="wrap") * np.float32(level)
        soundfile.write(file, piece, RATE_HZ, format="MP3", compression_level=BITRATE_32K, bitrate_mode="CONSTANT")
        file.write_bytes(as_in_the_wild(file.read_bytes(), number))
        return file

    chosen = [waves[i % len(waves)] for i in range(count)]
    draws = [(wave, int(rng.integers(len(wave))), rng.uniform(0.3, 1.0)) for wave in chosen]
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(make, range(count)))


def as_in_the_wild(mp3: bytes, number: int) -> bytes:
    """Return the MP3 with an ID3v2.3 tag of 2 kB in front, and without the frame that announces its length, if it has one."""
    first = mp3.index(mp3[:2], 4)  # the next frame begins with the same sync word and version
    rest = first if b"Xing" in mp3[:first] or b"Info" in mp3[:first] else 0
    title = f"clip {number}".encode()
    body = b"TIT2" + (len(title) + 1).to_bytes(4, "big") + b"\0\0\0" + title
    return b"ID3\x03\0\0\0\0\x10\0" + body.ljust(2048, b"\0") + mp3[rest:]


def lay_out(
    folder: Path, clips: list[tuple[int, str]], tags: list[str], labels: dict[int, list[str]], pool: list[Path]
) -> None:
    """Make the folders of MagnaTagATune under `folder`, hard links to `pool`, and annotations_final.csv."""
    rng = np.random.default_rng(1)
    frequency = np.array(list(labels.values())).astype(int).mean(axis=0)
    with (folder / "annotations_final.csv").open("w", newline="") as text:
        writer = csv.writer(text, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["clip_id", *tags, "mp3_path"])
        for number, (clip_id, path) in enumerate(clips):
            drawn = (rng.random(len(tags)) < frequency).astype(int).tolist()
            writer.writerow([clip_id, *labels.get(clip_id, drawn), path])
            file = folder / path
            file.parent.mkdir(exist_ok=True)
            if (clip_id, path) not in KNOWN_BAD:
                os.link(pool[number % len(pool)], file)
            elif KNOWN_BAD[clip_id, path] != "no file":
                file.touch()


def run_stage(name: str, words: Sequence[str | Path], watched: Path, num_clips: int) -> Stage:
    """Run a command of fcn4dist; note time, the largest process, and the most that stood under `watched`."""
    command = [sys.executable, "-m", "fcn4dist", *map(str, words)]
    peaks = {"process": 0.0, "disk": 0.0}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    process = psutil.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(POLL_S):
            for one in [process, *children_of(process)]:
                try:
                    peaks["process"] = max(peaks["process"], one.memory_info().rss / 1e6)
                except psutil.NoSuchProcess:
                    continue
            peaks["disk"] = max(peaks["disk"], disk_gb(watched))

    with ThreadPoolExecutor(1) as thread:
        looking = thread.submit(look)
        output, _ = process.communicate()
        seconds = time.perf_counter() - start
        is_over.set()
        looking.result()
    click.echo(output)
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} ended with {process.returncode}")
    return Stage(name, seconds, num_clips, peaks["process"], peaks["disk"])


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes below `process`; none once it is gone."""
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def disk_gb(folder: Path) -> float:
    """Return the bytes of the files under `folder`, audio left out."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # renamed or removed meanwhile
            continue
    return total / 1e9


def check_counts(data: Path, clips: list[tuple[int, str]]) -> list[str]:
    """Compare the manifest with what the index says; return lines about what was found."""
    manifest = json.loads((data / "manifest.json").read_text())
    good = [path for clip_id, path in clips if (clip_id, path) not in KNOWN_BAD]
    lines = []
    for part, counts in manifest["splits"].items():
        expected = sum(FOLDER_PART[path[0]] == part for path in good)
        verdict = "as expected" if counts["num_clips"] == expected else f"EXPECTED {expected}"
        lines.append(f"  {part}: {counts['num_clips']} clips, {verdict}")
    for level in ("track", "album"):
        lines.append(f"  {level}s in more than one part: {manifest['leaks']['levels'][level]['num_shared']}")
    lines.append(f"  skipped: {len(manifest['skipped'])}, noted: {len(manifest['noted'])}")
    size = sum(file.stat().st_size for file in data.iterdir())
    promised = PROMISED_CLIP_BYTES * manifest["num_written"]
    lines.append(f"  size: {size / 1e9:.2f} GB, promised {promised / 1e9:.2f} GB")
    return lines


def rehearse(folder: Path, index: Path, music: Path, num_clips: int | None, steps: int) -> None:
    """Do all of it in `folder`."""
    start = time.perf_counter()
    clips, tags, labels = load_index(index, num_clips)
    pool = make_audio(music, folder / "pool", min(NUM_DIFFERENT, len(clips)))
    audio, work = folder / "audio", folder / "work"
    audio.mkdir()
    work.mkdir()
    lay_out(audio, clips, tags, labels, pool)
    click.echo(f"stand-in: {len(clips)} clips, {len(pool)} different ones, in {time.perf_counter() - start:.0f} s\n")
    data, run = work / "data", work / "run"
    words: list[str | Path] = [
        "prepare",
        "--audio-dir",
        audio,
        "--annotations",
        audio / "annotations_final.csv",
        "--output",
        data,
    ]
    stages = [run_stage("prepare, two workers", [*words, "--workers", "2"], work, len(clips))]
    final_gb = disk_gb(data)
    count_lines = check_counts(data, clips)
    stages.append(run_stage("prepare again (up to date)", words, work, len(clips)))
    settings = [f"train.max_steps={steps}", "train.global_batch=16", "evaluate.num_resamples=200"]
    chosen = [word for value in settings for word in ("--set", value)]
    words = ["launch", "--devices", "2", "--data", data, "--run-dir", run, *chosen]
    stages.append(run_stage(f"launch, two ranks, {steps} steps, and val", words, work, 0))
    evaluation = json.loads((run / "evaluation.json").read_text())
    click.echo("stage                                 seconds           rate process    disk")
    for stage in stages:
        click.echo(stage.line)
    click.echo("\n".join(count_lines))
    click.echo(f"  disk at the peak of prepare: {stages[0].disk_gb / final_gb:.3f} of the final size")
    click.echo(f"  scored: {evaluation['num_scored']} of {evaluation['num_expected']} {evaluation['split']} clips")
    click.echo(f"  {time_a_step(run)}")


def time_a_step(run: Path) -> str:
    """Return what rank 0's records say of the steps after the first: seconds, and the wait for data."""
    records = [json.loads(line) for line in (run / "metrics" / "rank-0.jsonl").read_text().splitlines()][1:]
    seconds: NDArray[np.float64] = np.array([record["step_s"] for record in records])
    waited = np.array([record["data_wait_s"] for record in records])
    return f"steps: median {np.median(seconds):.2f} s, waiting for data {waited.sum() / seconds.sum():.3%}"


@click.command()
@click.option("--clips", type=click.IntRange(min=100), help="How many; without it all 25,863.")
@click.option("--steps", default=4, help="Of training.")
@click.option("--index", type=click.Path(exists=True, path_type=Path), default=SHARED / "magnatagatune")
@click.option("--music", type=click.Path(exists=True, path_type=Path), default=SHARED / "music")
@click.option("--keep", type=click.Path(path_type=Path), help="A folder that is kept; else a temporary one.")
def main(clips: int | None, steps: int, index: Path, music: Path, keep: Path | None) -> None:
    """Rehearse MagnaTagATune."""
    folder = keep or Path(tempfile.mkdtemp(prefix="rehearsal-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rehearse(folder, index, music, clips, steps)
    finally:
        if keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
