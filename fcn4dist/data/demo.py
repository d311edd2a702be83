"""The embedded demo set: short pieces of synthetic music with tags, laid out like MagnaTagATune.

100 pieces of 12 s, 3 clips each. A piece is a mixture of one to four instruments in its own key, chords, rhythm, tempo
and loudness, over noise. Pieces are dealt to five folds, so validation hears no piece that training has seen.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.shard_job import feature_versions
from fcn4dist.data.synth import MELODIC, RATE_HZ, Float32, Generator, hihat, kick, snare
from fcn4dist.files import save_text

VERSION = 1  # raise it when the set sounds different
SEED = 20160807  # any number would do
NUM_FOLDS, PIECES_A_FOLD, CLIPS_A_PIECE, CLIP_S = 5, 20, 3, 4
PIECES_AN_ENSEMBLE = 4  # an "artist"; its pieces share a fold
INSTRUMENTS = ("drums", *MELODIC)
TAGS = (*INSTRUMENTS, "fast", "slow", "loud", "quiet")
TEMPOS_BPM = {"slow": (54.0, 74.0), "": (94.0, 116.0), "fast": (150.0, 184.0)}
LEVELS_DB = {"quiet": (-40.0, -34.0), "": (-27.0, -22.0), "loud": (-16.0, -12.0)}  # RMS under full scale
NOISE_DB = (-45.0, -30.0)  # under the music
ANNOTATIONS, FOLDS = "annotations_final.csv", "folds.csv"


@dataclass(frozen=True)
class Piece:
    """What a piece is made of."""

    number: int  # from 1
    fold: int  # from 1
    instruments: tuple[str, ...]
    tempo: str  # a key of TEMPOS_BPM
    level: str  # a key of LEVELS_DB

    @property
    def tags(self) -> frozenset[str]:
        """The tags of all its clips."""
        return frozenset({*self.instruments, self.tempo, self.level} - {""})

    def mp3_path(self, clip: int) -> str:
        """Return where clip 0, 1, ... stands, by MagnaTagATune's grammar of paths."""
        ensemble = (self.number - 1) // PIECES_AN_ENSEMBLE + 1
        track = (self.number - 1) % PIECES_AN_ENSEMBLE + 1
        start_s, end_s = clip * CLIP_S, (clip + 1) * CLIP_S
        return (
            f"audio/ensemble_{ensemble:02d}-demo_v{VERSION}-{track:02d}-piece_{self.number:03d}-{start_s}-{end_s}.ogg"
        )


