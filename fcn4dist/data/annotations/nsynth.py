"""NSynth: `nsynth-{train,valid,test}/examples.json`, a note a key; audio stands beside each, in `audio/NAME.wav`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fcn4dist.config import DataConfig
from fcn4dist.data.annotations.assemble import build_annotations, mark_tags
from fcn4dist.data.annotations.rows import load_json
from fcn4dist.data.annotations.tagged_clips import Annotations, Part
from fcn4dist.errors import DataError, quoted

NAME = "examples.json"
FOLDERS: dict[str, Part] = {"nsynth-train": "train", "nsynth-valid": "val", "nsynth-test": "test"}
QUALITIES = (  # in the order of the ten numbers of `qualities`
    "bright",
    "dark",
    "distortion",
    "fast_decay",
    "long_release",
    "multiphonic",
    "nonlinear_env",
    "percussive",
    "reverb",
    "tempo-synced",
)


def load(place: Path, data: DataConfig) -> Annotations:
    """Read the notes of all parts that are there; `place` is the folder that holds them, or one examples.json.

    A file in a folder of another name is read alone, without parts. Tags are family, source and qualities; an instrument is
    its notes' "artist", so that random-by-artist keeps it on one side. Raises DataError.
    """
    above = place.parent.parent if place.name == NAME else place.parent if place.name in FOLDERS else place
    files = {above / name / NAME: part for name, part in FOLDERS.items() if (above / name / NAME).is_file()}
    if place.name == NAME and place not in files:
        files = {}
    elif not files:
        raise DataError(f"{place}: none of {', '.join(FOLDERS)} with an {NAME} is here")
    ids: list[str] = []
    paths: list[str] = []
    tag_lists: list[list[str]] = []
    instruments: list[str] = []
    parts: list[Part] = []
    for file in files or [place]:
        for name, note in load_json(file).items():
            family, source, instrument, qualities = _parse_note(f"{file}: {quoted(name)}", note)
            ids.append(name)
            paths.append(f"{file.parent.name}/audio/{name}.wav" if files else f"audio/{name}.wav")
            tag_lists.append([family, source, *(q for q, on in zip(QUALITIES, qualities, strict=True) if on)])
            instruments.append(instrument)
            if files:
                parts.append(files[file])
    tags, labels = mark_tags(tag_lists)
    where, groups = above if files else place, {"artist": instruments}
    return build_annotations(where, "nsynth", data, ids, paths, tags, labels, groups=groups, parts=parts or None)


def _parse_note(place: str, note: Any) -> tuple[str, str, str, list[int]]:
    try:
        family, source = note["instrument_family_str"], note["instrument_source_str"]
        qualities = [(0, 1).index(value) for value in note["qualities"]]
        instrument = str(note["instrument_str"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{place}: not a note of NSynth: {type(error).__name__} {error}") from None
    if len(qualities) != len(QUALITIES) or not (isinstance(family, str) and isinstance(source, str)):
        raise DataError(f"{place}: not a note of NSynth: expected a family, a source and ten qualities")
    return family, source, instrument, qualities
