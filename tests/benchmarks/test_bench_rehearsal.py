"""The stand-in of MagnaTagATune that the rehearsal prepares is like the real thing where it matters."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.rehearsal import CLIP_S, RATE_HZ, lay_out, load_index, make_audio
from fcn4dist.config import DataConfig
from fcn4dist.data.annotations import load_annotations
from fcn4dist.data.annotations.magnatagatune import KNOWN_BAD
from fcn4dist.data.audio import load_clip
from fcn4dist.data.splits import split_clips


def make_index(folder: Path) -> Path:
    """Write an index of two clips in each folder, and the known bad ones."""
    clips = [(i, f"{'0123456789abcdef'[i % 16]}/artist_{i}-album-01-title-0-29.mp3") for i in range(1, 33)]
    clips += list(KNOWN_BAD)
    with (folder / "clips.tsv").open("w", newline="") as text:
        csv.writer(text, delimiter="\t").writerows([("clip_id", "mp3_path"), *clips])
    with (folder / "annotations_val_test.csv").open("w", newline="") as text:
        rows = [(i, i % 2, 1, path) for i, path in clips if path[0] in "cdef"]
        csv.writer(text, delimiter="\t", quoting=csv.QUOTE_ALL).writerows(
            [("clip_id", "low", "all", "mp3_path"), *rows]
        )
    return folder


def test_the_stand_in_has_paths_labels_and_mp3s_as_in_the_wild(tmp_path: Path) -> None:
    clips, tags, labels = load_index(make_index(tmp_path), None)
    music = tmp_path / "music"
    music.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 40 * 22_050)
    soundfile.write(music / "a.wav", noise, 22_050)
    pool = make_audio(music, tmp_path / "pool", 3)
    audio = tmp_path / "audio"
    audio.mkdir()
    lay_out(audio, clips, tags, labels, pool)
    table = load_annotations(DataConfig(annotations=audio / "annotations_final.csv"))
    assert table.tags == ["low", "all"]
    parts = {part: len(rows) for part, rows in split_clips(table, "folder-12-1-3").parts.items()}
    assert parts == {"train": 24 + 3, "val": 2, "test": 6}
    assert {row: table.labels[row].tolist() for row in (11, 12)} == {
        11: [0, 1],
        12: [1, 1],
    }  # clips 12 and 13: folders c, d
    files = [audio / path for path in table.paths]
    assert [file.is_file() for file in files].count(False) == 1  # the one known bad clip that the set lacks
    assert len({file.stat().st_ino for file in files if file.is_file() and file.stat().st_size}) == 3  # hard links
    mp3 = pool[0].read_bytes()
    assert mp3.startswith(b"ID3")
    assert b"Xing" not in mp3
    assert b"Info" not in mp3
    assert abs(len(mp3) - 2058 - 32_000 / 8 * CLIP_S) < 1000  # 32 kbit/s
    clip = load_clip(pool[0], RATE_HZ, 1000)
    assert soundfile.info(pool[0]).frames > round(clip.duration_s * RATE_HZ)  # the guess is too long, as of real clips
    assert abs(clip.duration_s - CLIP_S) < 0.2
