"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fcn4dist.cli.main import set_log_level

if TYPE_CHECKING:
    from fcn4dist.config import RunConfig


AnyPath = click.Path(path_type=Path)
FilePath = click.Path(path_type=Path, dir_okay=False)
Folder = click.Path(path_type=Path, file_okay=False)


def config_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config and --set; the command receives the checked value as `config`."""

    @click.option("--config", "config_file", type=AnyPath, metavar="FILE", help="YAML config.")
    @click.option(
        "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one key; repeatable."
    )
    @wraps(function)
    def with_config(*args: Any, config_file: Path | None, overrides: tuple[str, ...], **kwargs: Any) -> Any:
        from fcn4dist.config import load_config  # pydantic loads here, not for commands without a config

        config: RunConfig = load_config(config_file, overrides)
        return function(*args, config=config, **kwargs)

    return with_config


def is_demo(context: click.Context, config: RunConfig) -> bool:
    """Return whether the command is about the embedded demo set: asked for, or nothing was given that speaks of data or network.

    `config` is the one after the command's own options, so that --data counts.
    """
    from fcn4dist.data.source import says_nothing_of_data

    given = context.params
    return given["demo"] or (given["config_file"] is None and says_nothing_of_data(config))


def verbosity_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add -v and -q and set the level of the log."""

    @click.option("-v", "--verbose", count=True, help="Log more; repeatable.")
    @click.option("-q", "--quiet", is_flag=True, help="Log errors only.")
    @wraps(function)
    def with_verbosity(*args: Any, verbose: int, quiet: bool, **kwargs: Any) -> Any:
        set_log_level(-1 if quiet else verbose)
        return function(*args, **kwargs)

    return with_verbosity


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
device_target_option = click.option(
    "--device-target", type=click.Choice(["auto", "Ascend", "CPU"]), help="[default: launch.device_target]"
)
data_option = click.option("--data", type=Folder, metavar="DIR", help="Prepared data set.  [default: data.records_dir]")
demo_option = click.option(
    "--demo", is_flag=True, help="Use the embedded demo set, as without --config, --data, data.* and model.*"
)
run_dir_option = click.option(
    "--run-dir", type=Folder, metavar="DIR", help="Where the run is written.  [default: runs/<date-time>]"
)
resume_option = click.option(
    "--resume", type=Folder, metavar="RUN_DIR", help="Continue this run from its last checkpoint."
)
force_option = click.option("--force", is_flag=True, help="With --resume: go on although the config differs.")
