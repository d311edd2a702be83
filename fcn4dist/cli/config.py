"""`fcn4dist config`: the config as it will be used, and ModelZoo's as ours."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fcn4dist.cli.main import Group
from fcn4dist.cli.options import AnyPath, config_options, is_quiet, json_option, output_option, verbosity_options
from fcn4dist.config import RunConfig, format_config
from fcn4dist.errors import ConfigError, quoted
from fcn4dist.files import save_text


@click.group(cls=Group)
def config() -> None:
    """Show configs and their keys, and bring ModelZoo's along."""


@config.command()
@config_options
@json_option
@verbosity_options
def show(config: RunConfig, as_json: bool) -> None:
    """Print the resolved config: the defaults, then FILE, then each --set."""
    click.echo(json.dumps(config.model_dump(mode="json"), indent=2) if as_json else format_config(config), nl=as_json)


@config.command()
@click.argument("words", nargs=-1, metavar="[WORD...]")
@json_option
@click.option("--markdown", is_flag=True, help="Print docs/configuration.md.")
@verbosity_options
def keys(words: tuple[str, ...], as_json: bool, markdown: bool) -> None:
    """List every key with its default, its type and one line; with WORDs, those that have one in name or line."""
    from fcn4dist.config.keys import format_keys, format_markdown, list_keys, to_json

    if as_json and markdown:
        raise click.UsageError("--json and --markdown: one of them")
    found = [key for key in list_keys() if not words or any(word.lower() in key.text for word in words)]
    if not found:
        raise ConfigError(
            f"no key has {' or '.join(map(quoted, words))} in its name or line; `fcn4dist config keys` lists all"
        )
    if as_json:
        click.echo(json.dumps(to_json(found), indent=2))
    else:
        click.echo(format_markdown(found).rstrip("\n") if markdown else format_keys(found))


@config.command(name="import-modelzoo")
@click.argument("file", type=AnyPath)
@output_option("Where to write.  [default: stdout]")
@verbosity_options
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
    for line in () if is_quiet() else format_notes(imported):
        click.echo(line, err=True)
