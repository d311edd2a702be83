"""`fcn4dist evaluate`: the figures of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fcn4dist.cli.options import config_options, json_option, verbosity_options
from fcn4dist.cluster.devices import resolve_target
from fcn4dist.config import RunConfig
from fcn4dist.train.runtime import prepare_imports


@click.command()
@click.option(
    "--checkpoint",
    required=True,
    type=click.Path(path_type=Path),
    metavar="C",
    help="Checkpoint folder, a run (its best), or ModelZoo's .ckpt.",
)
@click.option(
    "--data", "data_dir", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Prepared data set."
)
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Part to score; evaluate.split by default.")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where evaluation.json and scores.npz go."
)
@config_options
@json_option
@verbosity_options
def evaluate(
    checkpoint: Path, data_dir: Path, split: str | None, output: Path | None, config: RunConfig, as_json: bool
) -> None:
    """Score a checkpoint on a part of a prepared data set, each clip exactly once.

    Writes evaluation.json and scores.npz to --output; without it, prints the figures and writes nothing.
    """
    target = resolve_target(config.launch.device_target)
    prepare_imports(target)
    from fcn4dist.evaluate.evaluation import format_evaluation, save_evaluation
    from fcn4dist.evaluate_checkpoint import evaluate_checkpoint  # MindSpore loads here, not for --help

    evaluation, folder = evaluate_checkpoint(checkpoint, data_dir, split or config.evaluate.split, config, target)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        save_evaluation(evaluation, output / "evaluation.json", output / "scores.npz", checkpoint=str(folder))
    if as_json:
        click.echo(json.dumps(format_evaluation(evaluation, str(folder)), indent=2))
    else:
        click.echo(evaluation.summary)
        for tag in evaluation.metrics.tags:
            figures = "undefined" if tag.roc_auc is None else f"ROC-AUC {tag.roc_auc:.4f}  PR-AUC {tag.pr_auc:.4f}"
            click.echo(f"  {tag.tag:24} {tag.positives:6d} positives  {figures}")
