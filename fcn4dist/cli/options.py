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


def config_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config and --set; the command receives the checked value as `config`."""

    @click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="YAML config.")
    @click.option(
        "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one key; repeatable."
    )
    @wraps(function)
    def with_config(*args: Any, config_file: Path | None, overrides: tuple[str, ...], **kwargs: Any) -> Any:
        from fcn4dist.config import load_config  # pydantic loads here, not for commands without a config

        config: RunConfig = load_config(config_file, overrides)
        return function(*args, config=config, **kwargs)

    return with_config


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
