"""What is MagnaTagATune's own: the recording behind a path, and the three clips that are known to be damaged.

All 25,863 paths follow `<folder>/<artist>-<album>-<track#>-<title>-<start>-<end>.mp3`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fcn4dist.data.parts import Level

_STEM = re.compile(
    r"(?P<artist>[^-]+)-(?P<album>.+?)-(?P<number>\d+)-(?P<title>.*)-(?P<start_s>\d{1,6})-(?P<end_s>\d{1,6})"
)
# The three known bad clips, which everybody leaves out: see `aux/mtt/partition_gt.py` of github.com/jordipons/musicnn-training.
# All stand in training folders, so the usual split has 18,709 training clips, of which 18,706 can be used.
KNOWN_BAD = {  # (clip_id, mp3_path) -> what is wrong with it
    (35644, "6/norine_braun-now_and_zen-08-gently-117-146.mp3"): "no file",
    (
        55753,
        "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    ): "corrupted",
    (
        57881,
        "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
    ): "corrupted",
}


def explain_known_bad(clip_id: int, mp3_path: str) -> str | None:
    """Return what is wrong with a clip that is known to be bad; none for all others.

    Both id and path must agree, so that another data set's clip 35644 is never left out.
    """
    reason = KNOWN_BAD.get((clip_id, mp3_path))
    return None if reason is None else f"known bad clip of MagnaTagATune: {reason}"


def parse_groups(paths: Sequence[str]) -> dict[Level, list[str]] | None:
    """Return track, album and artist of each path; equal names mean the same one. None where no path follows the grammar.

    A track's name begins with its album's, an album's with its artist's; the folder and the file's ending do not matter. A path
    that does not follow the grammar has "" at each level.
    """
    groups: dict[Level, list[str]] = {"track": [], "album": [], "artist": []}
    for match in map(_match, paths):
        artist, album, number, title = match.group("artist", "album", "number", "title") if match else ("",) * 4
        groups["track"].append(f"{artist}-{album}-{number}-{title}" if match else "")
        groups["album"].append(f"{artist}-{album}" if match else "")
        groups["artist"].append(artist)
    return groups if any(groups["track"]) else None


def parse_durations(paths: Sequence[str]) -> NDArray[np.float32]:
    """Return the length in seconds (N,) that each path names; NaN where it does not follow the grammar."""
    found = [int(match["end_s"]) - int(match["start_s"]) if match else np.nan for match in map(_match, paths)]
    return np.array(found, np.float32)


def _match(path: str) -> re.Match[str] | None:
    return _STEM.fullmatch(PurePosixPath(path).stem)
