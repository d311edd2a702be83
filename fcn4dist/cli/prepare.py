"""`fcn4dist prepare`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fcn4dist.cli.options import AnyPath, config_options, force_option, output_option, verbosity_options
from fcn4dist.cli.progress_bar import ConsoleProgress
from fcn4dist.config import RunConfig, override_config

if TYPE_CHECKING:
    from fcn4dist.data.prepare import PrepareReport

MOST_LINES = 20  # of skipped and of noted clips in print


@click.command()
@config_options
@click.option("--audio-dir", type=AnyPath, metavar="DIR", help="Folder that mp3_path starts from.")
@click.option("--npy-dir", type=AnyPath, metavar="DIR", help="Folder of .npy mels of ModelZoo's get_npy, instead.")
@click.option(
    "--annotations", type=AnyPath, metavar="PLACE", help="Annotations of the clips: a table, or a set's own files."
)
@output_option("Folder to create for the shards and the manifest.  [default: data.records_dir]", metavar="DIR")
@force_option("replace a data set that prepare made from other inputs")
@click.option("--workers", type=click.IntRange(min=0), metavar="N", help="Processes; 0: one a core.")
@verbosity_options
def prepare(
    config: RunConfig,
    audio_dir: Path | None,
    npy_dir: Path | None,
    annotations: Path | None,
    output: Path | None,
    force: bool,
    workers: int | None,
) -> None:
    """Turn audio and annotations into MindRecord shards.

    Run again after an interruption, it goes on where it was.
    """
    from fcn4dist.data.prepare import prepare as run

    options: dict[str, Any] = {"audio_dir": audio_dir, "npy_dir": npy_dir, "annotations": annotations}
    options |= {"records_dir": output, "num_workers": workers}
    given = {key: value for key, value in options.items() if value is not None}
    config = override_config(config, data=given)
    is_quiet = bool(click.get_current_context().params.get("quiet"))
    started = time.monotonic()
    with ConsoleProgress(is_quiet) as progress:
        report = run(config, force=force, progress=progress)
    if not is_quiet:
        click.echo(_format_report(report, time.monotonic() - started))


def _format_report(report: PrepareReport, seconds: float) -> str:
    from fcn4dist.data.leaks import format_leaks, warn_of_leaks

    manifest, folder = report.manifest, report.data.path
    parts = ", ".join(f"{part} {counts.num_clips}" for part, counts in manifest.splits.items())
    lines = _list_some([f"skipped {clip.mp3_path}: {clip.reason}" for clip in manifest.skipped])
    lines += _list_some([f"noted {clip.mp3_path}: {clip.reason}" for clip in manifest.noted])
    if report.is_up_to_date:
        lines.append(f"{_short(folder)} is up to date, nothing to do: {report.summary}")
    else:
        lines.append(f"{report.summary} to {_short(folder)} in {seconds:.1f} s")
    lines.append(f"split {manifest.split.name}: {parts}; {len(manifest.tags)} tags; {manifest.split.rule}")
    if manifest.leaks is not None:
        lines += format_leaks(manifest.leaks)
        lines += [f"warning: {warning}" for warning in warn_of_leaks(manifest.leaks)]
    if (note := report.data.length_note) is not None:
        lines.append(f"note: {note}")
    return "\n".join(lines)


def _list_some(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - MOST_LINES} more such clips; manifest.json has them all"]
    return lines if len(lines) <= MOST_LINES else lines[:MOST_LINES] + more


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
