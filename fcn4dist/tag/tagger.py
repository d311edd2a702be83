"""Tags of whole pieces: the scores of a piece window by window, and in one row. `fcn4dist.load` returns a `Tagger`."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fcn4dist.config import MelConfig, RunConfig
from fcn4dist.data.audio import UnusableClipError, Window, iter_windows
from fcn4dist.data.mel import log_mel
from fcn4dist.errors import ConfigError, DataError
from fcn4dist.export.open_scorer import open_scorer
from fcn4dist.export.scorer import Float32, Listener, Scorer

AnyPath = str | os.PathLike[str]
Combine = Literal["mean", "max"]
Say = Callable[[Path, float], None]  # told of a file, and how many of its seconds are done

MOST_WINDOWS = 8  # in one pass of the network
MOST_FRAMES = 2 * 1366  # in one pass: two windows of 29 s, so that memory stays that of a pass or two


@dataclass(frozen=True)
class WindowPlan:
    """How a piece is cut and how its windows become one row of scores."""

    mel: MelConfig  # of a window: mel.clip_s is its length
    hop_s: float
    combine: Combine

    @property
    def windows_at_once(self) -> int:
        """How many windows the network hears in one pass."""
        return min(MOST_WINDOWS, max(1, MOST_FRAMES // self.mel.num_frames))


@dataclass(frozen=True, eq=False)
class Tagging:
    """The scores of one piece."""

    file: Path
    tags: tuple[str, ...]
    duration_s: float
    window_s: float
    hop_s: float
    times_s: NDArray[np.float64]  # (W,), where each window begins
    ends_s: NDArray[np.float64]  # (W,), where its sound ends
    window_scores: NDArray[np.float32]  # (W, num_tags), 0..1; NaN in silent windows, which count for nothing
    scores: NDArray[np.float32]  # (num_tags,), 0..1
    note: str | None = None  # what is odd about a file that was tagged all the same

    @property
    def num_silent(self) -> int:
        """Windows without sound."""
        return int(np.isnan(self.window_scores[:, 0]).sum())

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the `count` highest tags and their scores, 0..1, highest first; of equal ones the first."""
        return [(self.tags[i], float(self.scores[i])) for i in self.ranking(count)]

    def ranking(self, count: int) -> list[int]:
        """Return the places of the `count` highest tags, highest first; of equal ones the first."""
        return [int(i) for i in np.argsort(-self.scores, kind="stable")[:count]]


@dataclass(frozen=True)
class Untagged:
    """A file that could not be used."""

    file: Path
    reason: str


class Tagger:
    """A trained network that tags audio of any length; `load` opens it.

    Whole pieces are heard in windows as long as training clips, end to end; the features are those of training. Silent
    windows (peak under -80 dBFS) count for nothing.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    @property
    def listener(self) -> Listener:
        """What the network listens to and what its scores mean."""
        return self._scorer.listener

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags in the order of the scores."""
        return self.listener.tags

    @property
    def mel(self) -> MelConfig:
        """The features that it was trained on; mel.clip_s is the length of a training clip in seconds."""
        return self.listener.mel

    def tag(
        self, file: AnyPath, *, window_s: float | None = None, hop_s: float | None = None, combine: Combine = "mean"
    ) -> Tagging:
        """Return the scores of an audio file of any format that libsndfile reads, any rate, length and number of channels.

        `window_s`, `hop_s`: seconds of a window, and from one to the next; by default a training clip, end to end.
        `combine`: the mean or the maximum of the windows' scores is the piece's. Memory does not grow with its length (some
        bytes a window aside). Raises DataError where the file cannot be decoded or is silent throughout, ConfigError where the
        windows are too short for the network or leave gaps.
        """
        (found,) = self.tag_many([file], window_s=window_s, hop_s=hop_s, combine=combine)
        if isinstance(found, Untagged):
            raise DataError(f"{found.file}: {found.reason}")
        return found

    def tag_many(
        self,
        files: Iterable[AnyPath],
        *,
        window_s: float | None = None,
        hop_s: float | None = None,
        combine: Combine = "mean",
        say: Say | None = None,
    ) -> Iterator[Tagging | Untagged]:
        """Yield what became of each file, in their order, as soon as it is known; the arguments are those of `tag`.

        The network hears windows of several files in one pass, so short files come a few at a time, and a file's scores may
        differ from those of `tag` in the last digits of a float32. Memory does not grow with the number of files.
        """
        return self._iter_outcomes(files, plan_windows(self.listener, window_s, hop_s, combine), say)

    def score(self, mel_db: Float32) -> Float32:
        """Return the scores (n, num_tags), 0..1, of log-mel clips (n, 1, n_mels, frames) in dB, such as `Split.read` gives."""
        return self._scorer.score(np.ascontiguousarray(mel_db, np.float32))

    def _iter_outcomes(
        self, files: Iterable[AnyPath], plan: WindowPlan, say: Say | None
    ) -> Iterator[Tagging | Untagged]:
        batch = _Batch(self._scorer, plan.windows_at_once)
        waiting: deque[_Hearing] = deque()  # all but the first few of its windows wait for their batch
        for file in files:
            piece = _Hearing(Path(file))
            waiting.append(piece)
            try:
                for window in iter_windows(piece.file, plan.mel, plan.hop_s):
                    place = piece.add(window)
                    if not window.is_silent:
                        batch.add(log_mel(window.wave, plan.mel), piece, place)
                    if say is not None:
                        say(piece.file, window.end_s)
            except UnusableClipError as error:
                piece.reason = str(error)
            piece.is_heard = True
            if len(waiting) > batch.size:  # files without sound fill no batch
                batch.score()
            while waiting and waiting[0].is_done:
                yield waiting.popleft().finish(self.tags, plan)
        batch.score()
        for piece in waiting:
            yield piece.finish(self.tags, plan)


