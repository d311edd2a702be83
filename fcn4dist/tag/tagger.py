"""The pipeline of `fcn4dist tag`: the scores of a whole piece, window by window, and in one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig
from fcn4dist.data.audio import UnusableClipError, iter_windows
from fcn4dist.data.mel import log_mel
from fcn4dist.errors import ConfigError
from fcn4dist.export.scorer import Listener, Scorer

Combine = Literal["mean", "max"]


@dataclass(frozen=True)
class WindowPlan:
    """How a piece is cut and how its windows become one row of scores."""

    mel: MelConfig  # of a window: mel.clip_s is its length
    hop_s: float
    combine: Combine


@dataclass(frozen=True)
class Tagging:
    """The scores of one piece."""

    file: Path
    tags: tuple[str, ...]
    duration_s: float
    window_s: float
    hop_s: float
    starts_s: NDArray[np.float64]  # (W,)
    ends_s: NDArray[np.float64]  # (W,)
    timeline: NDArray[np.float32]  # (W, num_tags), 0..1; NaN in silent windows, which count for nothing
    scores: NDArray[np.float32]  # (num_tags,), 0..1
    note: str | None = None  # what is odd about a file that was tagged all the same

    @property
    def num_silent(self) -> int:
        """Windows without sound."""
        return int(np.isnan(self.timeline[:, 0]).sum())

    def top(self, count: int) -> list[int]:
        """Return the `count` tags with the highest scores, highest first; of equal ones the first."""
        return [int(i) for i in np.argsort(-self.scores, kind="stable")[:count]]


def plan_windows(listener: Listener, window_s: float | None, hop_s: float | None, combine: Combine) -> WindowPlan:
    """Plan the windows of any piece; by default they are as long as training clips, end to end.

    Raises ConfigError when a window is too short for the network or the hop leaves gaps.
    """
    mel = listener.mel if window_s is None else listener.mel.model_copy(update={"clip_s": window_s})
    if mel.num_frames < listener.min_frames:
        shortest_s = (listener.min_frames - 1) * mel.hop_samples / mel.sample_rate_hz
        raise ConfigError(f"--window {window_s}: too short for this network; expected {shortest_s:.2f} s or more")
    hop = mel.clip_s if hop_s is None else hop_s
    if hop > mel.clip_s:
        raise ConfigError(f"--hop {hop_s}: longer than a window of {mel.clip_s:g} s, which leaves gaps")
    return WindowPlan(mel, hop, combine)


def tag_file(file: Path, scorer: Scorer, plan: WindowPlan, say: Callable[[float], None] | None = None) -> Tagging:
    """Score every window of `file`; memory does not depend on its length (some bytes a window aside).

    Features are computed as in training. A short piece is one window with zeros at its end. `say` is told how many seconds
    are done. Raises UnusableClipError when
    the file cannot be decoded or is silent throughout.
    """
    starts, ends, rows, note = [], [], [], None
    silent = np.full(len(scorer.listener.tags), np.nan, np.float32)
    for window in iter_windows(file, plan.mel, plan.hop_s):
        starts.append(window.start_s)
        ends.append(window.end_s)
        note = window.note
        rows.append(silent if window.is_silent else scorer.score(log_mel(window.wave, plan.mel)[None, None])[0])
        if say is not None:
            say(window.end_s)
    timeline = np.stack(rows)
    heard = timeline[~np.isnan(timeline[:, 0])]
    if len(heard) == 0:
        raise UnusableClipError(f"silent: no window of {plan.mel.clip_s:g} s has any sound")
    scores = heard.max(axis=0) if plan.combine == "max" else heard.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Tagging(
        file=file,
        tags=scorer.listener.tags,
        duration_s=ends[-1],
        window_s=plan.mel.clip_s,
        hop_s=plan.hop_s,
        starts_s=np.array(starts),
        ends_s=np.array(ends),
        timeline=timeline,
        scores=scores,
        note=note,
    )
