"""`fcn4dist export`: a trained network for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from fcn4dist.cli.launch import apply_options
from fcn4dist.cli.options import (
    AnyPath,
    Checkpoint,
    checkpoint_option,
    choice,
    config_options,
    data_option,
    device_target_option,
    json_option,
    output_option,
    verbosity_options,
)
from fcn4dist.config import RunConfig
from fcn4dist.errors import ConfigError, DeviceError
from fcn4dist.job.devices import Target, missing_for_ascend, require_mindspore, resolve_target
from fcn4dist.train.device import prepare_imports

if TYPE_CHECKING:
    from fcn4dist.export.card import ExportCard

Format = Literal["mindir", "onnx", "air", "safetensors"]
FORMATS: tuple[Format, ...] = ("mindir", "onnx", "air", "safetensors")


@click.command()
@click.argument("run", type=Checkpoint, required=False)
@checkpoint_option()
@click.option("--format", "file_format", type=choice(FORMATS), help="[default: what FILE's name ends in]")
@output_option("The file; its card is FILE.json.", required=True)
@data_option("the run's own; its clips are compared on")
@device_target_option
@click.option(
    "--clips", "num_clips", type=click.IntRange(min=7), default=7, show_default=True, help="How many to compare on."
)
@click.option(
    "--evaluation",
    type=AnyPath,
    metavar="FILE",
    help="evaluation.json for the card.  [default: the run's own]",
)
@config_options
@json_option
@verbosity_options
def export(
    run: Path | None,
    checkpoint: Path | None,
    file_format: Format | None,
    output: Path,
    data: Path | None,
    device_target: str | None,
    num_clips: int,
    evaluation: Path | None,
    config: RunConfig,
    as_json: bool,
) -> None:
    """Write a checkpoint as ONNX, MINDIR, AIR or safetensors, with a card that says what it is.

    RUN is the folder of a run (its best checkpoint) or of a checkpoint. --checkpoint is the same, and takes a file of ModelZoo's
    too.

    The graph takes log-mel clips of any number and length and gives scores, the sigmoid included. What was written is loaded
    again and compared with the checkpoint on real clips: a difference of 1e-5 or more fails, and nothing is left.
    """
    network = run or checkpoint
    if network is None or (run is not None and checkpoint is not None):
        raise click.UsageError("expected RUN, the folder of a run or a checkpoint; or --checkpoint C")
    config = apply_options(config, device_target=device_target)
    suffix = output.suffix.removeprefix(".")
    chosen = file_format or next((known for known in FORMATS if known == suffix), None)
    if chosen is None:
        raise ConfigError(f"--output {output}: expected a name that ends in .{', .'.join(FORMATS)}, or --format")
    require_mindspore()
    target = _target_of(chosen, config)
    if chosen == "air":
        click.echo(
            "AIR is deprecated by MindSpore; better: --format mindir, and MindSpore Lite's converter_lite", err=True
        )
    prepare_imports(target)
    from fcn4dist.export.pipeline import ExportRequest, export_checkpoint  # MindSpore loads here, not for --help

    card = export_checkpoint(ExportRequest(network, output, chosen, data, num_clips, evaluation), config, target)
    click.echo(card.model_dump_json(indent=2) if as_json else format_card(card, output, network))


def _target_of(file_format: Format, config: RunConfig) -> Target:
    """Return where the network runs; raises DeviceError for AIR without Ascend."""
    if file_format != "air":
        return resolve_target(config.launch.device_target)
    if missing := missing_for_ascend():
        raise DeviceError(
            "AIR files are written by CANN, on Ascend alone; use --format mindir or onnx here; missing for Ascend: "
            + "; ".join(missing)
        )
    return "Ascend"


def format_card(card: ExportCard, output: Path, checkpoint: Path) -> str:
    """Return what was written, of which checkpoint of what the user named, and how it was checked."""
    from fcn4dist.export.model_card import find_model_card
    from fcn4dist.run.best import describe_checkpoint

    size_mb = output.stat().st_size / 1e6
    lines = [
        f"{output}: {len(card.tags)} tags, {size_mb:.1f} MB; its card is {output.name}.json",
        f"checkpoint: {describe_checkpoint(checkpoint, card.checkpoint)}",
    ]
    check = card.verification
    if check is None:
        lines.append("not compared with the checkpoint: an .air file runs only where it was converted for a device")
    else:
        lines.append(
            f"scores differ from the checkpoint's by at most {check.max_difference:.1e} (allowed {check.tolerance:.0e}): "
            f"{check.clips}, batches of {_and(check.batches)}, {_and(check.num_frames)} frames"
        )
    if (model_card := find_model_card(output, card)) is not None:
        lines.append(f"model card: {model_card}, for people and the Hugging Face Hub; its license is yours to fill in")
    return "\n".join(lines)


def _and(numbers: list[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last
