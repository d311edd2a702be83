"""Row 7: from MP3 clips of 29 s to log-mel features, against the plain librosa recipe.

    python -m benchmarks.preparing --music FOLDER [--quick]

FOLDER holds recordings in any format that ffmpeg reads; clips are cut from them and encoded at run time, as 16 kHz mono at
32 kbit/s (MagnaTagATune's kind) and as 44.1 kHz at 128 kbit/s. One thread, features in memory, CPU time, since a core is what is
counted; each side in a process of its own, since in one either would work in memory that the other has freed
(docs/lab/log.md). Then the whole command with two workers and with one.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.side_by_side import Row, alternate, both, report
from benchmarks.steppers import ROOT
from fcn4dist.config import MelConfig
from fcn4dist.data.audio import load_clip
from fcn4dist.data.mel import build_filters, log_mel

CLIP_S = 29.1
NUM_CLIPS = 2000  # of the whole command
KINDS = {"16 kHz mono": ["-ar", "16000", "-ac", "1", "-b:a", "32k"], "44.1 kHz": ["-ar", "44100", "-b:a", "128k"]}
MUSIC = ROOT.parent / "shared" / "data" / "music"


def make_clips(music: Path, folder: Path, arguments: list[str], count: int) -> list[Path]:
    """Cut `count` clips of 29.1 s out of the recordings, from place to place."""
    sources = sorted(file for file in music.iterdir() if file.suffix in (".ogg", ".mp3", ".flac", ".wav"))
    if not sources:
        raise click.ClickException(f"{music}: no .ogg, .mp3, .flac or .wav here")
    folder.mkdir()
    files = []
    for i in range(count):
        source, file = sources[i % len(sources)], folder / f"{i}.mp3"
        cut = ["-ss", str(5 * (i // len(sources))), "-stream_loop", "1", "-i", str(source), "-t", str(CLIP_S), "-vn"]
        subprocess.run(["ffmpeg", "-v", "error", *cut, *arguments, str(file)], check=True)
        files.append(file)
    return files


def repeat(files: list[Path], folder: Path, count: int) -> list[Path]:
    """Return `count` files in a folder of their own, links to `files` in turn."""
    folder.mkdir()
    links = [folder / f"{i}.mp3" for i in range(count)]
    for i, link in enumerate(links):
        os.link(files[i % len(files)], link)
    return links


def plain_recipe(file: Path) -> NDArray[Any]:
    """Features as librosa's documentation would have one make them; ModelZoo's choice of scale."""
    import librosa

    wave, _ = librosa.load(file, sr=12000)
    return plain_mel(librosa.util.fix_length(wave, size=349440)).astype(np.float32)


def plain_mel(wave: NDArray[Any]) -> NDArray[Any]:
    """The mel part of the recipe."""
    import librosa

    mel = librosa.feature.melspectrogram(y=wave, sr=12000, n_fft=512, hop_length=256, n_mels=96)
    mel_db: NDArray[Any] = librosa.amplitude_to_db(mel)
    return mel_db


def our_features(file: Path) -> NDArray[Any]:
    """Features as `prepare` makes them."""
    return our_mel(load_clip(file, 12000, 349440).wave)


def our_mel(wave: NDArray[Any]) -> NDArray[Any]:
    """The mel part of it."""
    return log_mel(wave, MelConfig(), build_filters(MelConfig()))


def seconds_each(make: Callable[[Any], NDArray[Any]], inputs: Sequence[Any]) -> float:
    """Return the CPU seconds of `make` for one of `inputs`."""
    start = time.process_time()
    for item in inputs:
        make(item)
    return (time.process_time() - start) / len(inputs)


def in_turn(
    ours: Callable[[Any], NDArray[Any]], theirs: Callable[[Any], NDArray[Any]], inputs: Sequence[Any], tries: int
) -> list[tuple[float, float]]:
    """Return the CPU seconds an input of both sides, each in its own process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as our_process, ProcessPoolExecutor(1, spawn) as their_process:

        def run(process: ProcessPoolExecutor, make: Callable[[Any], NDArray[Any]]) -> Callable[[], float]:
            process.submit(seconds_each, make, inputs[:1]).result()  # imports, caches
            return lambda: process.submit(seconds_each, make, inputs).result()

        return alternate(run(our_process, ours), run(their_process, theirs), tries)


