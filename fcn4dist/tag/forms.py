"""What `fcn4dist tag` writes: text for people, one JSON document, JSON lines or CSV, one file after the other.

A form gives strings: its head, a part for each file, its end. So all that is done is written, and memory does not grow.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fcn4dist.errors import shorten_name
from fcn4dist.evaluate.thresholds import MIN_SUPPORT
from fcn4dist.export.scorer import Listener
from fcn4dist.tag.tagger import Combine, Tagging, Untagged
from fcn4dist.tag.taggram import format_time

PATH_WIDTH = 200  # letters of a path in print
FormName = Literal["text", "json", "json-lines", "csv"]


@dataclass(frozen=True)
class Asked:
    """What of each piece the user wants to see."""

    listener: Listener
    top: int
    timeline: bool
    combine: Combine
    about: Mapping[str, Any]  # at the head of the JSON document


class Form(Protocol):
    """Strings to be written one after the other."""

    def head(self) -> str:
        """Return what comes first."""

    def piece(self, found: Tagging | Untagged) -> str:
        """Return what is said of one file."""

    def end(self, *, is_interrupted: bool) -> str:
        """Return what comes last."""


class Text:
    """Text for people: a piece and its highest tags, a line each; files that cannot be used are named elsewhere."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._has_star, self._has_piece = False, False

    def head(self) -> str:
        """Return nothing."""
        return ""

    def piece(self, found: Tagging | Untagged) -> str:
        """Return the piece; `*` marks scores that reach the tag's own threshold."""
        if isinstance(found, Untagged):
            return ""
        self._has_piece = True
        windows = len(found.times_s)
        facts = f"{format_time(found.duration_s)}, {windows} window{'s'[: windows != 1]} of {found.window_s:g} s"
        silent = f", {found.num_silent} of them silent" if found.num_silent else ""
        lines = [f"{shorten_name(found.file, PATH_WIDTH)}  ({facts}{silent})"]
        for i in found.ranking(self._asked.top):
            has_star = is_present(found, self._asked.listener, i)
            self._has_star |= bool(has_star)
            lines.append(f"  {found.scores[i]:.3f}{'*' if has_star else ' '} {shorten_name(found.tags[i])}")
        if self._asked.timeline:
            lines += self._timeline(found)
        return "\n".join(lines) + "\n"

    def end(self, *, is_interrupted: bool) -> str:
        """Return what the star means, and where there is none because too little is known."""
        few, num_tags = self._asked.listener.num_unreliable, len(self._asked.listener.tags)
        lines = []
        if self._has_star:
            lines.append("* the score reaches the tag's threshold, the one with the best F1 on validation clips")
        if few and self._has_piece:
            lines.append(
                f"no star for {few} of {num_tags} tags: fewer than {MIN_SUPPORT} validation clips with or without the tag, "
                "too few to choose a threshold"
            )
        return "".join(f"{line}\n" for line in lines)

    def _timeline(self, found: Tagging) -> list[str]:
        lines = []
        for start_s, end_s, row in zip(found.times_s, found.ends_s, found.window_scores, strict=True):
            best = (-row).argsort(kind="stable")[: self._asked.top]
            tags = ", ".join(f"{shorten_name(found.tags[i], 40)} {row[i]:.2f}" for i in best)
            lines.append(f"  {format_time(start_s)} to {format_time(end_s)}  {'silent' if row[0] != row[0] else tags}")
        return lines


class JsonLines:
    """One JSON value a file, a line each."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def head(self) -> str:
        """Return nothing."""
        return ""

    def piece(self, found: Tagging | Untagged) -> str:
        """Return the line of a file."""
        return json.dumps(as_value(found, self._asked), allow_nan=False) + "\n"

    def end(self, *, is_interrupted: bool) -> str:
        """Return nothing: what is there is whole."""
        return ""


class Json:
    """One JSON document; an interrupted one holds the files that are done."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._between = "\n"

    def head(self) -> str:
        """Return all up to the first file."""
        about = json.dumps(dict(self._asked.about), indent=2, allow_nan=False).removesuffix("\n}")
        return f'{about},\n  "files": ['

    def piece(self, found: Tagging | Untagged) -> str:
        """Return a file's value and what stands between it and the one before."""
        value = json.dumps(as_value(found, self._asked), indent=2, allow_nan=False).replace("\n", "\n    ")
        text, self._between = f"{self._between}    {value}", ",\n"
        return text

    def end(self, *, is_interrupted: bool) -> str:
        """Return the end of the document."""
        closed = "]" if self._between == "\n" else "\n  ]"
        return f'{closed},\n  "interrupted": {json.dumps(is_interrupted)}\n}}\n'


class Csv:
    """A header and a row a file: its name, its seconds, what was wrong with it, then the score of every tag."""

    def __init__(self, asked: Asked) -> None:
        self._tags = asked.listener.tags

    def head(self) -> str:
        """Return the header row."""
        return _csv_row("file", "duration_s", "error", *self._tags)

    def piece(self, found: Tagging | Untagged) -> str:
        """Return the row of a file; without scores where it could not be used."""
        if isinstance(found, Untagged):
            return _csv_row(found.file, "", found.reason, *[""] * len(self._tags))
        return _csv_row(found.file, round(found.duration_s, 3), "", *found.scores)

    def end(self, *, is_interrupted: bool) -> str:
        """Return nothing: what is there is whole."""
        return ""


FORMS: dict[FormName, type[Text] | type[Json] | type[JsonLines] | type[Csv]] = {
    "text": Text,
    "json": Json,
    "json-lines": JsonLines,
    "csv": Csv,
}


def is_present(tagging: Tagging, listener: Listener, i: int) -> bool | None:
    """Return whether tag i is over its threshold; none where it has none."""
    threshold = None if listener.thresholds is None else listener.thresholds[i]
    return None if threshold is None else bool(tagging.scores[i] >= threshold)


def as_value(found: Tagging | Untagged, asked: Asked) -> dict[str, Any]:
    """Return a file as a JSON value; the timeline has the scores of all tags in the order of `tag_order`."""
    if isinstance(found, Untagged):
        return {"file": str(found.file), "error": found.reason}
    value: dict[str, Any] = {
        "file": str(found.file),
        "duration_s": round(found.duration_s, 3),
        "window_s": found.window_s,
        "hop_s": found.hop_s,
        "num_windows": len(found.times_s),
        "num_silent_windows": found.num_silent,
        "combine": asked.combine,
        "note": found.note,
        "tags": [
            {"tag": found.tags[i], "score": float(found.scores[i]), "is_present": is_present(found, asked.listener, i)}
            for i in found.ranking(asked.top)
        ],
    }
    if asked.timeline:
        value["tag_order"] = list(found.tags)
        value["timeline"] = [
            {
                "start_s": round(start_s, 3),
                "end_s": round(end_s, 3),
                "scores": None if row[0] != row[0] else row.tolist(),
            }
            for start_s, end_s, row in zip(found.times_s, found.ends_s, found.window_scores, strict=True)
        ]
    return value


def _csv_row(*cells: object) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
