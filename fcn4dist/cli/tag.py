"""`fcn4dist tag`: the tags of audio files."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

import click

from fcn4dist.cli.main import ReaderLeftError, drop
from fcn4dist.cli.options import (
    AnyPath,
    checkpoint_option,
    choice,
    config_options,
    is_quiet,
    json_option,
    output_option,
    picture_option,
    verbosity_options,
)
from fcn4dist.config import RunConfig
from fcn4dist.errors import ConfigError, Fcn4distError, JobError, UserError, shorten_name
from fcn4dist.files import save_atomically

if TYPE_CHECKING:
    from fcn4dist.tag.forms import Form, FormName
    from fcn4dist.tag.tagger import Combine, Say, Tagging, Untagged

PATH_WIDTH = 200  # letters of a path in print
LIBSNDFILE = (
    "readable are the formats of libsndfile, such as wav, flac, ogg, mp3, aiff; others can be converted by ffmpeg"
)
SUFFIXES: dict[str, FormName] = {".json": "json", ".jsonl": "json-lines", ".csv": "csv", ".txt": "text"}


@click.command()
@click.argument("files", nargs=-1, required=True, type=AnyPath, metavar="FILE...")
@checkpoint_option("An .onnx or .mindir file with its card, a checkpoint folder, or a run (its best).", required=True)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many tags to print.")
@click.option("--timeline", is_flag=True, help="Print the tags of every window, too.")
@picture_option
@click.option(
    "--combine",
    type=choice(["mean", "max"]),
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
@click.option("--json-lines", is_flag=True, help="Print a line of JSON a file, as soon as it is done.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a row a file, as soon as it is done; a column a tag.")
@output_option("Write it there: .json, .jsonl, .csv or .txt.")
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
    json_lines: bool,
    as_csv: bool,
    output: Path | None,
    config: RunConfig,
    as_json: bool,
) -> None:
    """Tag audio files of any length, or all in a folder, with a trained network.

    The whole piece is heard in windows as long as a training clip; the scores of its windows are averaged. With an .onnx file
    no MindSpore is needed. A file that cannot be used is named and the others are tagged; the exit code is then 1, or 2 where
    nothing could be tagged. Ctrl-C keeps what is done.
    """
    from fcn4dist.run.best import describe_checkpoint
    from fcn4dist.tag.audio_files import AudioFiles
    from fcn4dist.tag.forms import FORMS, Asked, Text
    from fcn4dist.tag.tagger import Untagged, load
    from fcn4dist.tag.taggram import check_picture, draw_taggram

    form_name = _choose_form({"json": as_json, "json-lines": json_lines, "csv": as_csv}, output)
    if picture is not None:
        if len(files) > 1 or files[0].is_dir():
            what = f"{len(files)} files" if len(files) > 1 else "a folder"
            raise ConfigError(f"--picture {picture}: one picture, but {what}; tag them one by one")
        check_picture(picture)
    found = AudioFiles.count(files)
    if found.folders and not is_quiet():
        _tell(f"{', '.join(shorten_name(folder, PATH_WIDTH) for folder in found.folders)}: {found.describe()}")
    tagger = load(checkpoint, config=config)
    used = describe_checkpoint(checkpoint, tagger.listener.checkpoint)
    is_exported = checkpoint.suffix in (".onnx", ".mindir") and checkpoint.is_file()  # then the card names it
    if form_name == "text" and not (is_exported or is_quiet()):
        _tell(f"checkpoint: {used}")
    about = {"checkpoint": str(checkpoint), "used": used, "left_out": dict(found.left_out)}
    asked = Asked(tagger.listener, top, timeline, combine, about)
    progress = _Progress(found.num_files, is_shown=sys.stderr.isatty() and not is_quiet())
    tagged = tagger.tag_many(found, window_s=window_s, hop_s=hop_s, combine=combine, say=progress.say)
    empty = [Untagged(folder, "a folder without audio files") for folder in found.empty]
    unread = [Untagged(folder, reason) for folder, reason in found.unread]
    shown = None if output is None or form_name == "text" else Text(asked)
    work = _Work(FORMS[form_name](asked), shown, progress)
    if output is None:
        work.write_all(itertools.chain(empty, unread, tagged), _echo)
    else:
        _save(output, lambda write: work.write_all(itertools.chain(empty, unread, tagged), write))
    if picture is not None and work.last is not None:  # last, so that a picture that fails costs no scores
        draw_taggram(work.last, max(top, min(20, len(tagger.tags))), picture)
    work.conclude(found.num_files + len(empty) + len(unread))


@dataclass
class _Work:
    """The files one after the other: what was said of them, and how many are done."""

    form: Form
    shown: Form | None  # on stdout, where the form goes to a file
    progress: _Progress
    num_tagged: int = 0
    num_failed: int = 0
    last: Tagging | None = None
    stopped_by: BaseException | None = None

    def write_all(self, outcomes: Iterable[Tagging | Untagged], write: Callable[[str], None]) -> None:
        """Write each file as soon as it is done; whatever ends this early, what is written is whole."""
        write(self.form.head())
        try:
            for found in outcomes:
                with _held_interrupt():  # a file is written and counted, or neither
                    self.progress.wipe()
                    write(self.form.piece(found))
                    if self.shown is not None:
                        _echo(self.shown.piece(found))
                    self._count(found)
            if self.shown is not None:
                _echo(self.shown.end(is_interrupted=False))
        except (KeyboardInterrupt, Fcn4distError, ReaderLeftError) as error:
            self.stopped_by = error
        self.progress.wipe()
        write(self.form.end(is_interrupted=self.stopped_by is not None))

    def conclude(self, num_files: int) -> None:
        """Say how many files were not done and end with the exit code that says so too."""
        num_done = self.num_tagged + self.num_failed
        if isinstance(self.stopped_by, KeyboardInterrupt) and num_files > 1:
            _tell(f"{num_done} of {num_files} files are done")
        if self.stopped_by is not None:
            raise self.stopped_by
        if not self.num_failed:
            return
        if num_files > 1:
            _tell(f"{self.num_tagged} of {num_files} files tagged; {self.num_failed} could not be used")
        raise SystemExit(Fcn4distError.exit_code if self.num_tagged else UserError.exit_code)

    def _count(self, found: Tagging | Untagged) -> None:
        from fcn4dist.tag.tagger import Tagging

        name = shorten_name(found.file, PATH_WIDTH)
        if isinstance(found, Tagging):
            self.num_tagged, self.last = self.num_tagged + 1, found
            if found.note is not None:
                _tell(f"fcn4dist: {name}: {found.note}")
        else:
            self.num_failed += 1
            _tell(f"fcn4dist: {name}: {_with_hint(found.reason)}")


class _Progress:
    """How far a long file is, on a terminal, once a second."""

    def __init__(self, num_files: int, *, is_shown: bool) -> None:
        self.say: Say | None = self._say if is_shown else None
        self._num_files = num_files
        self._file: Path | None = None
        self._place, self._last, self._is_drawn = 0, time.monotonic(), False

    def _say(self, file: Path, done_s: float) -> None:
        from fcn4dist.tag.taggram import format_time

        if file != self._file:
            self._file, self._place = file, self._place + 1
        if time.monotonic() - self._last >= 1:
            self._last, self._is_drawn = time.monotonic(), True
            place = f"[{self._place}/{self._num_files}] " if self._num_files > 1 else ""
            click.echo(f"\r\x1b[K{place}{shorten_name(file.name, 60)}: {format_time(done_s)}", err=True, nl=False)

    def wipe(self) -> None:
        """Clear the line for what is printed now."""
        if self._is_drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._is_drawn = False


@contextlib.contextmanager
def _held_interrupt() -> Iterator[None]:
    """Hold a Ctrl-C back until the block is done; a second one comes through at once."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as under nohup
        yield
        return
    is_due = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal is_due
        if is_due:
            raise KeyboardInterrupt
        is_due = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_due:
        raise KeyboardInterrupt