def demo_config(demo_set: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the config of a run on the demo set, as sections to lay over the defaults.

    `demo_set` is what `ensure_demo_set` returned; none: it is called. The prepared data set goes beside it, in a folder of its
    own for each set of versions that make features: after an update nothing is in the way, and no running job loses its data.
    """
    folder = demo_set or ensure_demo_set()
    versions = hashlib.sha256(json.dumps(feature_versions()).encode()).hexdigest()[:8]
    return {
        "data": {
            "audio_dir": folder,
            "annotations": folder / ANNOTATIONS,
            "tags": list(TAGS),
            "records_dir": folder.with_name(f"{folder.name}-records-{versions}"),
            "num_consumer": 2,
            "split": f"folds:{FOLDS}:5",
        },
        "mel": {"clip_s": float(CLIP_S)},
        "model": {"channels": [16, 32, 64, 128]},
        "train": {"global_batch": 16, "lr": 0.002, "epochs": 12},
    }


def ensure_demo_set(cache_dir: Path | None = None) -> Path:
    """Return the folder of the demo set, synthesising it on the first call (some ten seconds, a few MB).

    `cache_dir`: by default $XDG_CACHE_HOME/fcn4dist or ~/.cache/fcn4dist, or a folder for temporary files where that
    cannot be written. The folder appears whole, also when several processes ask at once.
    """
    cache = cache_dir or default_cache_dir()
    folder = cache / f"demo-set-v{VERSION}"
    if _is_whole(folder):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=cache) as temporary:
        built = Path(temporary) / "set"
        _write_set(built)
        if folder.is_dir() and not _is_whole(folder):
            folder.rename(Path(temporary) / "damaged")
        try:
            built.rename(folder)
        except OSError:
            if not _is_whole(folder):  # else another process was first
                raise
    return folder


def default_cache_dir() -> Path:
    """Return the folder for what can be made again; it can be written."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    cache = (Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()) / "fcn4dist"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            return cache
    except (OSError, RuntimeError):  # RuntimeError: no home
        fallback = Path(tempfile.gettempdir()) / f"fcn4dist-{os.getuid()}"
        fallback.mkdir(mode=0o700, exist_ok=True)
        if fallback.is_symlink() or fallback.stat().st_uid != os.getuid():
            return Path(tempfile.mkdtemp(prefix="fcn4dist-"))
        return fallback


def plan_pieces() -> list[Piece]:
    """Return what every piece is made of; each tag is in 30 to 60 % of every fold's pieces."""
    rng = np.random.default_rng(SEED)
    pieces: list[Piece] = []
    for fold in range(1, NUM_FOLDS + 1):
        casts = _draw_casts(rng)
        tempos = rng.permutation(np.resize(np.array(list(TEMPOS_BPM)), PIECES_A_FOLD)).tolist()
        levels = rng.permutation(np.resize(np.array(list(LEVELS_DB)), PIECES_A_FOLD)).tolist()
        for cast, tempo, level in zip(casts, tempos, levels, strict=True):
            pieces.append(Piece(len(pieces) + 1, fold, cast, tempo, level))
    return pieces


def render_piece(piece: Piece) -> Float32:
    """Return the piece: float32 mono at RATE_HZ, CLIPS_A_PIECE x CLIP_S long."""
    rng = np.random.default_rng([SEED, piece.number])
    beat_s = 60 / rng.uniform(*TEMPOS_BPM[piece.tempo])
    num_samples = CLIPS_A_PIECE * CLIP_S * RATE_HZ
    scale = np.array(((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))[rng.integers(2)]) + rng.integers(52, 64)
    chords = rng.integers(0, 6, 4)  # degree of each bar's chord
    music = np.zeros(num_samples, np.float32)
    for name in piece.instruments:
        part = np.zeros(num_samples, np.float32)
        notes = _iter_drums(beat_s, rng) if name == "drums" else _iter_notes(name, beat_s, scale, chords, rng)
        for start_s, sound in notes:
            start = round(start_s * RATE_HZ)
            end = min(num_samples, start + len(sound))
            part[start:end] += sound[: max(0, end - start)]
        music += part / _rms(part) * 10 ** (rng.uniform(-5, 3) / 20)
    noise = np.cumsum(rng.standard_normal(num_samples)) if rng.random() < 0.3 else rng.standard_normal(num_samples)
    noise = np.diff(noise, prepend=noise[0]) if rng.random() < 0.5 else noise - noise.mean()
    mixture = music / _rms(music) + noise / _rms(noise) * 10 ** (rng.uniform(*NOISE_DB) / 20)
    mixture *= 10 ** (rng.uniform(*LEVELS_DB[piece.level]) / 20) / _rms(mixture)
    return np.tanh(mixture).astype(np.float32)  # rounds the peaks off instead of clipping them


def _draw_casts(rng: Generator) -> list[tuple[str, ...]]:
    low, high = PIECES_A_FOLD * 3 // 10, PIECES_A_FOLD * 6 // 10
    while True:
        plays = rng.random((PIECES_A_FOLD, len(INSTRUMENTS))) < 0.42
        sizes, counts = plays.sum(axis=1), plays.sum(axis=0)
        if sizes.min() >= 1 and sizes.max() <= 4 and counts.min() >= low and counts.max() <= high:
            return [tuple(name for name, on in zip(INSTRUMENTS, row, strict=True) if on) for row in plays]


def _iter_drums(beat_s: float, rng: Generator) -> Iterator[tuple[float, Float32]]:
    """Yield (start in seconds, sound): a pattern of eighths that repeats each bar, with small accidents."""
    kicks = {0, *rng.choice([3, 4, 5, 7], 2, replace=False).tolist()}
    snares = {2, 6} if rng.random() < 0.7 else {4}
    has_hihat = rng.random() < 0.8
    length_s = CLIPS_A_PIECE * CLIP_S
    for eighth in range(int(length_s / beat_s * 2) + 1):
        start_s, place = eighth * beat_s / 2, eighth % 8
        if place in kicks:
            yield start_s, kick(rng)
        if place in snares:
            yield start_s, snare(rng)
        if has_hihat and rng.random() < 0.9:
            yield start_s, hihat(rng)


def _iter_notes(
    name: str, beat_s: float, scale: NDArray[np.int64], chords: NDArray[np.int64], rng: Generator
) -> Iterator[tuple[float, Float32]]:
    """Yield (start in seconds, sound) of one instrument: chord tones in its own rhythm."""
    step_beats = {"bass": 1.0, "guitar": 0.5, "strings": 2.0, "flute": 1.0, "bells": 1.0}[name]
    voices = 3 if name == "strings" else 1
    rest = {"bass": 0.1, "guitar": 0.1, "strings": 0.0, "flute": 0.15, "bells": 0.3}[name]
    ring = 1.8 if name in ("guitar", "bells") else 0.95  # how long a note sounds, in steps
    length_s, beat = CLIPS_A_PIECE * CLIP_S, 0.0
    while beat * beat_s < length_s:
        if rng.random() >= rest:
            degree = int(chords[int(beat // 4) % 4])
            for third in rng.choice(3, voices, replace=False).tolist():
                octave, place = divmod(degree + 2 * third, 7)
                note = int(scale[place]) + 12 * octave
                yield beat * beat_s, MELODIC[name](note, ring * step_beats * beat_s, rng)
        beat += step_beats


def _rms(wave: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) + 1e-9


def _write_set(folder: Path) -> None:
    import soundfile

    (folder / "audio").mkdir(parents=True)
    table, folds = io.StringIO(), io.StringIO()
    rows = csv.writer(table, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    rows.writerow(["clip_id", *TAGS, "mp3_path"])
    fold_rows = csv.writer(folds, lineterminator="\n")
    fold_rows.writerow(["path", "fold"])
    for piece in plan_pieces():
        wave = render_piece(piece).reshape(CLIPS_A_PIECE, CLIP_S * RATE_HZ)
        for clip, samples in enumerate(wave):
            path = piece.mp3_path(clip)
            soundfile.write(folder / path, samples, RATE_HZ, format="OGG", subtype="VORBIS")
            clip_id = (piece.number - 1) * CLIPS_A_PIECE + clip + 1
            rows.writerow([clip_id, *(int(tag in piece.tags) for tag in TAGS), path])
            fold_rows.writerow([path, piece.fold])
    save_text(folder / FOLDS, folds.getvalue())
    save_text(folder / ANNOTATIONS, table.getvalue())


def _is_whole(folder: Path) -> bool:
    paths = [piece.mp3_path(clip) for piece in plan_pieces() for clip in range(CLIPS_A_PIECE)]
    return all((folder / name).is_file() for name in (ANNOTATIONS, FOLDS, *paths))
