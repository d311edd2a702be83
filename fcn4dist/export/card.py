"""The JSON card beside an exported file, FILE.json: all that a program must know to feed the network and to read its scores.

No MindSpore here: `fcn4dist tag` reads a card where only onnxruntime is installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from fcn4dist.config import MelConfig, ModelConfig
from fcn4dist.errors import CheckpointError
from fcn4dist.files import digest_file

CARD_VERSION = 1
Format = Literal["mindir", "onnx", "air", "safetensors"]
INPUT, OUTPUT = "mel_db", "scores"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Signature(_Record):
    """An input or output of the graph; dimensions that are free have a name."""

    name: str
    dtype: str
    shape: list[int | str]


class MelRules(_Record):
    """What `mel` leaves open, in words, for those who compute the spectrogram without fcn4dist (see data/mel.py)."""

    channels: str = "mean of all channels"
    resampling: str = "soxr_hq"
    clip: str = "shorter audio gets zeros at its end"
    window: str = "Hann, periodic, n_fft samples; frames centred on their instant, zeros beyond the ends"
    filters: str = "Slaney mel bands, 0 Hz to half the sample rate, area 1 (librosa.filters.mel)"
    decibels: str
    floor: str = "80 dB below the clip's own maximum"
    num_frames: int  # of a clip of mel.clip_s


class SplitCard(_Record):
    """How the training clips were chosen."""

    name: str
    clip_list_sha256: dict[str, str] = {}  # part -> checksum of its clip ids; empty where no manifest said


class Verification(_Record):
    """How the file was compared with its checkpoint."""

    max_difference: float  # of any score
    tolerance: float
    batches: list[int]
    num_frames: list[int]
    clips: str  # what was scored


class ExportCard(_Record):
    """The card of one exported file."""

    format_version: int = CARD_VERSION
    name: str  # checkpoint.prefix
    file: str
    format: Format
    file_sha256: str
    weights_sha256: str  # of the parameters, the same for every format: see export/weights.py
    input: Signature
    output: Signature
    min_frames: int  # fewer do not survive the pools
    model: ModelConfig
    mel: MelConfig
    mel_rules: MelRules
    tags: list[str]  # in the order of the scores
    thresholds: list[float | None] | None = None  # in the order of the tags; none: not known
    split: SplitCard
    metrics: dict[str, Any] | None = None  # evaluation.json of this checkpoint; none: not evaluated
    checkpoint: str
    config_digest: str | None = None
    versions: dict[str, str]
    verification: Verification | None = None  # none: cannot be run on the machine that wrote it (AIR)

    @model_validator(mode="after")
    def _thresholds_fit_tags(self) -> ExportCard:
        if self.thresholds is not None and len(self.thresholds) != len(self.tags):
            raise ValueError(f"{len(self.thresholds)} thresholds for {len(self.tags)} tags")
        return self


def decibel_rule(mel: MelConfig) -> str:
    """Return the formula of `mel.db` for the power mel p."""
    return "20 * log10(max(p, 1e-5))" if mel.db == "amplitude" else "10 * log10(max(p, 1e-10))"


def card_file(file: Path) -> Path:
    """Return where the card of an exported file stands: model.onnx has model.onnx.json."""
    return file.with_name(file.name + ".json")


def load_card(file: Path) -> ExportCard:
    """Read the card of the exported `file` and check that it is of this very file.

    Raises CheckpointError when the file or its card is missing, damaged, of another version or of another file.
    """
    card_path = card_file(file)
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; expected a checkpoint folder, an .onnx or a .mindir file")
    card = _check_card(_read_card(card_path, file), card_path)
    if (found := digest_file(file)) != card.file_sha256:
        raise CheckpointError(
            f"{file}: its SHA-256 begins with {found[:12]}, {card_path.name} is the card of {card.file_sha256[:12]}…: "
            "changed or replaced; export it again"
        )
    return card


def _read_card(card_path: Path, file: Path) -> dict[str, Any]:
    try:
        document: Any = json.loads(card_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{file}: no card beside it; expected {card_path.name}, which `fcn4dist export` writes: without it neither "
            "the tags nor the mel are known"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{card_path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{card_path}: not a card: {error}") from None
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != CARD_VERSION:
        raise CheckpointError(
            f"{card_path}: a card of format_version {version!r}; this fcn4dist reads {CARD_VERSION}; export the model again"
        )
    return dict(document)


def _check_card(document: dict[str, Any], card_path: Path) -> ExportCard:
    try:
        return ExportCard.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{card_path}: {place + ': ' if place else ''}{first['msg']}") from None
