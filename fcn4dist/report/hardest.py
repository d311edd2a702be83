"""The page's part about the hardest clips: what they are taken for, their mels, and a player where the audio is at hand."""

from __future__ import annotations

import base64
import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcn4dist.data.manifest import CLIPS
from fcn4dist.evaluate.hardest import clip_losses, find_hardest, load_hardest
from fcn4dist.report.chart import clean
from fcn4dist.report.curves import top_tags
from fcn4dist.report.run_files import RunFiles, ScoreTable

# from silence to the loudest point; told apart on a light page, a dark one and grey paper
COLOURS = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))


@dataclass(frozen=True)
class HardClip:
    """One clip that the model gets wrong."""

    clip_id: int
    path: str
    loss: float
    tags: str  # its own, each with its score
    taken_for: str  # what it got instead
    picture: str = ""  # its mel as a data URI; empty: not kept
    audio: str = ""  # a link from the page to its file; empty: not at hand


def list_hardest(table: ScoreTable, files: RunFiles) -> tuple[HardClip, ...]:
    """Return the clips with the highest losses, the hardest first."""
    losses, predicted = clip_losses(table.labels, table.scores), top_tags(table.labels, table.scores)
    data = files.config.get("data", {})
    paths, pictures, found = load_paths(data.get("records_dir")), load_hardest(files.run.hardest), []
    for i in find_hardest(table.labels, table.scores):
        clip_id = int(table.clip_ids[i])
        own, wrong = table.labels[i] > 0, (predicted[i] | (table.scores[i] >= 0.5)) & (table.labels[i] == 0)
        path = paths.get(clip_id, "")
        found.append(
            HardClip(
                *(clip_id, clean(path, 120), float(losses[i]), _named(table, i, own), _named(table, i, wrong)),
                picture=encode_picture(pictures[clip_id]) if clip_id in pictures else "",
                audio=link_audio(data.get("audio_dir"), path, files.page_folder),
            )
        )
    return tuple(found)


def encode_picture(picture: NDArray[np.uint8]) -> str:
    """Return a picture (bands, frames), the lowest band first, as a PNG in a data URI."""
    places = np.linspace(0, len(COLOURS) - 1, 256)
    palette = [np.interp(places, range(len(COLOURS)), channel) for channel in np.transpose(COLOURS)]
    image = Image.fromarray(picture[::-1])
    image.putpalette(np.stack(palette, axis=1).round().astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def link_audio(audio_dir: Any, path: str, page_folder: Path) -> str:
    """Return a relative link from the page to a clip's file, if it is at hand; nothing of the file is put into the page."""
    if not isinstance(audio_dir, str) or not path:
        return ""
    file = Path(audio_dir).absolute() / path
    try:
        is_there = file.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        is_there = False
    return quote(os.path.relpath(file, page_folder.absolute())) if is_there else ""


def _named(table: ScoreTable, clip: Any, chosen: Any) -> str:
    indices = sorted(np.flatnonzero(chosen).tolist(), key=lambda j: -table.scores[clip, j])[:8]
    return ", ".join(f"{clean(table.tags[j], 30)} {table.scores[clip, j]:.2f}" for j in indices)


def load_paths(records_dir: Any) -> dict[int, str]:
    """Return clip id -> path from the data set's clips.tsv; nothing where the run's data is not at hand."""
    if not isinstance(records_dir, str):
        return {}
    try:
        with (Path(records_dir) / CLIPS).open(encoding="utf-8", errors="replace", newline="") as lines:
            return {int(row["clip_id"]): str(row["mp3_path"]) for row in csv.DictReader(lines, delimiter="\t")}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}
