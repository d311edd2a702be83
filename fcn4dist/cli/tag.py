"""`fcn4dist tag`: the tags of audio files."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fcn4dist.cli.options import AnyPath, config_options, json_option, verbosity_options
from fcn4dist.config import RunConfig
from fcn4dist.errors import ConfigError, UserError, shorten_name

if TYPE_CHECKING:
    from fcn4dist.export.scorer import Listener
    from fcn4dist.tag.tagger import Combine, Tagging

PATH_WIDTH = 200  # letters of a path in print
LIBSNDFILE = (
    "readable are the formats of libsndfile, such as wav, flac, ogg, mp3, aiff; others can be converted by ffmpeg"
)


@click.command()
@click.argument("files", nargs=-1, required=True, type=AnyPath, metavar="FILE...")
@click.option(
    "--checkpoint",
    required=True,
    type=AnyPath,
    metavar="C",
    help="An .onnx or .mindir file with its card, a checkpoint folder, or a run (its best).",
)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many tags to print.")
@click.option("--timeline", is_flag=True, help="Print the tags of every window, too.")
@click.option("--picture", type=AnyPath, metavar="FILE", help="Draw tags over time: .png, .svg, .pdf.")
@click.option(
    "--combine",
    type=click.Choice(["mean", "max"]),
    default="mean",
    show_default=True,
    help="How windows make the piece's score.",
)
@click.option(
    "--window", "window_s", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Seconds; a training clip's."
)
@click.option(
    "--hop",
    "hop_s",
    type=click.FloatRange(min=0.01),
    metavar="S",
    help="Seconds from window to window; a window's length.",
)
@config_options
@json_option
@verbosity_options
def tag(
    files: tuple[Path, ...],
    checkpoint: Path,
    top: int,
    timeline: bool,
    picture: Path | None,
    combine: Combine,
    window_s: float | None,
    hop_s: float | None,
    config: RunConfig,
    as_json: bool,
) -> None:
    """Tag audio files of any length with a trained network.

    The whole piece is heard in windows as long as a training clip; the scores of its windows are averaged. With an .onnx file
    no MindSpore is needed. A file that cannot be used is named and the others are tagged; the exit code is then 2.
    """
    from fcn4dist.data.audio import UnusableClipError
    from fcn4dist.export.open_scorer import open_scorer
    from fcn4dist.run.best import describe_checkpoint
    from fcn4dist.tag.tagger import plan_windows, tag_file
    from fcn4dist.tag.taggram import check_picture, draw_taggram

    check_numbers(window_s, hop_s)
    if picture is not None:
        if len(files) > 1:
            raise ConfigError(f"--picture {picture}: one picture, but {len(files)} files; tag them one by one")
        check_picture(picture)
    scorer = open_scorer(checkpoint, config)
    used = describe_checkpoint(checkpoint, scorer.listener.checkpoint)
    is_exported = checkpoint.suffix in (".onnx", ".mindir") and checkpoint.is_file()  # then the card names it
    if not (as_json or is_exported or logging.getLogger().level >= logging.ERROR):
        click.echo(f"checkpoint: {used}", err=True)
    plan = plan_windows(scorer.listener, window_s, hop_s, combine)
    documents: list[dict[str, Any]] = []
    num_failed = 0
    tagging: Tagging | None = None
    for file in files:
        try:
            with told_on_terminal(file) as say:
                tagging = tag_file(file, scorer, plan, say)
        except UnusableClipError as error:
            num_failed += 1
            documents.append({"file": str(file), "error": str(error)})
            click.echo(f"fcn4dist: {shorten_name(file, PATH_WIDTH)}: {_with_hint(error)}", err=True)
            continue
        if tagging.note is not None:
            click.echo(f"fcn4dist: {shorten_name(file, PATH_WIDTH)}: {tagging.note}", err=True)
        if as_json:
            documents.append(as_document(tagging, scorer.listener, top, combine, timeline=timeline))
        else:
            click.echo(format_tagging(tagging, scorer.listener, top, timeline=timeline))
    if as_json:
        document = {"checkpoint": str(checkpoint), "used": used, "files": documents}
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    if picture is not None and tagging is not None:  # last, so that a picture that fails costs no scores
        draw_taggram(tagging, max(top, min(20, len(tagging.tags))), picture)
    if num_failed:
        raise SystemExit(UserError.exit_code)


@contextlib.contextmanager
def told_on_terminal(file: Path) -> Iterator[Callable[[float], None] | None]:
    """Give what tells on a terminal how far a long file is, once a second, and wipe that away at the end."""
    if not sys.stderr.isatty() or logging.getLogger().level >= logging.ERROR:
        yield None
        return
    from fcn4dist.tag.taggram import format_time

    name, last = shorten_name(file.name, 60), time.monotonic()

    def say(done_s: float) -> None:
        nonlocal last
        if time.monotonic() - last >= 1:
            last = time.monotonic()
            click.echo(f"\r{name}: {format_time(done_s)}", err=True, nl=False)

    try:
        yield say
    finally:
        click.echo("\r\x1b[K", err=True, nl=False)


def check_numbers(*seconds: float | None) -> None:
    """Raise ConfigError for nan and inf, which are numbers to click."""
    if any(value is not None and not math.isfinite(value) for value in seconds):
        raise ConfigError("--window, --hop: expected a number of seconds")


def format_tagging(tagging: Tagging, listener: Listener, top: int, *, timeline: bool) -> str:
    """Return the piece and its highest tags, a line each; `*` marks scores over the tag's own threshold."""
    from fcn4dist.tag.taggram import format_time

    windows = len(tagging.starts_s)
    facts = f"{format_time(tagging.duration_s)}, {windows} window{'s'[: windows != 1]} of {tagging.window_s:g} s"
    silent = f", {tagging.num_silent} of them silent" if tagging.num_silent else ""
    lines = [f"{shorten_name(tagging.file, PATH_WIDTH)}  ({facts}{silent})"]
    for i in tagging.top(top):
        mark = "*" if is_present(tagging, listener, i) else " "
        lines.append(f"  {tagging.scores[i]:.3f}{mark} {shorten_name(tagging.tags[i])}")
    if timeline:
        for start_s, end_s, row in zip(tagging.starts_s, tagging.ends_s, tagging.timeline, strict=True):
            best = (
                "silent"
                if row[0] != row[0]
                else ", ".join(
                    f"{shorten_name(tagging.tags[i], 40)} {row[i]:.2f}" for i in (-row).argsort(kind="stable")[:top]
                )
            )
            lines.append(f"  {format_time(start_s)} to {format_time(end_s)}  {best}")
    return "\n".join(lines)


