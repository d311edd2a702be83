"""The folder of a checkpoint and the proof that it is whole; without MindSpore, so that the launcher can look too.

    checkpoints/step-00000120/weights.safetensors     the network's parameters, under ModelZoo's names
                              optimizer.safetensors   moments, the loss scale and its counter; with train.ema_decay the
                                                      trained weights too: weights.safetensors has their average then
                              state.json              where the run stands, what the network is, a SHA-256 a file
    checkpoints/latest, checkpoints/best              the name of one folder
    checkpoints/evaluated                             which of them have been evaluated since, and the best until then

A folder is never changed once it is there. state.json proves itself too: its `state_sha256` is the digest of all its other
keys, and its text is exactly what `format_state` writes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from fcn4dist.config import MelConfig, ModelConfig
from fcn4dist.errors import CheckpointError
from fcn4dist.files import digest_file, save_json

FORMAT_VERSION = 2
UNPROVEN_VERSION = 1  # without state_sha256; still read
STATE = "state.json"
EVALUATED = "evaluated"
PROOF = "state_sha256"
EXPECTED = (
    "expected a checkpoint folder such as RUN/checkpoints/step-00000120, a run, or a file: .ckpt, .onnx or .mindir"
)
STEP_FOLDER = re.compile(r"step-(\d{8,})")
HIDDEN = (".step-*.tmp", ".step-*.old")  # half-written, and on their way out


class NewerFormatError(CheckpointError):
    """A whole checkpoint of a newer fcn4dist: going on from an older one would throw its work away."""


class ModelCard(BaseModel):
    """What is needed to build the network of a checkpoint and to feed it."""

    model_config = ConfigDict(frozen=True)

    name: str  # checkpoint.prefix
    model: ModelConfig
    mel: MelConfig
    tags: list[str]  # in the order of the outputs
    split_name: str  # how its training clips were chosen
    clip_list_sha256: dict[str, str] = {}  # of each part of the split: see data/manifest.py; empty without a manifest


class Progress(BaseModel):
    """Where a run stands; with the weights, all that a resumed run needs."""

    model_config = ConfigDict(frozen=True)

    step: int = 0  # finished steps
    epoch: int = 0  # 0-based epoch of the next step
    cursor: int = 0  # clips of that epoch that are used up
    global_batch: int
    seed: int
    num_overflows: int = 0
    best_score: float | None = None  # highest validation ROC-AUC so far
    best_step: int | None = None
    best_epoch: int = 0  # finished epochs when that score was first reached
    evaluated_epoch: int = 0  # and at the last one
    num_reductions: int = 0  # of the learning rate, under train.schedule plateau
    reduced_epoch: int = 0  # finished epochs at the last of them
    overflows_in_row: int = 0
    diverged_in_row: int = 0  # steps in a row with an exploding or no loss
    is_evaluated: bool = (
        True  # whether the evaluation that was due after `step` is done; of a checkpoint: when it was saved
    )

    def is_stopped_early(self, patience: int | None) -> bool:
        """Return whether `patience` epochs (train.early_stop_epochs) brought no better score, by the last evaluation."""
        return patience is not None and self.evaluated_epoch - self.best_epoch >= patience


class Best(BaseModel):
    """What an evaluation decides: the best of a run until then, and what follows from it. Keys of `Progress`."""

    model_config = ConfigDict(frozen=True)

    best_score: float | None
    best_step: int | None
    best_epoch: int = 0
    evaluated_epoch: int = 0
    num_reductions: int = 0
    reduced_epoch: int = 0


class Origin(BaseModel):
    """Which run a checkpoint is of, so that another one is not continued by mistake."""

    model_config = ConfigDict(frozen=True)

    train_clips: str | None = None  # see data/identity.py
    steps_per_epoch: int | None = None
    world_size: int | None = None


class State(BaseModel):
    """state.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    fcn4dist: str
    mindspore: str
    config_digest: str
    card: ModelCard
    progress: Progress
    origin: Origin = Origin()
    sha256: dict[str, str]


def format_state(state: State) -> str:
    """Return the text of state.json, its own proof included."""
    document = state.model_dump(mode="json")
    return _as_text({**document, PROOF: _prove(document)})


def _as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _prove(document: dict[str, Any]) -> str:
    values = {key: value for key, value in document.items() if key != PROOF}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def step_name(step: int) -> str:
    """Return the folder name of a step: "step-00000120"."""
    return f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint folders, oldest first; unfinished ones have other names."""
    found = [path for path in folder.glob("step-*") if STEP_FOLDER.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run has written a checkpoint, whole or not: a new run has none, so what has one is resumed."""
    return bool(list_checkpoints(folder))


