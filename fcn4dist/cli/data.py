"""`fcn4dist data`: splits before the work, statistics after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fcn4dist.cli.completion import complete_split
from fcn4dist.cli.main import Group
from fcn4dist.cli.options import AnyPath, FilePath, config_options, json_option, picture_option, verbosity_options
from fcn4dist.config import RunConfig, override_config


@click.group(cls=Group)
def data() -> None:
    """Show what a split or a prepared data set holds."""


@data.command()
@click.option(
    "--annotations",
    type=AnyPath,
    metavar="PLACE",
    help="Annotations: a table, or the file or folder of a known set.",
)
@click.option("--format", "format_", metavar="NAME", help="As data.format; by default the file's own header says it.")
@click.option(
    "--split",
    metavar="NAME",
    shell_complete=complete_split,
    help="As data.split: folder-12-1-3, official, random-by-track, folds:FILE:VAL ...",
)
@click.option("--clean", is_flag=True, help="Leave out clips that have none of the tags (data.tags).")
@click.option("--seed", type=int, help="Of the random splits.")
@config_options
@json_option
@verbosity_options
def splits(
    config: RunConfig,
    annotations: Path | None,
    format_: str | None,
    split: str | None,
    clean: bool,
    seed: int | None,
    as_json: bool,
) -> None:
    """Count the parts of a split, and what they share, without touching audio.

    A table may be a list of clip_id and mp3_path alone, unless --clean asks for tags. Tracks, albums and artists are those
    that the annotations name; a warning says where clips of one track stand in several parts.
    """
    from fcn4dist.data.split_report import format_split_report, report_split

    options = {"annotations": annotations, "format": format_, "split": split, "clean": clean or None, "seed": seed}
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    report = report_split(override_config(config, data=given).data)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else format_split_report(report))


@data.command()
@click.argument("folder", metavar="DATA", type=AnyPath)
@picture_option
@click.option("--output", "old_picture", type=FilePath, hidden=True)  # its name before 0.2
@json_option
@verbosity_options
def stats(folder: Path, picture: Path | None, old_picture: Path | None, as_json: bool) -> None:
    """Show what a prepared data set holds: clips, tags a part, co-occurrence, durations, skipped clips, leaks."""
    from fcn4dist.data.stats import collect_stats, format_stats

    picture = picture or old_picture
    if picture is not None:
        from fcn4dist.report.data_picture import check_picture_file, save_data_picture

        check_picture_file(picture)
    found = collect_stats(folder)
    if picture is not None:
        save_data_picture(found, picture)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        click.echo(format_stats(found))
        if picture is not None:
            click.echo(f"picture: {picture}")