def _choose_form(given: dict[FormName, bool], output: Path | None) -> FormName:
    """Return the form that an option names, else the one that --output ends in. Raises ConfigError."""
    chosen = [name for name, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise ConfigError(f"--{' and --'.join(chosen)}: expected one of them")
    if chosen or output is None:
        return chosen[0] if chosen else "text"
    suffix = output.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"--output {output}: expected a name that ends in {', '.join(SUFFIXES)}; or --json, --csv, …")
    return SUFFIXES[suffix]


def _save(output: Path, write_all: Callable[[Callable[[str], None]], None]) -> None:
    """Write `output` whole; the file has its name when all is done, or at Ctrl-C. Raises ConfigError."""
    if not output.absolute().parent.is_dir() or output.is_dir():
        what = "is a folder" if output.is_dir() else f"no such folder: {output.parent}"
        raise ConfigError(f"--output {output}: {what}")
    try:
        save_atomically(output, lambda file: write_all(lambda text: _put(file, text)))
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror or error}") from None


def _put(file: BinaryIO, text: str) -> None:
    file.write(text.encode("utf-8", "surrogateescape"))  # names of files need not be UTF-8


def _echo(text: str) -> None:
    """Write to stdout now. Raises JobError where it is full, ReaderLeftError where nobody reads it."""
    if not text:
        return
    try:
        click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
    except OSError as error:
        drop(sys.stdout)  # with what is left in its buffer
        if isinstance(error, BrokenPipeError):
            raise ReaderLeftError from None
        raise JobError(f"stdout: cannot be written: {error.strerror or error}") from None


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _with_hint(reason: str) -> str:
    return f"{reason} ({LIBSNDFILE})" if reason.startswith("cannot be decoded") else reason