def named(folder: Path, pointer: str) -> Path | None:
    """Return the checkpoint that the file `latest` or `best` names; none where there is no such file.

    Raises CheckpointError when the file is there and cannot be read.
    """
    file = folder / pointer
    try:
        return folder / file.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise  # one message for all commands: cli/main.py
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{file}: cannot be read: {reason}; expected the name of a checkpoint folder") from None


def find_newest(folder: Path) -> tuple[Path, State, list[str]]:
    """Return the newest checkpoint that proves whole, its state, and a line for each newer one that did not.

    The state's progress knows of an evaluation that was made after the checkpoint was saved. Raises CheckpointError when none
    is whole, and when the newest whole one is of a newer format.
    """
    damaged: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            state = load_state(path)
        except NewerFormatError:
            raise
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        best = load_evaluated(folder).get(path.name)
        if best is not None:
            progress = state.progress.model_copy(update={"is_evaluated": True, **dict(best)})
            state = state.model_copy(update={"progress": progress})
        return path, state, damaged
    detail = "\n".join(damaged)
    raise CheckpointError(f"{folder}: no whole checkpoint here{': ' if detail else ''}{detail}")


def load_evaluated(folder: Path) -> dict[str, Best]:
    """Return checkpoint -> the best until its evaluation; nothing where it cannot be read: evaluating again does no harm."""
    try:
        return TypeAdapter(dict[str, Best]).validate_json((folder / EVALUATED).read_bytes())
    except (OSError, ValueError):
        return {}


def save_evaluated(folder: Path, evaluated: dict[str, Best]) -> None:
    """Note which checkpoints have been evaluated, without those that are gone. Raises OSError."""
    kept = {name: best.model_dump() for name, best in evaluated.items() if (folder / name).is_dir()}
    save_json(folder / EVALUATED, kept)


def load_state(path: Path) -> State:
    """Read state.json of the checkpoint folder `path` and prove it and the other files by their digests.

    Raises CheckpointError naming the file and what is wrong with it.
    """
    file = path / STATE
    state = _check_document(_read_document(file), file)
    if STEP_FOLDER.fullmatch(path.name) and path.name != step_name(state.progress.step):
        raise CheckpointError(f"{file}: of step {state.progress.step}, in a folder of another name")
    for name, expected in state.sha256.items():
        member = path / name
        _refuse_pipe(member)
        try:
            found = digest_file(member)
        except FileNotFoundError:
            raise CheckpointError(f"{member}: missing; {STATE} lists it") from None
        except OSError as error:
            raise CheckpointError(f"{member}: cannot be read: {error.strerror}") from None
        if found != expected:
            raise CheckpointError(f"{member}: damaged: its SHA-256 is not the one in {STATE}")
    return state


def _refuse_pipe(file: Path) -> None:
    if file.is_fifo():  # reading would wait for ever
        raise CheckpointError(f"{file}: a pipe; expected a file")


def _read_document(file: Path) -> dict[str, Any]:
    """Return the document of state.json once its text proves to be what was written."""
    _refuse_pipe(file)
    try:
        text = file.read_bytes().decode("utf-8")
        document: Any = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        found = "holds no checkpoint" if file.parent.is_dir() else "no such file or folder"
        raise CheckpointError(f"{file.parent}: {found}; {EXPECTED}") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}; {EXPECTED}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: damaged: {error}") from None
    version = document.get("format_version") if isinstance(document, dict) else None
    if version == UNPROVEN_VERSION and PROOF not in document:
        return dict(document)
    if not isinstance(version, int) or document.get(PROOF) != _prove(document) or text != _as_text(document):
        raise CheckpointError(f"{file}: damaged: its {PROOF} is not the digest of what it says")
    if version != FORMAT_VERSION:
        raise NewerFormatError(
            f"{file}: format_version {version}; this fcn4dist reads {FORMAT_VERSION}; use a newer one"
        )
    return dict(document)


def _check_document(document: dict[str, Any], file: Path) -> State:
    try:
        state = State.model_validate({key: value for key, value in document.items() if key != PROOF})
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if not state.sha256:
        raise CheckpointError(f"{file}: lists no file")
    return state


def remove_checkpoint(path: Path) -> None:
    """Take a checkpoint away; what is cut off half-way has a hidden name and does not count as one."""
    hidden = path.with_name(f".{path.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a writer that was killed left half-done; only while no other writer is at work."""
    for pattern in HIDDEN:
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)
