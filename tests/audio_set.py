"""A small folder of audio with annotations, for tests that prepare something real."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 12_000
CLIP_S = 1.0


@dataclass(frozen=True)
class AudioSet:
    """Tones with tags low, high, quiet; paths follow MagnaTagATune's grammar, in folders 0, c and d."""

    folder: Path
    num_clips: int

    @property
    def annotations(self) -> Path:
        return self.folder / "annotations_final.csv"

    def file(self, row: int) -> Path:
        return self.folder / self.path(row)

    @staticmethod
    def path(row: int) -> str:
        return f"{'000000000c0d'[row % 12]}/artist_{row % 7}-album-{row % 5:02d}-title_{row}-0-1.wav"

    @property
    def options(self) -> list[str]:
        """Options of `fcn4dist prepare` for this set."""
        values = (f"mel.clip_s={CLIP_S}", "data.tags=3", "model.pools=[[2,2],[2,2],[2,2]]", "data.num_consumer=2")
        chosen = [word for value in values for word in ("--set", value)]
        return ["--audio-dir", str(self.folder), "--annotations", str(self.annotations), *chosen]

    @property
    def sections(self) -> dict[str, dict[str, object]]:
        """The same as sections of the config."""
        return {
            "data": {"audio_dir": self.folder, "annotations": self.annotations, "tags": 3, "num_consumer": 2},
            "mel": {"clip_s": CLIP_S},
            "model": {"pools": [(2, 2), (2, 2), (2, 2)]},
        }


def make_audio_set(folder: Path, num_clips: int = 48) -> AudioSet:
    """Write `num_clips` clips and their table."""
    audio = AudioSet(folder, num_clips)
    rng = np.random.default_rng(5)
    rows: list[list[object]] = [["clip_id", "low", "high", "quiet", "mp3_path"]]
    t = np.arange(round(CLIP_S * RATE_HZ)) / RATE_HZ
    for row in range(num_clips):
        low, quiet = row % 2, int(row % 3 == 0)
        hz = rng.uniform(100, 400) if low else rng.uniform(1000, 3000)
        wave = np.sin(2 * np.pi * hz * t) * (0.02 if quiet else 0.5) + rng.normal(0, 0.001, len(t))
        audio.file(row).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(audio.file(row), wave, RATE_HZ)
        rows.append([1000 - row, low, 1 - low, quiet, audio.path(row)])
    with audio.annotations.open("w", newline="") as text:
        csv.writer(text, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return audio


def read_features(data_dir: Path) -> dict[int, tuple[str, bytes, bytes]]:
    """Return clip_id -> (part, feature bytes, label bytes) of all shards; a repeated clip is an error."""
    from fcn4dist.data.manifest import load_manifest
    from fcn4dist.data.shards import iter_rows

    found: dict[int, tuple[str, bytes, bytes]] = {}
    for shard in load_manifest(data_dir).shards:
        for rows in iter_rows([data_dir / shard.file], None, 1):
            (clip_id,) = rows["id"].tolist()
            assert clip_id not in found
            found[clip_id] = (shard.split, rows["feature"].tobytes(), rows["label"].tobytes())
    return found
