"""`fcn4dist evaluate`: the figures of a checkpoint, of a file of scores, or of runs side by side."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    is_quiet,
    json_option,
    output_option,
    verbosity_options,
)
from fcn4dist.config import EvaluateConfig, RunConfig
from fcn4dist.errors import ConfigError
from fcn4dist.run.folder import RunDir

if TYPE_CHECKING:
    from fcn4dist.evaluate.document import Evaluation


@click.command()
@click.argument("run", type=Checkpoint, required=False)
@checkpoint_option()
@click.option(
    "--scores",
    "scores_path",
    type=AnyPath,
    metavar="S",
    help="Measure a run's scores (its best), or a scores.npz, anew.",
)
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    help="Compare two runs (their best), two files of scores, or two groups of either: a folder of runs, or RUN,RUN,...",
)
@data_option("the run's own")
@click.option("--split", type=choice(["train", "val", "test"]), help="Part to score.  [default: evaluate.split]")
@device_target_option
@click.option(
    "--thresholds", type=AnyPath, metavar="FILE", help="evaluation.json of val clips; found or made if not given."
)
@output_option("Where evaluation.json and scores.npz go.", metavar="DIR")
@config_options
@json_option
@verbosity_options
@click.pass_context
def evaluate(
    context: click.Context,
    run: Path | None,
    checkpoint: Path | None,
    scores_path: Path | None,
    compare: tuple[str, str] | None,
    data: Path | None,
    split: str | None,
    device_target: str | None,
    thresholds: Path | None,
    output: Path | None,
    config: RunConfig,
    as_json: bool,
) -> None:
    """Score a checkpoint on a part of a prepared data set, each clip exactly once.

    RUN is the folder of a run (its best checkpoint) or of a checkpoint; the data set is that of its run, unless --data names
    one. --checkpoint is the same, and takes a file of ModelZoo's too. Writes evaluation.json and scores.npz to --output;
    without it, prints the figures and writes nothing.

    --scores measures scores that a run or an earlier evaluation left; --compare tells whether the difference between two
    is real. Both need no MindSpore.
    """
    _check_modes(context.params)
    if compare is not None:
        _compare(compare, data, config.evaluate, as_json)
        return
    if output is not None:
        _make_output(output)
    from fcn4dist.run.best import describe_checkpoint

    source: str | None
    if scores_path is not None:
        evaluation, source, used = _measure(scores_path, data, split, thresholds, config.evaluate)
    else:
        network = run or checkpoint
        assert network is not None
        if data is None:
            data = find_data(network)
            if not is_quiet():
                click.echo(f"data: {data}, as the run's config says", err=True)
        config = apply_options(config, device_target=device_target)
        evaluation, source = _score(network, data, split or config.evaluate.split, thresholds, config)
        used = describe_checkpoint(network, Path(source).name)
    from fcn4dist.evaluate.document import EvaluationFiles, format_evaluation
    from fcn4dist.evaluate.text import tabulate_evaluation

    if output is not None:
        with _named(output):
            EvaluationFiles.in_folder(output).save(evaluation, source)
    if as_json:
        click.echo(json.dumps(format_evaluation(evaluation, source), indent=2))
    else:
        click.echo(f"checkpoint: {used}\n{tabulate_evaluation(evaluation)}")
    for warning in evaluation.about.warnings:
        click.echo(f"warning: {warning}", err=True)


def _check_modes(given: dict[str, Any]) -> None:
    """Raise UsageError unless the options make one of the three things that this command does."""
    modes = [name for name in ("run", "checkpoint", "scores_path", "compare") if given[name]]
    if len(modes) != 1:
        raise click.UsageError("expected one of RUN (or --checkpoint C), --scores S and --compare A B")
    odd = [name for name in ("split", "thresholds", "output") if given[name]]
    if given["compare"] and odd:
        raise click.UsageError(f"--{odd[0]} does not go with --compare")


def find_data(network: Path) -> Path:
    """Return the data set that the run of a checkpoint names.

    Raises CheckpointError where a folder is neither a run nor a checkpoint, ConfigError where no data set is known.
    """
    from fcn4dist.config import load_config
    from fcn4dist.run.best import resolve_checkpoint, run_of
    from fcn4dist.run.checkpoints import load_state

    run = run_of(network)
    if run is None or not run.config.is_file():
        if not network.is_file():
            load_state(resolve_checkpoint(network))
        raise ConfigError(
            f"{network}: of no run whose data set is known, so --data DIR is missing: what to score it on"
        )
    folder = load_config(run.config).data.records_dir
    if folder is None or not folder.is_dir():
        found = "names no data set" if folder is None else f"names {folder}, which is not there"
        raise ConfigError(f"{run.config}: {found}; give it with --data DIR")
    return folder


def _make_output(output: Path) -> None:
    """Make the folder, before the work. Raises ConfigError where nothing can be written there, or where it is a run."""
    with _named(output):
        if RunDir(output).config.is_file():  # its own evaluation.json and scores.npz would be lost
            raise ConfigError(f"--output {output}: a run, whose own evaluation would be lost; expected another folder")
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()


@contextmanager
def _named(output: Path) -> Iterator[None]:
    """Turn an OSError into a ConfigError that names --output."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror or error}") from None


