"""`fcn4dist tune`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click

from fcn4dist.cli.launch import apply_options
from fcn4dist.cli.options import (
    config_options,
    data_option,
    device_target_option,
    force_option,
    json_option,
    output_option,
    verbosity_options,
)
from fcn4dist.config import RunConfig
from fcn4dist.errors import ConfigError


@click.command()
@device_target_option
@data_option("data.records_dir")
@click.option("--amp", "levels", metavar="LEVELS", default="O0,O2", help="AMP levels to try.  [default: O0,O2]")
@click.option(
    "--batch", "batches", metavar="N,N,...", help="Clips at once.  [default: a rank's clips, a half, a quarter]"
)
@click.option(
    "--first-block", "blocks", metavar="FORMS", default="plain,pooled", help="plain, pooled.  [default: plain,pooled]"
)
@click.option("--steps", type=click.IntRange(2), default=10, metavar="N", help="Measured steps a form.  [default: 10]")
@click.option(
    "--seconds", type=click.FloatRange(0), default=20.0, metavar="S", help="No step more after S.  [default: 20]"
)
@click.option(
    "--limit", type=click.FloatRange(1), default=1800.0, metavar="S", help="For one form in all.  [default: 1800]"
)
@output_option("Write the config in the fastest form.")
@force_option("replace the file of --output")
@json_option
@config_options
@verbosity_options
def tune(
    config: RunConfig,
    device_target: str | None,
    data: Path | None,
    levels: str,
    batches: str | None,
    blocks: str,
    output: Path | None,
    force: bool,
    as_json: bool,
    **limits: float,
) -> None:
    """Measure the training step on one device of this machine in its forms, and write the fastest as a config.

    A form is an AMP level, the clips that the device takes at once (train.device_batch) and the first block
    (model.first_block). Each is measured in a process of its own: one that does not fit, or crashes, is a line of the table.
    A step has the clips that a rank of `launch` with the same config has; no peers, so no allreduce. Exit codes: 0 done,
    1 no form could be measured, 2 the input is wrong.
    """
    from fcn4dist.launch.tune import (
        BLOCKS,
        HEADER,
        LEVELS,
        Tuning,
        check_output,
        describe,
        find_fastest,
        format_row,
        measure_forms,
        plan_forms,
        plan_tuning,
        save_tuned,
    )

    if output is not None:
        check_output(output, force=force)
    wanted = Tuning(
        amp=_chosen("--amp", levels, LEVELS),
        device_batch=[] if batches is None else _numbers(batches),
        first_block=_chosen("--first-block", blocks, BLOCKS),
        steps=int(limits["steps"]),
        seconds=limits["seconds"],
        limit_s=limits["limit"],
    )
    config = apply_options(config, None, device_target, data)
    trial = plan_tuning(config, wanted)
    forms = plan_forms(trial)
    click.echo(trial.headline(len(forms)), file=sys.stderr if as_json else None)
    if not as_json:
        click.echo(HEADER)
    measured = []
    for one in measure_forms(trial, forms):
        measured.append(one)
        click.echo(format_row(one), file=sys.stderr if as_json else None)
    if as_json:
        click.echo(json.dumps(describe(trial, measured, output), indent=2))
    fastest = find_fastest(measured)
    if output is not None:
        save_tuned(output, config, trial, fastest)
    if not as_json:
        words = fastest.form.overrides()
        where = f"; written: {output}" if output else ": " + " ".join(f"--set {shlex.quote(word)}" for word in words)
        click.echo(f"fastest: {fastest.form}, {fastest.clips_per_s:.1f} clips/s{where}")


def _chosen(option: str, text: str, allowed: tuple[str, ...]) -> list[str]:
    words = list(dict.fromkeys(word.strip() for word in text.split(",")))
    if unknown := [word for word in words if word not in allowed]:
        raise ConfigError(f"{option} {text}: {unknown[0]!r} is none of {', '.join(allowed)}")
    return words


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise ConfigError(f"--batch {text}: expected numbers of clips such as 32,16,8")
    return list(dict.fromkeys(numbers))
