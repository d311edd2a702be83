"""Row 13: tags of a folder of short recordings, against the plain recipe of librosa and onnxruntime.

    python -m benchmarks.tagging --audio FOLDER [--quick]

Pieces of 10 s, joined from the recordings of FOLDER (ESC-10 is such a folder), 200 tagged by a small network and 60 by the
full-width one, both as ONNX and with random weights, in two windows each. The recipe is one process that loads a file, cuts
windows and runs each through a session with onnxruntime's defaults. CPU time of all threads, since a core is what is counted,
without imports and opening of the session; each side in a process of its own (docs/lab/log.md). Both sides' scores must agree.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.side_by_side import Row, alternate, both, report
from benchmarks.steppers import CHANNELS, ROOT

NUM_FILES = 200
WIDTHS = {"a small network": ((16, 32, 64, 128), 200), "the full-width network": (CHANNELS, 60)}  # channels, files
RATE_HZ, CLIP_S, NUM_TAGS = 12_000, 5.0, 10
TOLERANCE = 1e-4  # of a score: librosa resamples in one piece and computes in float32 too
AUDIO = ROOT.parent / "shared" / "data" / "esc10"


def write_model(file: Path, channels: tuple[int, ...]) -> None:
    """Write a network with random weights as ONNX, with its card; in a process of its own, since it loads MindSpore."""
    from fcn4dist.config import MelConfig, ModelConfig
    from fcn4dist.export.card import ExportCard, MelRules, Signature, SplitCard, card_file, decibel_rule
    from fcn4dist.files import digest_file, save_json
    from fcn4dist.train.device import prepare_imports, start_device

    prepare_imports("CPU")
    from fcn4dist.export.graphs import write_onnx
    from fcn4dist.model.fcn4 import FCN4

    start_device("CPU", 0, is_scoring=True)
    mel, model = MelConfig(sample_rate_hz=RATE_HZ, clip_s=CLIP_S), ModelConfig(channels=list(channels))
    write_onnx(FCN4(model, NUM_TAGS, mel.n_mels), mel, file)
    card = ExportCard(
        name=file.stem,
        file=file.name,
        format="onnx",
        file_sha256=digest_file(file),
        weights_sha256="0" * 64,
        input=Signature(name="mel_db", dtype="float32", shape=["batch", 1, mel.n_mels, "frames"]),
        output=Signature(name="scores", dtype="float32", shape=["batch", NUM_TAGS]),
        min_frames=1,
        model=model,
        mel=mel,
        mel_rules=MelRules(decibels=decibel_rule(mel), num_frames=mel.num_frames),
        tags=[f"tag{i}" for i in range(NUM_TAGS)],
        split=SplitCard(name="random weights"),
        checkpoint="random weights",
        versions={},
    )
    save_json(card_file(file), card.model_dump(mode="json"))


def make_files(audio: Path, folder: Path) -> list[Path]:
    """Write NUM_FILES pieces of two windows each, 44.1 kHz Ogg Vorbis, joined from the recordings of `audio`."""
    import soundfile

    from fcn4dist.tag.audio_files import AudioFiles

    sources = [file for file in AudioFiles.count([audio]) if soundfile.info(file).samplerate == 44_100]
    if not sources:
        raise click.ClickException(f"{audio}: no recordings at 44.1 kHz here")
    folder.mkdir()
    size, files = round(CLIP_S * 44_100), []
    for i in range(NUM_FILES):
        halves = [
            soundfile.read(sources[k % len(sources)], dtype="float32", always_2d=True)[0] for k in (2 * i, 2 * i + 1)
        ]
        files.append(folder / f"{i:03d}.ogg")
        soundfile.write(files[-1], np.concatenate([np.resize(half.mean(axis=1), size) for half in halves]), 44_100)
    return files


def our_scores(model: Path, files: list[Path]) -> tuple[float, NDArray[Any]]:
    """Return the CPU seconds of `tag` for all files, and their scores."""
    from fcn4dist import load
    from fcn4dist.tag.tagger import Tagging

    tagger = load(model)
    tagger.tag(files[0])  # librosa's filters and the session's first pass
    start = time.process_time()
    found = list(tagger.tag_many(files))
    seconds = time.process_time() - start
    return seconds, np.stack([tagging.scores for tagging in found if isinstance(tagging, Tagging)])


def plain_recipe(model: Path, files: list[Path]) -> tuple[float, NDArray[Any]]:
    """The same as librosa's and onnxruntime's documentation would have one do it."""
    import librosa
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    size = round(CLIP_S * RATE_HZ)

    def tag(file: Path) -> NDArray[Any]:
        wave, _ = librosa.load(file, sr=RATE_HZ)
        rows = []
        for first in range(0, len(wave) - size + 1, size):
            window = wave[first : first + size]
            mel = librosa.feature.melspectrogram(y=window, sr=RATE_HZ, n_fft=512, hop_length=256, n_mels=96)
            mel_db = librosa.amplitude_to_db(mel).astype(np.float32)
            rows.append(session.run(["scores"], {"mel_db": mel_db[None, None]})[0][0])
        scores: NDArray[Any] = np.mean(rows, axis=0)
        return scores

    tag(files[0])
    start = time.process_time()
    found = [tag(file) for file in files]
    return time.process_time() - start, np.stack(found)


def compare(model: Path, files: list[Path], tries: int) -> list[tuple[float, float]]:
    """Return the files a CPU second of both sides, each try in processes of its own."""
    spawn = multiprocessing.get_context("spawn")
    kept: dict[str, NDArray[Any]] = {}

    def run(side: Callable[[Path, list[Path]], tuple[float, NDArray[Any]]]) -> Callable[[], float]:
        def once() -> float:
            with ProcessPoolExecutor(1, spawn) as process:
                seconds, kept[side.__name__] = process.submit(side, model, files).result()
            return len(files) / seconds

        return once

    pairs = alternate(run(our_scores), run(plain_recipe), tries)
    apart = float(np.abs(kept["our_scores"] - kept["plain_recipe"]).max())
    if not apart < TOLERANCE:
        raise click.ClickException(f"the two sides' scores differ by up to {apart:.1e}")
    return pairs


def measure(audio: Path, tries: int, *, quick: bool) -> list[Row]:
    """Return the rows."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        files = make_files(audio, Path(temporary) / "audio")
        for letter, (name, (channels, num_files)) in zip("ab", WIDTHS.items(), strict=True):
            if quick and letter == "b":
                continue
            model = Path(temporary) / f"{letter}.onnx"
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                process.submit(write_model, model, channels).result()
            pairs = compare(model, files[:num_files], tries)
            what = f"tags of {num_files} pieces of 10 s by {name}, CPU time"
            rows.append(Row(f"13{letter}", what, [our / their for our, their in pairs], 1.3, **both(pairs, "files/s")))
    return rows


@click.command()
@click.option("--audio", type=click.Path(exists=True, file_okay=False, path_type=Path), default=AUDIO)
@click.option("--quick", is_flag=True, help="The small network alone; exit 1 under 0.85 of a bar.")
@click.option("--tries", default=3)
def main(audio: Path, quick: bool, tries: int) -> None:
    """Measure the tagging of a folder."""
    report(measure(audio, tries, quick=quick), " ".join(["python -m benchmarks.tagging", *sys.argv[1:]]), guard=quick)


if __name__ == "__main__":
    main()