def is_present(tagging: Tagging, listener: Listener, i: int) -> bool | None:
    """Return whether tag i is over its threshold; none where it has none."""
    threshold = None if listener.thresholds is None else listener.thresholds[i]
    return None if threshold is None else bool(tagging.scores[i] >= threshold)


def as_document(tagging: Tagging, listener: Listener, top: int, combine: str, *, timeline: bool) -> dict[str, Any]:
    """Return the piece as JSON values; the timeline has the scores of all tags in the order of `tag_order`."""
    document: dict[str, Any] = {
        "file": str(tagging.file),
        "duration_s": round(tagging.duration_s, 3),
        "window_s": tagging.window_s,
        "hop_s": tagging.hop_s,
        "num_windows": len(tagging.starts_s),
        "num_silent_windows": tagging.num_silent,
        "combine": combine,
        "note": tagging.note,
        "tags": [
            {"tag": tagging.tags[i], "score": float(tagging.scores[i]), "is_present": is_present(tagging, listener, i)}
            for i in tagging.top(top)
        ],
    }
    if timeline:
        document["tag_order"] = list(tagging.tags)
        document["timeline"] = [
            {
                "start_s": round(start_s, 3),
                "end_s": round(end_s, 3),
                "scores": None if row[0] != row[0] else row.tolist(),
            }
            for start_s, end_s, row in zip(tagging.starts_s, tagging.ends_s, tagging.timeline, strict=True)
        ]
    return document


def _with_hint(error: Exception) -> str:
    return f"{error} ({LIBSNDFILE})" if str(error).startswith("cannot be decoded") else str(error)
