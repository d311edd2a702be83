"""Row 7: from MP3 clips of 29 s to log-mel features, against the plain librosa recipe.

    python -m benchmarks.preparing --music FOLDER [--quick]

FOLDER holds recordings in any format that ffmpeg reads; clips are cut from them and encoded at run time, as 16 kHz mono at
32 kbit/s (MagnaTagATune's kind) and as 44.1 kHz at 128 kbit/s. One thread, features in memory, CPU time, since a core is what is
counted; each side in a process of its own, since in one either would work in memory that the other has freed
(docs/lab/log.md). Then the whole command with two workers against one, and against the recipe as a program: a joblib loop of two
workers whose features are written through FileWriter as they come, into as many shards of the same parts. That one reads nothing
back, checks nothing, and has no manifest.
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

from benchmarks.rehearsal import make_audio
from benchmarks.side_by_side import Row, alternate, both, report
from benchmarks.steppers import ROOT
from fcn4dist.config import MelConfig
from fcn4dist.data.audio import load_clip
from fcn4dist.data.mel import build_filters, log_mel

CLIP_S = 29.1
NUM_CLIPS, NUM_DIFFERENT = 1500, 100  # of the whole command
COMMAND_TRIES = {"7c": 1, "7g": 2}  # of row; they take most of the time
NUM_TAGS = 2
KINDS = {"16 kHz mono": ["-ar", "16000", "-ac", "1", "-b:a", "32k"], "44.1 kHz": ["-ar", "44100", "-b:a", "128k"]}
ANNOTATIONS = "annotations.csv"
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


def plain_program(folder: Path, output: Path) -> None:
    """The recipe as a whole program, as one would write it after MindSpore's and librosa's documentation."""
    import joblib
    from mindspore.mindrecord import FileWriter

    output.mkdir()
    rows = [line.split("\t") for line in (folder / ANNOTATIONS).read_text().splitlines()[1:]]
    np.random.default_rng(0).shuffle(rows)
    ends = [0, int(0.8 * len(rows)), int(0.9 * len(rows)), len(rows)]
    schema = {"id": {"type": "int32"}, "feature": {"type": "float32", "shape": [1, 96, 1366]},
              "label": {"type": "int32", "shape": [NUM_TAGS]}}  # fmt: skip
    make = joblib.Parallel(n_jobs=2, return_as="generator")
    for part, first, end in zip(("train", "val", "test"), ends, ends[1:], strict=False):
        writer = FileWriter(str(output / f"{part}.mindrecord"), 4)
        writer.add_schema(schema, "clips")
        some = rows[first:end]
        features = make(joblib.delayed(plain_recipe)(folder / row[-1]) for row in some)
        for row, feature in zip(some, features, strict=True):
            label = np.array(row[1:-1], np.int32)
            writer.write_raw_data([{"id": int(row[0]), "feature": feature[None], "label": label}])
        writer.commit()


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


def time_command(command: list[str]) -> tuple[float, float]:
    """Run a command and return its seconds and the highest memory of any of its processes in MB."""
    start, peak = time.perf_counter(), 0
    popen = psutil.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=sys.stderr)
    while popen.poll() is None:
        for process in [popen, *popen.children(recursive=True)]:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.05)
    if popen.returncode:
        raise click.ClickException(f"{' '.join(command)}: ended with {popen.returncode}")
    return time.perf_counter() - start, peak / 1e6


def prepare_command(folder: Path, output: Path, workers: int) -> list[str]:
    """`fcn4dist prepare` of the clips in `folder`."""
    options = ["--audio-dir", str(folder), "--annotations", str(folder / ANNOTATIONS), "--output", str(output), "-q"]
    settings = ["--set", "data.split=random", "--set", f"data.tags={NUM_TAGS}"]
    return [sys.executable, "-m", "fcn4dist", "prepare", *options, "--workers", str(workers), *settings]


def annotate(files: list[Path]) -> Path:
    """Write annotations of `files` beside them and return their folder."""
    lines = [f"{i}\t{i % 2}\t{(i + 1) % 2}\t{file.name}\n" for i, file in enumerate(files)]
    (files[0].parent / ANNOTATIONS).write_text("".join(["clip_id\ta\tb\tmp3_path\n", *lines]))
    return files[0].parent


def compare_commands(
    ours: list[str], theirs: list[str], num_clips: int, tries: int
) -> tuple[list[tuple[float, float]], list[float]]:
    """Run both commands in turn, OUTPUT in them a new folder each time; return clips/s of both, and MB of each run of ours."""
    peaks: list[float] = []

    def run(command: list[str]) -> Callable[[], float]:
        def once() -> float:
            with tempfile.TemporaryDirectory(prefix="bench-") as output:
                seconds, peak = time_command([word.replace("OUTPUT", f"{output}/data") for word in command])
            if command is ours:
                peaks.append(peak)
            return num_clips / seconds

        return once

    return alternate(run(ours), run(theirs), tries), peaks


def measure_commands(music: Path, stereo: list[Path], folder: Path, count: int) -> list[Row]:
    """The whole command, start, shards and reading back with it: two workers against one, and against the recipe; its memory."""
    stereo_dir = annotate(repeat(stereo, folder / "stereo", count))
    two, one = (prepare_command(stereo_dir, Path("OUTPUT"), workers) for workers in (2, 1))
    pairs, peaks = compare_commands(two, one, count, COMMAND_TRIES["7c"])
    mono_dir = annotate(repeat(make_audio(music, folder / "pool", NUM_DIFFERENT), folder / "mono", count))
    recipe = [sys.executable, "-m", "benchmarks.preparing", "--music", str(mono_dir), "--recipe", "OUTPUT"]
    against, _ = compare_commands(prepare_command(mono_dir, Path("OUTPUT"), 2), recipe, count, COMMAND_TRIES["7g"])
    return [
        Row("7c", f"the whole command, 2 workers against 1, {count} clips at 44.1 kHz", [a / b for a, b in pairs], 1.8,
            **both(pairs, "clips/s")),
        Row("7f", "memory of a process of prepare", peaks, 700, is_at_most=True, unit=" MB"),
        Row("7g", f"the whole command, 2 workers, against the recipe in joblib's 2 and FileWriter, {count} clips of "
            "MagnaTagATune's kind", [a / b for a, b in against], None, **both(against, "clips/s")),
    ]  # fmt: skip


def measure(music: Path, num_clips: int, tries: int, *, quick: bool) -> list[Row]:
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
            rows += measure_commands(music, files, Path(temporary), num_clips)
    return rows


@click.command()
@click.option("--music", type=click.Path(exists=True, file_okay=False, path_type=Path), default=MUSIC)
@click.option("--quick", is_flag=True, help="Without the whole command; exit 1 under 0.85 of a bar.")
@click.option("--tries", default=3)
@click.option("--clips", default=NUM_CLIPS, help="Of the whole command.")
@click.option("--recipe", type=click.Path(path_type=Path), hidden=True)
def main(music: Path, quick: bool, tries: int, clips: int, recipe: Path | None) -> None:
    """Measure the preparation of features."""
    if recipe is not None:
        plain_program(music, recipe)
        return
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    rows = measure(music, clips, tries, quick=quick)
    report(rows, " ".join(["python -m benchmarks.preparing", *sys.argv[1:]]), guard=quick)


if __name__ == "__main__":
    main()