def _score(
    checkpoint: Path, data_dir: Path, split: str, thresholds: Path | None, config: RunConfig
) -> tuple[Evaluation, str]:
    from fcn4dist.job.devices import resolve_target
    from fcn4dist.job.rank import SINGLE
    from fcn4dist.train.device import prepare_imports, start_device

    target = resolve_target(config.launch.device_target)
    prepare_imports(target)
    start_device(target, SINGLE.device, is_scoring=True)  # before the first parameter is read
    from fcn4dist.evaluate.of_checkpoint import evaluate_checkpoint  # MindSpore loads here, not for --help

    evaluation, folder = evaluate_checkpoint(checkpoint, data_dir, split, config, thresholds)
    return evaluation, str(folder)


def _measure(
    path: Path, data_dir: Path | None, split: str | None, thresholds: Path | None, config: EvaluateConfig
) -> tuple[Evaluation, str | None, str]:
    from fcn4dist.evaluate.document import load_score_source
    from fcn4dist.evaluate.evaluation import evaluate_scores
    from fcn4dist.evaluate.thresholds import load_thresholds

    source = load_score_source(path, data_dir)
    given = None if thresholds is None else load_thresholds(thresholds, source.tags)
    evaluation = evaluate_scores(
        source.scores, source.tags, source.describe(split), source.tracks, given, config.num_resamples, config.seed
    )
    checkpoint: Any = source.evaluation.document.get("checkpoint")
    return evaluation, checkpoint, f"{source.checkpoint} of {path}"


def _compare(names: tuple[str, str], data_dir: Path | None, config: EvaluateConfig, as_json: bool) -> None:
    from fcn4dist.evaluate.bootstrap import Resampling
    from fcn4dist.evaluate.compare import compare, format_comparison
    from fcn4dist.evaluate.compare_groups import compare_groups, format_groups
    from fcn4dist.evaluate.document import load_score_source

    a, b = ([load_score_source(path, data_dir) for path in list_group(name)] for name in names)
    if len(a) > 1 or len(b) > 1:
        groups = compare_groups(a, b)
        click.echo(json.dumps(groups.to_json(), indent=2) if as_json else format_groups(groups))
        return
    if config.num_resamples == 0:
        raise click.UsageError("evaluate.num_resamples is 0: a comparison needs resamples")
    found = compare(a[0], b[0], Resampling(config.num_resamples, config.seed))
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else format_comparison(found))


def list_group(name: str) -> list[Path]:
    """Return the runs or files that one side of --compare names: itself, those of a folder of runs, or a list with commas."""
    from fcn4dist.run.groups import find_runs

    paths = [Path(name)] if Path(name).exists() else [Path(word) for word in name.split(",") if word]
    return [run for path in paths or [Path(name)] for run in find_runs(path)]
