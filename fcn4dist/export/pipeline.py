"""The pipeline of `fcn4dist export`: write a checkpoint's network for other programs, and prove that it scores alike."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fcn4dist.config import RunConfig
from fcn4dist.errors import ConfigError
from fcn4dist.export.card import (
    INPUT,
    OUTPUT,
    ExportCard,
    Format,
    MelRules,
    Signature,
    Verification,
    card_file,
    decibel_rule,
)
from fcn4dist.export.graphs import MINDSPORE, write_air, write_mindir, write_onnx
from fcn4dist.export.mindspore_scorers import CheckpointScorer, MindirScorer
from fcn4dist.export.model_card import save_model_card
from fcn4dist.export.onnx_scorer import OnnxScorer
from fcn4dist.export.provenance import describe_split, find_evaluation, list_versions, load_thresholds, state_of
from fcn4dist.export.sample_clips import load_sample
from fcn4dist.export.scorer import Listener, Scorer
from fcn4dist.export.verify import BATCHES, check_scores_agree, plan_lengths
from fcn4dist.export.weights import digest_weights, load_safetensors, read_weights, write_safetensors
from fcn4dist.files import digest_file, save_json, sync_directory
from fcn4dist.job.devices import Target
from fcn4dist.job.rank import SINGLE
from fcn4dist.model.fcn4 import FCN4
from fcn4dist.model.trained import TrainedModel, open_model
from fcn4dist.train.device import start_device


@dataclass(frozen=True)
class ExportRequest:
    """What to export and where to."""

    checkpoint: Path
    output: Path
    format: Format
    data_dir: Path | None = None  # clips to compare on; none: those of the run
    num_clips: int = max(BATCHES)  # to compare on, at most
    evaluation: Path | None = None  # figures for the card; none: those of the run


def export_checkpoint(request: ExportRequest, config: RunConfig, target: Target) -> ExportCard:
    """Write request.output and its card, both whole or neither, and the model card; `target` is Ascend for AIR.

    The file is loaded again and compared with the checkpoint before it gets its name; AIR cannot be, and its card says so.
    Raises CheckpointError, ConfigError, DataError or DeviceError for what the user can mend, JobError when the scores differ.
    """
    check_output(request.output, request.format)
    start_device(target, SINGLE.device, is_scoring=True)
    model = open_model(request.checkpoint, config, request.data_dir)
    network = model.build_network()
    with written_beside(request.output) as temporary:
        file = temporary / f"model.{request.format}"
        _write(network, model, file, request.format)
        file.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)  # MindSpore leaves 0400
        verification = _verify(network, model, file, request) if request.format != "air" else None
        card = _describe(model, network, file, request, verification)
        save_json(card_file(file), card.model_dump(mode="json"))
    save_model_card(request.output, card)
    return card


def check_output(output: Path, file_format: Format) -> None:
    """Raise ConfigError where the file cannot stand there or its name would mislead."""
    if output.suffix != f".{file_format}":
        raise ConfigError(f"--output {output}: expected a name that ends in .{file_format}: readers go by it")
    try:
        output.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:  # a name that is too long, a parent that is a file
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from None
    if output.is_dir():
        raise ConfigError(f"--output {output}: is a folder; expected a file")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"--output {output}: no such folder: {output.parent}")


@contextlib.contextmanager
def written_beside(output: Path) -> Iterator[Path]:
    """Give a temporary folder beside `output`; the model and card left in it get their names at the end, if all went well.

    Raises ConfigError when the disk refuses.
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        file = temporary / f"model{output.suffix}"
        with file.open("rb") as written:
            os.fsync(written.fileno())
        card_file(output).unlink(missing_ok=True)  # a reader between the two renames finds no card, not a wrong one
        file.replace(output)
        card_file(file).replace(card_file(output))
        sync_directory(output.absolute().parent)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(network: FCN4, model: TrainedModel, file: Path, file_format: Format) -> None:
    mel = model.card.mel
    if file_format == "onnx":
        write_onnx(network, mel, file)
    elif file_format == "mindir":
        write_mindir(network, mel, file)
    elif file_format == "air":
        write_air(network, mel, file)
    else:
        write_safetensors(network, file)


def _verify(network: FCN4, model: TrainedModel, file: Path, request: ExportRequest) -> Verification:
    listener = Listener(model.card.mel, model.card.model, tuple(model.card.tags))
    found: Scorer
    if request.format == "onnx":
        found = OnnxScorer(file, listener)
    elif request.format == "mindir":
        found = MindirScorer(file, listener)
    else:
        again = FCN4(model.card.model, len(model.card.tags), model.card.mel.n_mels)
        load_safetensors(file, again)
        found = CheckpointScorer(again, listener, str(file))
    lengths = plan_lengths(model.card.mel, listener.min_frames)
    sample = load_sample(model, request.data_dir, request.num_clips, max(lengths))
    expected = CheckpointScorer(network, listener, str(model.path))
    return check_scores_agree(expected, found, sample, lengths, request.output)


def _describe(
    model: TrainedModel, network: FCN4, file: Path, request: ExportRequest, verification: Verification | None
) -> ExportCard:
    card, state = model.card, state_of(model)
    evaluation = find_evaluation(model, request.evaluation)
    is_free = request.format != "air"  # batch and length
    shape: list[int | str] = (
        ["batch", 1, card.mel.n_mels, "frames"] if is_free else [1, 1, card.mel.n_mels, card.mel.num_frames]
    )
    thresholds = load_thresholds(model, evaluation)
    return ExportCard(
        name=card.name,
        file=request.output.name,
        format=request.format,
        file_sha256=digest_file(file),
        weights_sha256=digest_weights(read_weights(network)),
        input=Signature(name=INPUT, dtype="float32", shape=shape),
        output=Signature(name=OUTPUT, dtype="float32", shape=["batch" if is_free else 1, len(card.tags)]),
        min_frames=Listener(card.mel, card.model, ()).min_frames,
        model=card.model,
        mel=card.mel,
        mel_rules=MelRules(decibels=decibel_rule(card.mel), num_frames=card.mel.num_frames),
        tags=card.tags,
        thresholds=None if thresholds is None else list(thresholds),
        split=describe_split(model, state),
        metrics=None if evaluation is None else {k: v for k, v in evaluation.items() if k != "checkpoint"},
        checkpoint=model.path.name,
        config_digest=None if state is None else state.config_digest,
        versions=list_versions(state, MINDSPORE),
        verification=verification,
    )
