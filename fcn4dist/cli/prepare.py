"""`fcn4dist prepare`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from fcn4dist.cli.options import config_options, verbosity_options
from fcn4dist.config import RunConfig, override_config

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from fcn4dist.prepare import PrepareReport

LINE_EVERY_S = 10.0  # between plain lines


@click.command()
@config_options
@click.option("--audio-dir", type=click.Path(path_type=Path), help="Folder that mp3_path starts from.")
@click.option("--annotations", type=click.Path(path_type=Path), help="Table laid out like MTT's annotations_final.csv.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder to create for the shards and the manifest.")
@click.option("--force", is_flag=True, help="Replace a data set that prepare made from other inputs.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes; 0: one a core.")
@verbosity_options
def prepare(
    config: RunConfig,
    audio_dir: Path | None,
    annotations: Path | None,
    output: Path | None,
    force: bool,
    workers: int | None,
) -> None:
    """Turn audio and annotations into MindRecord shards.

    Run again after an interruption, it goes on where it was.
    """
    from fcn4dist.prepare import prepare as run

    options = {"audio_dir": audio_dir, "annotations": annotations, "records_dir": output, "num_workers": workers}
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    config = override_config(config, data=given)
    is_quiet = bool(click.get_current_context().params.get("quiet"))
    started = time.monotonic()
    with ConsoleProgress(is_quiet) as progress:
        report = run(config, force=force, progress=progress)
    if not is_quiet:
        click.echo(_format_report(report, time.monotonic() - started))


class ConsoleProgress:
    """A bar with rate and time left on a terminal, a line now and then elsewhere, all on stderr."""

    def __init__(self, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._what, self._total, self._done, self._num_reused = "", 0, 0, 0
        self._started = self._last_line = 0.0

    def __enter__(self) -> ConsoleProgress:
        if not self._is_quiet and sys.stderr.isatty():
            self._bar = _build_bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, what: str, total: int, done: int) -> None:
        """Begin a stage."""
        self._what, self._total, self._done, self._num_reused = what, total, done, done
        self._started = self._last_line = time.monotonic()
        if self._bar is not None:
            self._task = self._bar.add_task(what, total=total, completed=done)
        else:
            self._say(f"{what}: {total} clips" + (f", {done} of them from an earlier run" if done else ""))

    def advance(self, num_clips: int) -> None:
        """Count clips as done."""
        self._done += num_clips
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, num_clips)
        elif (now := time.monotonic()) - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            rate = (self._done - self._num_reused) / (now - self._started)
            left_s = (self._total - self._done) / rate
            self._say(f"{self._what}: {self._done} of {self._total} clips, {rate:.1f} clips/s, {left_s:.0f} s left")

    def _say(self, text: str) -> None:
        if not self._is_quiet:
            click.echo(text, err=True)


def _build_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        """Clips a second."""

        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f} clips/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Bar(*columns, console=Console(stderr=True))


def _format_report(report: PrepareReport, seconds: float) -> str:
    manifest = report.manifest
    parts = ", ".join(f"{part} {counts.num_clips}" for part, counts in manifest.splits.items())
    lines = [f"skipped {clip.mp3_path}: {clip.reason}" for clip in manifest.skipped]
    if report.is_up_to_date:
        lines.append(f"{_short(report.records_dir)} is up to date, nothing to do: {report.summary}")
    else:
        lines.append(f"{report.summary} to {_short(report.records_dir)} in {seconds:.1f} s")
    lines.append(f"split {manifest.split.name}: {parts}; {len(manifest.tags)} tags; {manifest.split.rule}")
    return "\n".join(lines)


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