def compare_mel(files: list[Path], tries: int) -> list[Row]:
    """The mel alone: time and largest difference."""
    waves = [load_clip(file, 12000, 349440).wave for file in files]
    pairs = [(1000 * our, 1000 * their) for our, their in in_turn(our_mel, plain_mel, waves, tries)]
    apart = [float(np.abs(our_mel(wave) - plain_mel(wave)).max()) for wave in waves]
    return [
        Row("7d", "the mel alone", [their / our for our, their in pairs], 1.8, **both(pairs, "ms")),
        Row("7e", "largest difference from librosa's mel", [max(apart)], 0.01, is_at_most=True, unit=" dB"),
    ]


def time_command(folder: Path, output: Path, workers: int) -> tuple[float, float]:
    """Run `fcn4dist prepare` and return its seconds and the highest memory of any of its processes in MB."""
    options = ["--audio-dir", str(folder), "--annotations", str(folder / "annotations.csv"), "--output", str(output)]
    command = [
        sys.executable,
        "-m",
        "fcn4dist",
        "prepare",
        *options,
        "--workers",
        str(workers),
        "--set",
        "data.split=random",
    ]
    start, peak = time.perf_counter(), 0
    popen = psutil.Popen([*command, "--set", "data.tags=2", "-q"], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while popen.poll() is None:
        for process in [popen, *popen.children(recursive=True)]:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.05)
    if popen.returncode:
        raise click.ClickException(f"prepare ended with {popen.returncode}")
    return time.perf_counter() - start, peak / 1e6


def measure_command(files: list[Path], name: str, tries: int) -> list[Row]:
    """The whole command, start, shards and reading back with it, with two workers and with one; and its memory."""
    folder = files[0].parent
    lines = [f"{i}\t{i % 2}\t{(i + 1) % 2}\t{file.name}\n" for i, file in enumerate(files)]
    (folder / "annotations.csv").write_text("".join(["clip_id\ta\tb\tmp3_path\n", *lines]))
    peaks: list[float] = []

    def run(workers: int) -> Callable[[], float]:
        def once() -> float:
            seconds, peak = time_command(folder, folder.parent / f"{name}-{workers}-{len(peaks)}", workers)
            peaks.append(peak)
            return len(files) / seconds

        return once

    pairs = alternate(run(2), run(1), tries)
    return [
        Row("7c", f"the whole command, 2 workers against 1, {len(files)} clips", [two / one for two, one in pairs], 1.8,
            **both(pairs, "clips/s")),
        Row("7f", "memory of a process of prepare", peaks, 700, is_at_most=True, unit=" MB"),
    ]  # fmt: skip


def measure(music: Path, tries: int, *, quick: bool) -> list[Row]:
    """Return the rows."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        for letter, bar, (kind, arguments) in zip("ab", (1.3, 1.1), KINDS.items(), strict=True):
            files = make_clips(music, Path(temporary) / letter, arguments, 12)
            rates = [(1 / our, 1 / their) for our, their in in_turn(our_features, plain_recipe, files, tries)]
            figures = [our / their for our, their in rates]
            rows.append(Row(f"7{letter}", f"features of MP3, {kind}", figures, bar, **both(rates, "clips/s")))
        rows += compare_mel(files[:6], tries)
        if not quick:
            many = repeat(files, Path(temporary) / "many", NUM_CLIPS)
            rows += measure_command(many, "out", tries)
    return rows


@click.command()
@click.option("--music", type=click.Path(exists=True, file_okay=False, path_type=Path), default=MUSIC)
@click.option("--quick", is_flag=True, help="Without the whole command; exit 1 under 0.85 of a bar.")
@click.option("--tries", default=3)
def main(music: Path, quick: bool, tries: int) -> None:
    """Measure the preparation of features."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    report(measure(music, tries, quick=quick), " ".join(["python -m benchmarks.preparing", *sys.argv[1:]]), guard=quick)


if __name__ == "__main__":
    main()
