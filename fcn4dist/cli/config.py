"""`fcn4dist config`: the config as it will be used."""

from __future__ import annotations

import json

import click

from fcn4dist.cli.options import config_options, json_option
from fcn4dist.config import RunConfig, format_config


@click.group()
def config() -> None:
    """Show configs."""


@config.command()
@config_options
@json_option
def show(config: RunConfig, as_json: bool) -> None:
    """Print the resolved config: the defaults, then FILE, then each --set."""
    click.echo(json.dumps(config.model_dump(mode="json"), indent=2) if as_json else format_config(config), nl=as_json)