def load(path: AnyPath, *, config: RunConfig | None = None) -> Tagger:
    """Open a trained network: an .onnx or .mindir file with its card, a checkpoint folder, or a run (its best checkpoint).

    `config` names the device, and for a checkpoint file of ModelZoo its tags, pools and mel; by default the machine's own
    device. MindSpore is loaded for all but .onnx. Raises CheckpointError for what is missing or damaged, DeviceError where what
    it needs is not installed.
    """
    return Tagger(open_scorer(Path(path), RunConfig() if config is None else config))


def plan_windows(listener: Listener, window_s: float | None, hop_s: float | None, combine: Combine) -> WindowPlan:
    """Plan the windows of any piece; by default they are as long as training clips, end to end.

    Raises ConfigError when a window is too short for the network or the hop leaves gaps.
    """
    if not all(value is None or math.isfinite(value) for value in (window_s, hop_s)):
        raise ConfigError("window or hop: expected a number of seconds")
    if combine not in get_args(Combine):
        raise ConfigError(f"combine is {combine!r}; expected one of {', '.join(get_args(Combine))}")
    mel = listener.mel if window_s is None else listener.mel.model_copy(update={"clip_s": window_s})
    if mel.num_frames < listener.min_frames:
        shortest_s = (listener.min_frames - 1) * mel.hop_samples / mel.sample_rate_hz
        raise ConfigError(
            f"a window of {mel.clip_s:g} s is too short for this network; expected {shortest_s:.2f} s or more"
        )
    hop = mel.clip_s if hop_s is None else hop_s
    if not 0 < hop <= mel.clip_s:
        why = ", which leaves gaps" if hop > 0 else ""
        raise ConfigError(f"a hop of {hop:g} s{why}; expected more than 0 and at most a window, {mel.clip_s:g} s")
    return WindowPlan(mel, hop, combine)


@dataclass
class _Hearing:
    """A piece while its windows are scored."""

    file: Path
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    rows: list[Float32 | None] = field(default_factory=list)  # none: silent, or not scored yet
    note: str | None = None
    reason: str | None = None  # why it cannot be used
    is_heard: bool = False  # to its end
    num_waiting: int = 0  # windows in the batch

    @property
    def is_done(self) -> bool:
        return self.is_heard and (self.num_waiting == 0 or self.reason is not None)

    def add(self, window: Window) -> int:
        """Add a window and return its place."""
        self.starts.append(window.start_s)
        self.ends.append(window.end_s)
        self.rows.append(None)
        self.note = window.note
        return len(self.rows) - 1

    def finish(self, tags: tuple[str, ...], plan: WindowPlan) -> Tagging | Untagged:
        """Return the scores of the piece, or why there are none."""
        if self.reason is not None:
            return Untagged(self.file, self.reason)
        heard = [row for row in self.rows if row is not None]
        if not heard:
            return Untagged(self.file, f"silent: no window of {plan.mel.clip_s:g} s has any sound")
        scores = np.max(heard, axis=0) if plan.combine == "max" else np.mean(heard, axis=0, dtype=np.float64)
        silent = np.full(len(tags), np.nan, np.float32)
        return Tagging(
            file=self.file,
            tags=tags,
            duration_s=self.ends[-1],
            window_s=plan.mel.clip_s,
            hop_s=plan.hop_s,
            times_s=np.array(self.starts),
            ends_s=np.array(self.ends),
            window_scores=np.stack([silent if row is None else row for row in self.rows]),
            scores=scores.astype(np.float32),
            note=self.note,
        )


class _Batch:
    """Windows of several pieces that the network hears in one pass."""

    def __init__(self, scorer: Scorer, size: int) -> None:
        self.size = size
        self._scorer = scorer
        self._windows: list[Float32] = []  # each (n_mels, frames)
        self._owners: list[tuple[_Hearing, int]] = []
        self._was_full = False

    def add(self, mel_db: Float32, piece: _Hearing, place: int) -> None:
        """Add window `place` of a piece; a full batch is scored."""
        self._windows.append(mel_db)
        self._owners.append((piece, place))
        piece.num_waiting += 1
        if len(self._windows) == self.size:
            self._was_full = True
            self.score()

    def score(self) -> None:
        """Score what is there and hand the rows to their pieces."""
        if not self._windows:
            return
        mel_db = np.stack(self._windows)[:, None]
        if self._was_full and self._scorer.compiles_each_batch:  # filled up: another size would be compiled anew
            mel_db = np.resize(mel_db, (self.size, *mel_db.shape[1:]))
        for (piece, place), row in zip(self._owners, self._scorer.score(mel_db), strict=False):
            piece.rows[place] = row.copy()  # of its own, so that no row keeps its whole batch
            piece.num_waiting -= 1
        self._windows.clear()
        self._owners.clear()
