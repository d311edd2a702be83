"""`fcn4dist config`: the config as it will be used, and ModelZoo's as ours."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fcn4dist.cli.options import AnyPath, config_options, json_option
from fcn4dist.config import RunConfig, format_config
from fcn4dist.errors import ConfigError, quoted
from fcn4dist.files import save_text


@click.group()
def config() -> None:
    """Show configs, and bring ModelZoo's along."""


@config.command()
@config_options
@json_option
def show(config: RunConfig, as_json: bool) -> None:
    """Print the resolved config: the defaults, then FILE, then each --set."""
    click.echo(json.dumps(config.model_dump(mode="json"), indent=2) if as_json else format_config(config), nl=as_json)


@config.command(name="import-modelzoo")
@click.argument("file", type=AnyPath)
@click.option("--output", type=AnyPath, metavar="FILE", help="Where to write (default: stdout).")
def import_modelzoo(file: Path, output: Path | None) -> None:
    """Turn ModelZoo's default_config.yaml, or its older config.py, into a config of ours.

    FILE is read, never executed. What happens to the keys that have no place here is told on stderr.
    """
    from fcn4dist.config.modelzoo_mapping import import_modelzoo as run
    from fcn4dist.config.modelzoo_show import format_notes, format_yaml

    imported = run(file)
    text = format_yaml(imported)
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            save_text(output, text)
        except (OSError, ValueError) as error:
            raise ConfigError(f"--output {quoted(str(output))}: {getattr(error, 'strerror', None) or error}") from None
    for line in format_notes(imported):
        click.echo(line, err=True)
